//go:build go1.21

package plugin

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
)

// sidecarAnswer is what the sidecar answers the plugin itself.
type sidecarAnswer struct {
	status int
	body   []byte
	etag   string
}

// askSidecar sends one request for the plugin itself, within keysDeadline. A form is posted; an etag makes the request conditional. RoundTrip
// and not a Client: redirects are not followed.
func askSidecar(hop *hopSealer, method, url, form, etag string, limit int64) (*sidecarAnswer, error) {
	header, err := hop.header(now().Unix())
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), keysDeadline)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(form))
	if err != nil {
		return nil, err
	}
	req.Header[hopHeader] = []string{header}
	if form != "" {
		req.Header["Content-Type"] = []string{"application/x-www-form-urlencoded"}
	}
	if etag != "" {
		req.Header["If-None-Match"] = []string{etag}
	}
	resp, err := hop.transport().RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if err := checkHop(resp); err != nil {
		return nil, err
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(body)) > limit {
		return nil, errors.New("the answer is too long")
	}
	return &sidecarAnswer{status: resp.StatusCode, body: body, etag: resp.Header.Get("ETag")}, nil
}
