package issuertest

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"sync"
	"time"
)

// JSON is the payload as the plugin writes it: what is not set is left out, and has its default. A
// list or a number whose default is not empty is always sent.
func (t Tenant) JSON() []byte {
	text := `{"v":1`
	for field, value := range reflect.ValueOf(t).Fields() {
		always := field.Tag.Get("sent") == "always"
		isList := value.Kind() == reflect.Slice
		if !always && (value.IsZero() || isList && value.Len() == 0) {
			continue
		}
		b, err := json.Marshal(value.Interface())
		if err != nil {
			panic(err)
		}
		if isList && value.IsNil() {
			b = []byte("[]")
		}
		text += `,"` + field.Tag.Get("json") + `":` + string(b)
	}
	return []byte(text + "}")
}

// SealHop makes a hop header from a hop key in base64, as docs/hop.md says.
func SealHop(key string, at time.Time, payload []byte) string {
	k, err := base64.StdEncoding.DecodeString(key)
	if err != nil || len(k) != 32 {
		panic(fmt.Sprintf("issuertest: the hop key is not 32 bytes in base64: %v", err))
	}
	block, err := aes.NewCipher(k)
	if err != nil {
		panic(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	id := sha256.Sum256(append([]byte("mcpbouncer/v1/hop-key-id"), k...))
	header := binary.BigEndian.AppendUint32(append([]byte{1}, id[:3]...), uint32(at.Unix()))
	nonce := make([]byte, 12)
	rand.Read(nonce)
	out := append(append([]byte{}, header...), nonce...)
	out = gcm.Seal(out, nonce, payload, append([]byte("mcpbouncer/v1/hop"), header...))
	return "mbh1_" + base64.RawURLEncoding.EncodeToString(out)
}

// Front stands where Traefik and the plugin stand: it maps what a client asks below the public URL
// to the sidecar's paths and adds the hop header.
type Front struct {
	Tenant  Tenant
	HopKey  string
	Now     func() time.Time    // nil: the real time
	Replica func() http.Handler // chosen anew for each request
}

func (f *Front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path, ok := f.sidecarPath(r.URL.Path)
	if !ok {
		http.Error(w, "this is the MCP server", http.StatusTeapot)
		return
	}
	now := time.Now
	if f.Now != nil {
		now = f.Now
	}
	r.URL.Path, r.URL.RawPath = path, ""
	r.Header.Set("X-Mcpb-Hop", SealHop(f.HopKey, now(), f.Tenant.JSON()))
	f.Replica().ServeHTTP(w, r)
}

func (f *Front) sidecarPath(path string) (string, bool) {
	u, err := url.Parse(f.Tenant.PublicURL)
	if err != nil {
		panic(err)
	}
	if rest, ok := strings.CutPrefix(path, u.Path+"/oauth/"); ok {
		return "/oauth/" + rest, true
	}
	if rest, ok := strings.CutPrefix(path, u.Path+"/.well-known/"); ok {
		return "/.well-known/" + rest, true
	}
	if rest, ok := strings.CutPrefix(path, "/.well-known/"); ok {
		for _, name := range []string{"oauth-authorization-server", "openid-configuration", "oauth-protected-resource"} {
			if below, ok := strings.CutPrefix(rest, name+u.Path); ok {
				return "/.well-known/" + name + below, true
			}
		}
	}
	return "", false
}

// Internet answers requests to known origins from handlers in memory, and lets the others (a
// Provider's) out.
type Internet struct {
	mu    sync.Mutex // guards sites for one access
	sites []site
}

type site struct {
	prefix string // origin and path, such as https://mcp.localhost/wiki
	well   string // origin/.well-known/, for the path-inserted forms
	path   string
	h      http.Handler
}

// Handle gives everything at and below a public URL, and its path-inserted well-known documents, to
// a handler.
func (n *Internet) Handle(publicURL string, h http.Handler) {
	u, err := url.Parse(publicURL)
	if err != nil {
		panic(err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.sites = append(n.sites, site{publicURL, u.Scheme + "://" + u.Host + "/.well-known/", u.Path, h})
}

// Knows says whether a URL is answered in memory.
func (n *Internet) Knows(u *url.URL) bool { return n.find(u) != nil }

func (n *Internet) find(u *url.URL) http.Handler {
	n.mu.Lock()
	defer n.mu.Unlock()
	raw := u.Scheme + "://" + u.Host + u.Path
	for _, s := range n.sites {
		if raw == s.prefix || strings.HasPrefix(raw, s.prefix+"/") || strings.HasPrefix(raw, s.well) && strings.Contains(raw, s.path) {
			return s.h
		}
	}
	return nil
}

// RoundTrip makes Internet the transport of an http.Client.
func (n *Internet) RoundTrip(r *http.Request) (*http.Response, error) {
	h := n.find(r.URL)
	if h == nil {
		out := http.DefaultTransport
		if p, ok := providers.Load(r.URL.Host); ok {
			out = p.(*Provider).Transport
		}
		return out.RoundTrip(r)
	}
	return Serve(h, r), nil
}

// Serve lets a handler answer a client's request in memory.
func Serve(h http.Handler, r *http.Request) *http.Response {
	in := r.Clone(r.Context())
	in.RequestURI = r.URL.RequestURI()
	in.RemoteAddr = "192.0.2.7:4711"
	in.Proto, in.ProtoMajor, in.ProtoMinor = "HTTP/1.1", 1, 1
	if in.Host == "" {
		in.Host = r.URL.Host
	}
	if in.Body == nil {
		in.Body = io.NopCloser(strings.NewReader(""))
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, in)
	resp := w.Result()
	resp.Request = r
	header := http.Header{} // spelt as a network would: handlers may write names in any case
	for name, values := range resp.Header {
		for _, v := range values {
			header.Add(name, v)
		}
	}
	resp.Header = header
	return resp
}
