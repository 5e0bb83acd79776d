package rig

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
)

// StartTunnel starts a proxy that knows one way: a request for host, port 443, is led to addr. So a
// program reaches an installation under its public name, with TLS from end to end, where no name
// can be resolved and no port 443 be had.
func StartTunnel(t T, host, addr string) (proxy string) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect || r.Host != host+":443" {
			http.Error(w, "this proxy leads to "+host, http.StatusForbidden)
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
