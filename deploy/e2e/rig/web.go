package rig

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"time"
)

// Web is as much of the World Wide Web as a test needs: some hosts, over TLS, under their own
// names. A program reaches them through a proxy, where no name can be resolved and no port 443 be
// had.
type Web struct {
	Proxy     string // for HTTPS_PROXY
	Authority []byte // the certificate that vouches for the hosts, PEM

	hosts     map[string]bool
	transport http.RoundTripper
}

// StartWeb serves each host by its handler.
func StartWeb(t T, hosts map[string]http.Handler) *Web {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatalf("rig: %v", err)
	}
	names := slices.Sorted(maps.Keys(hosts))
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: names, IsCA: true, BasicConstraintsValid: true, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatalf("rig: %v", err)
	}
	all := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if h := hosts[r.Host]; h != nil {
			h.ServeHTTP(w, r)
			return
		}
		http.NotFound(w, r)
	}))
	all.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	all.StartTLS()
	t.Cleanup(func() { all.CloseClientConnections(); all.Close() })

	web := &Web{Authority: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), hosts: map[string]bool{}}
	for _, name := range names {
		web.hosts[name] = true
	}
	web.Proxy = startTunnels(t, func(host string) string {
		if name, port, err := net.SplitHostPort(host); err == nil && port == "443" && web.hosts[name] {
			return all.Listener.Addr().String()
		}
		return ""
	})
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(web.Authority)
	proxy, err := url.Parse(web.Proxy)
	if err != nil {
		t.Fatalf("rig: %v", err)
	}
	web.transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, Proxy: http.ProxyURL(proxy)}
	return web
}

// Beside returns a transport that reaches these hosts, and others as next does.
func (web *Web) Beside(next http.RoundTripper) http.RoundTripper { return besideWeb{web, next} }

type besideWeb struct {
	web  *Web
	next http.RoundTripper
}

func (b besideWeb) RoundTrip(r *http.Request) (*http.Response, error) {
	if b.web.hosts[r.URL.Host] {
		return b.web.transport.RoundTrip(r)
	}
	return b.next.RoundTrip(r)
}

// StartTunnel starts a proxy that knows one way: a request for host, port 443, is led to addr. So a
// program reaches an installation under its public name, with TLS from end to end, where no name
// can be resolved and no port 443 be had.
func StartTunnel(t T, host, addr string) (proxy string) {
	return startTunnels(t, func(asked string) string {
		if asked == host+":443" {
			return addr
		}
		return ""
	})
}

// startTunnels starts a proxy that leads to where the function says, or nowhere where that is
// empty.
func startTunnels(t T, to func(host string) string) (proxy string) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		addr := to(r.Host)
		if r.Method != http.MethodConnect || addr == "" {
			http.Error(w, "this proxy does not lead to "+r.Host, http.StatusForbidden)
			return
		}
		out, err := net.Dial("tcp", addr)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer out.Close()
		w.WriteHeader(http.StatusOK)
		in, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer in.Close()
		go func() {
			_, _ = io.Copy(out, buffered)
			_ = out.Close()
		}()
		_, _ = io.Copy(in, out)
	}))
	t.Cleanup(func() { srv.CloseClientConnections(); srv.Close() })
	return srv.URL
}
