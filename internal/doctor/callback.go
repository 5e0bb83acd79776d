package doctor

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// patience is how long a person may take to log in.
const patience = 5 * time.Minute

// callback is where a browser brings the answer of a login: a listener of this computer.
type callback struct {
	net.Listener
	redirect string // its redirect URI

	mu    sync.Mutex // guards what follows for one access
	state string     // of the login that is waited for
	back  chan url.Values
}

var errNotHere = errors.New("the answer has to come to this computer")

// listenAt serves a redirect URI of this computer, with a free port if it names none. An empty one
// is any. It ends with Close.
func listenAt(redirectURI string) (*callback, error) {
	if redirectURI == "" {
		redirectURI = "http://127.0.0.1/callback"
	}
	u, err := url.Parse(redirectURI)
	if err != nil || !isLoopback(u.Hostname()) || u.Scheme != "http" {
		return nil, errNotHere
	}
	port := u.Port()
	if port == "" {
		port = "0"
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return nil, err
	}
	u.Host = net.JoinHostPort(u.Hostname(), fmt.Sprint(listener.Addr().(*net.TCPAddr).Port))
	if u.Path == "" {
		u.Path = "/" // as it comes
	}
	c := &callback{Listener: listener, redirect: u.String()}
	if port != "0" {
		c.redirect = redirectURI // to the byte, as it is registered
	}
	server := &http.Server{ReadHeaderTimeout: 10 * time.Second, MaxHeaderBytes: maxHeader, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { c.answer(w, r, u.Path) })}
	go server.Serve(listener) //nolint: ends with the listener
	return c, nil
}

// await returns the one answer that will have this state.
func (c *callback) await(state string) <-chan url.Values {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state, c.back = state, make(chan url.Values, 1)
	return c.back
}

// answer takes the browser's answer. Others may ask the port, too.
func (c *callback) answer(w http.ResponseWriter, r *http.Request, path string) {
	q := r.URL.Query()
	c.mu.Lock()
	state, back := c.state, c.back
	c.mu.Unlock()
	if r.URL.Path != path || state == "" || subtle.ConstantTimeCompare([]byte(q.Get("state")), []byte(state)) != 1 {
		http.Error(w, "not found", http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'")
	fmt.Fprint(w, "<!doctype html><title>mcpbouncer doctor</title><p>You can close this page. The terminal says how it goes on.")
	select {
	case back <- q:
	default:
	}
}

// pasted reads the answer out of the address at which a person's browser ended.
func pasted(address, state string) (url.Values, error) {
	_, query, ok := strings.Cut(strings.TrimSpace(address), "?")
	query, _, _ = strings.Cut(query, "#")
	q, err := url.ParseQuery(query)
	switch {
	case !ok || err != nil || !q.Has("code") && !q.Has("error"):
		return nil, errors.New("that is not the address of an answer, which has ?code= or ?error= in it")
	case subtle.ConstantTimeCompare([]byte(q.Get("state")), []byte(state)) != 1:
		return nil, errors.New("that is the answer of another login: its state is not the one that was sent")
	}
	return q, nil
}
