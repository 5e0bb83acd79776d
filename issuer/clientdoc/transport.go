package clientdoc

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"syscall"
)

// NewTransport returns a transport that checks the address which is actually dialled: after name
// resolution, so that a name that resolves to something else the second time gains nothing. trusted
// are "host:port" that may have any address.
func NewTransport(trusted []string) http.RoundTripper {
	t := &http.Transport{
		Proxy:                  nil, // a proxy would do the dialling, unchecked
		DisableCompression:     true,
		TLSHandshakeTimeout:    Timeout,
		MaxResponseHeaderBytes: 16 << 10,
		// A kept connection may be dead after a function's sleep, and hang the next fetch. And
		// net/http writes to the log what a stranger's host sends on such a connection unasked.
		DisableKeepAlives: true,
	}
	t.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		dialer := &net.Dialer{Timeout: Timeout}
		if !slices.Contains(trusted, address) {
			dialer.Control = func(_, address string, _ syscall.RawConn) error {
				addr, err := netip.ParseAddrPort(address)
				if err != nil {
					return errSpecialUse
				}
				return CheckPublicAddress(addr.Addr())
			}
		}
		return dialer.DialContext(ctx, network, address)
	}
	return t
}
