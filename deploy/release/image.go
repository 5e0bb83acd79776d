package main

import (
	"bytes"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

const (
	home      = "https://" + module
	imageName = "ghcr.io/mcpbouncer/mcpbouncer"
	// certificates is where Go's crypto/x509 looks first on Linux.
	certificates = "etc/ssl/certs/ca-certificates.crt"
)

// imageOf is a platform and the program that its image holds.
type imageOf struct {
	platform platform
	file     string
}

// image writes an OCI layout with one index, and says its digest. There is no shell, no package
// manager and nothing to write to: a layer of certificates, which changes seldom, and one with the
// program.
func (r *release) image(dir string, images []imageOf) (string, error) {
	roots, err := r.layer([]entry{{"etc/", 0o755, nil}, {"etc/ssl/", 0o755, nil}, {"etc/ssl/certs/", 0o755, nil}, {certificates, 0o644, authorities()}}, time.Unix(0, 0))
	if err != nil {
		return "", err
	}
	index := v1.ImageIndex(mutate.IndexMediaType(empty.Index, types.OCIImageIndex))
	for _, i := range images {
		content, err := os.ReadFile(i.file)
		if err != nil {
			return "", err
		}
		binary, err := r.layer([]entry{{program, 0o755, content}}, r.created)
		if err != nil {
			return "", err
		}
		image, err := r.imageFor(i.platform, roots, binary)
		if err != nil {
			return "", err
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add:        image,
			Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: i.platform.os, Architecture: i.platform.arch}},
		})
	}
	index = mutate.Annotations(index, r.labels()).(v1.ImageIndex)
	digest, err := index.Digest()
	if err != nil {
		return "", err
	}
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		return "", err
	}
	return digest.String(), path.AppendIndex(index, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": r.version}))
}

func (r *release) layer(entries []entry, at time.Time) (v1.Layer, error) {
	var content bytes.Buffer
	if err := writeTar(&content, at, entries); err != nil {
		return nil, err
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content.Bytes())), nil }
	return tarball.LayerFromOpener(open, tarball.WithMediaType(types.OCILayer), tarball.WithCompressionLevel(9))
}

func (r *release) imageFor(p platform, roots, binary v1.Layer) (v1.Image, error) {
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	at := v1.Time{Time: r.created}
	image, err := mutate.Append(image,
		mutate.Addendum{Layer: roots, History: v1.History{Created: at, CreatedBy: "certificates of public authorities"}},
		mutate.Addendum{Layer: binary, History: v1.History{Created: at, CreatedBy: program + " " + r.version}},
	)
	if err != nil {
		return nil, err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Created = p.os, p.arch, at
	config.Config = v1.Config{
		User:         "65532:65532", // a number, so that Kubernetes' runAsNonRoot believes it
		ExposedPorts: map[string]struct{}{"8080/tcp": {}},
		Entrypoint:   []string{"/" + program},
		Cmd:          []string{"serve"},
		// Docker runs it; Kubernetes and Podman have probes of their own.
		Healthcheck: &v1.HealthConfig{Test: []string{"CMD", "/" + program, "healthcheck"}, Interval: 10 * time.Second, Timeout: 4 * time.Second},
		Labels:      r.labels(),
	}
	return mutate.ConfigFile(image, config)
}

func (r *release) labels() map[string]string {
	labels := map[string]string{
		"org.opencontainers.image.title":         "MCPBouncer",
		"org.opencontainers.image.description":   "OAuth 2.1 for any MCP server behind Traefik, by labels, with no database: the sidecar.",
		"org.opencontainers.image.url":           home,
		"org.opencontainers.image.source":        home,
		"org.opencontainers.image.documentation": home + "/blob/" + r.version + "/README.md",
		"org.opencontainers.image.licenses":      "MIT",
		"org.opencontainers.image.version":       r.version,
		"org.opencontainers.image.created":       r.created.Format(time.RFC3339),
	}
	if r.revision != "" {
		labels["org.opencontainers.image.revision"] = r.revision
	}
	return labels
}

// authorities are the certificates that Mozilla trusts for servers, in PEM. One that is trusted
// only for what it signed until some day is left out: a file cannot say that day.
func authorities() []byte {
	var text bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint == nil {
			pem.Encode(&text, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate})
		}
	}
	return text.Bytes()
}

// indexOf is the one index of a layout that image has written.
func indexOf(dir string) (v1.ImageIndex, error) {
	outer, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return nil, err
	}
	manifest, err := outer.IndexManifest()
	if err != nil {
		return nil, err
	}
	if len(manifest.Manifests) != 1 {
		return nil, fmt.Errorf("%s has %d entries, want one index", dir, len(manifest.Manifests))
	}
	return outer.ImageIndex(manifest.Manifests[0].Digest)
}
