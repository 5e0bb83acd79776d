package main

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// push uploads the image under one tag and returns its name by digest. It logs in as `docker login`
// left it. A tag that is taken by other bytes stays as it is: whoever runs v0.1.0 today gets the
// same tomorrow.
func push(dir, to string) (string, error) {
	if dir == "" || to == "" {
		return "", errors.New("push needs -layout and -to")
	}
	tag, err := name.NewTag(to, name.StrictValidation)
	if err != nil {
		return "", err
	}
	index, err := indexOf(dir)
	if err != nil {
		return "", err
	}
	digest, err := index.Digest()
	if err != nil {
		return "", err
	}
	options := []remote.Option{remote.WithAuthFromKeychain(authn.DefaultKeychain)}
	switch old, err := remote.Head(tag, options...); {
	case err == nil && old.Digest != digest:
		return "", fmt.Errorf("%s is there already, as %s, and this is %s: take another version", to, old.Digest, digest)
	case err != nil && !isAbsent(err):
		return "", err
	}
	if err := remote.WriteIndex(tag, index, options...); err != nil {
		return "", err
	}
	return tag.Context().Digest(digest.String()).String(), nil
}

// isAbsent: a registry answers 404 for what it does not have, and ghcr.io 403 for a name that it
// has never had. Where 403 means that we may not write, writing fails too.
func isAbsent(err error) bool {
	refused, ok := errors.AsType[*transport.Error](err)
	return ok && (refused.StatusCode == http.StatusNotFound || refused.StatusCode == http.StatusForbidden)
}
