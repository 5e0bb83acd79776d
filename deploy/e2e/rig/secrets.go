package rig

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
)

// Secrets collects every value seen on the wire or given as configuration that no log may contain.
type Secrets struct {
	mu   sync.Mutex
	kind map[string]string // :: value → what it is
}

// Add notes a secret value.
func (s *Secrets) Add(kind, value string) {
	// Shorter than this a value could stand in a log by chance; no secret of ours is.
	const shortest = 12
	if len(value) < shortest {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kind == nil {
		s.kind = map[string]string{}
	}
	s.kind[value] = kind
}

// New makes a random secret and notes it.
func (s *Secrets) New(kind, prefix string) string {
	v := prefix + rand.Text()
	s.Add(kind, v)
	return v
}

// Kinds counts the collected values by kind, so that a test can tell that it looked for something.
func (s *Secrets) Kinds() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := map[string]int{}
	for _, kind := range s.kind {
		n[kind]++
	}
	return n
}

// In lists what of the collected occurs in text, by kind and with the line around it.
func (s *Secrets) In(text string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []string
	for value, kind := range s.kind {
		spellings := []string{value, url.QueryEscape(value)}
		// A log that cuts long values short still gives them away.
		if middle := len(value) / 2; middle > 24 {
			spellings = append(spellings, value[middle:middle+20])
		}
		for _, spelling := range spellings {
			if at := strings.Index(text, spelling); at >= 0 {
				start := strings.LastIndexByte(text[:at], '\n') + 1
				end := at + strings.IndexByte(text[at:]+"\n", '\n')
				found = append(found, kind+" in: "+text[start:end])
				break
			}
		}
	}
	return found
}

// secretParams are the parameters of forms, queries and JSON documents whose values are secret.
// client_id and state are not secret: the one is public, the other only names a flow.
var secretParams = map[string]string{
	"code": "code", "code_verifier": "verifier", "client_secret": "client secret",
	"access_token": "access token", "refresh_token": "refresh token", "id_token": "id token",
}

func (s *Secrets) addForm(form url.Values) {
	for name, kind := range secretParams {
		for _, v := range form[name] {
			s.Add(kind, v)
		}
	}
}

func (s *Secrets) addHeader(h http.Header) {
	for _, v := range h.Values("Authorization") {
		if _, credential, ok := strings.Cut(v, " "); ok {
			s.Add("authorization header", credential)
		}
	}
	for _, v := range h.Values("X-Mcpb-Hop") {
		s.Add("hop header", v)
	}
	for _, c := range (&http.Request{Header: h}).Cookies() {
		s.Add("cookie", c.Value)
	}
	for _, c := range (&http.Response{Header: h}).Cookies() {
		s.Add("cookie", c.Value)
	}
	if u, err := url.Parse(h.Get("Location")); err == nil {
		s.addForm(u.Query())
	}
}

func (s *Secrets) addJSON(body []byte) {
	var members map[string]any
	if json.Unmarshal(body, &members) != nil {
		return
	}
	for name, kind := range secretParams {
		if v, ok := members[name].(string); ok {
			s.Add(kind, v)
		}
	}
}

// Watch wraps a client's transport: what passes through it is looked at for secrets.
func (s *Secrets) Watch(next http.RoundTripper) http.RoundTripper {
	return watcher{s, next}
}

type watcher struct {
	secrets *Secrets
	next    http.RoundTripper
}

func (w watcher) RoundTrip(r *http.Request) (*http.Response, error) {
	w.secrets.addForm(r.URL.Query())
	w.secrets.addHeader(r.Header)
	if r.GetBody != nil && strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		if b, err := r.GetBody(); err == nil {
			body, _ := io.ReadAll(b)
			form, _ := url.ParseQuery(string(body))
			w.secrets.addForm(form)
		}
	}
	resp, err := w.next.RoundTrip(r)
	if err != nil {
		return resp, err
	}
	w.secrets.addHeader(resp.Header)
	// Event streams are passed on as they come.
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json") {
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			return nil, err
		}
		w.secrets.addJSON(body)
		resp.Body = io.NopCloser(bytes.NewReader(body))
	}
	return resp, nil
}
