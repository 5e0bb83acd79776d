package clientdoc

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// The table lists the addresses that a stranger's URL must not reach. The test tries both ends of
// each range, where a wrong mask shows.
func TestSpecialUseAddresses(t *testing.T) {
	for _, c := range []struct {
		name      string
		addresses string
	}{
		{"this network, RFC 791", "0.0.0.0 0.255.255.255"},
		{"private, RFC 1918", "10.0.0.0 10.255.255.255 172.16.0.0 172.31.255.255 192.168.0.0 192.168.255.255"},
		{"carrier-grade NAT, RFC 6598, and Alibaba's metadata service in it", "100.64.0.0 100.127.255.255 100.100.100.200"},
		{"loopback", "127.0.0.0 127.0.0.1 127.255.255.255"},
		{"link-local, RFC 3927, and the metadata service of most clouds in it", "169.254.0.0 169.254.169.254 169.254.255.255"},
		{"Azure's platform service", "168.63.129.16"},
		{"IETF protocol assignments, RFC 6890, and Oracle's metadata service in it", "192.0.0.0 192.0.0.192 192.0.0.255"},
		{"documentation, RFC 5737", "192.0.2.0 192.0.2.255 198.51.100.0 198.51.100.255 203.0.113.0 203.0.113.255"},
		{"6to4 relays, RFC 7526", "192.88.99.0 192.88.99.255"},
		{"AS112, RFC 7534 and RFC 7535: the nearest of many servers, perhaps one of this network", "192.31.196.0 192.31.196.255 192.175.48.0 192.175.48.255 2620:4f:8000:: 2620:4f:8000:ffff:ffff:ffff:ffff:ffff"},
		{"relays for multicast, RFC 7450, the nearest too", "192.52.193.0 192.52.193.255 2001:3::1"},
		{"benchmarks, RFC 2544", "198.18.0.0 198.19.255.255"},
		{"multicast", "224.0.0.0 239.255.255.255"},
		{"reserved and broadcast", "240.0.0.0 255.255.255.255"},
		{"unspecified and loopback of IPv6", ":: ::1"},
		{"IPv4-mapped: the kernel connects to the IPv4 address", "::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 ::ffff:0.0.0.0"},
		{"IPv4-compatible, RFC 4291", "::127.0.0.1 ::10.0.0.1 ::8.8.8.8"},
		{"IPv4-translated, RFC 2765", "::ffff:0:127.0.0.1 ::ffff:0:8.8.8.8"},
		{"NAT64, RFC 6052 and RFC 8215, whatever it embeds", "64:ff9b:: 64:ff9b::7f00:1 64:ff9b::808:808 64:ff9b::ffff:ffff 64:ff9b:1:: 64:ff9b:1:ffff:ffff:ffff:ffff:ffff"},
		{"discard, RFC 6666", "100:: 100::ffff:ffff:ffff:ffff"},
		{"below and above global unicast", "1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 4000::"},
		{"IETF protocol assignments: Teredo, benchmarks, ORCHID", "2001:: 2001:0:7f00:1:: 2001:1::1 2001:2:: 2001:10:: 2001:20:: 2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff"},
		{"documentation of IPv6, RFC 3849 and RFC 9637", "2001:db8:: 2001:db8:ffff:ffff:ffff:ffff:ffff:ffff 3fff:: 3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff"},
		{"6to4, whatever it embeds", "2002:: 2002:7f00:1:: 2002:a00:1:: 2002:808:808:: 2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
		{"segment routing, RFC 9602", "5f00:: 5f00:ffff::1"},
		{"unique local, and the metadata services of clouds in it", "fc00:: fd00:ec2::254 fd20:ce::254 fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
		{"link-local of IPv6", "fe80:: fe80::1 febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
		{"site-local, RFC 3879", "fec0:: feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
		{"multicast of IPv6", "ff00:: ff02::1 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
		{"with a zone, which names an interface of this machine", "fe80::1%eth0 2606:4700:4700::1111%eth0 ::1%lo"},
	} {
		for _, text := range strings.Fields(c.addresses) {
			if err := CheckPublicAddress(netip.MustParseAddr(text)); !errors.Is(err, errSpecialUse) {
				t.Errorf("%s: %s: %v, want %v", c.name, text, err, errSpecialUse)
			}
		}
	}
}

// The table lists the neighbours of the ranges above and some addresses of real hosts.
func TestPublicAddresses(t *testing.T) {
	for _, text := range strings.Fields(`1.0.0.0 1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0 168.63.129.15 168.63.129.17
		169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 191.255.255.255 192.0.1.0 192.0.1.255 192.0.3.0 192.31.195.255 192.31.197.0 192.52.192.255 192.52.194.0 192.175.47.255 192.175.49.0 192.88.98.255 192.88.100.0 192.167.255.255 192.169.0.0
		198.17.255.255 198.20.0.0 198.51.99.255 198.51.101.0 203.0.112.255 203.0.114.0 223.255.255.255 160.79.104.10 ::ffff:8.8.8.8
		2000:: 2001:200:: 2001:db7:ffff:ffff:ffff:ffff:ffff:ffff 2001:db9:: 2001:4860:4860::8888 2003:: 2606:4700:4700::1111 2620:4f:7fff:ffff:ffff:ffff:ffff:ffff 2620:4f:8001:: 3ffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff 3fff:1000::`) {
		if err := CheckPublicAddress(netip.MustParseAddr(text)); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// nameServer answers each question for an IPv4 address with the next of the addresses, and repeats
// the last one.
type nameServer struct {
	mu        sync.Mutex // guards the two below for one access
	addresses []string
	asked     int
}

func (n *nameServer) serve(t *testing.T) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	was := net.DefaultResolver
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
	t.Cleanup(func() {
		net.DefaultResolver = was
		conn.Close()
	})
	go func() {
		b := make([]byte, 1500)
		for {
			size, from, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			conn.WriteTo(n.answer(b[:size]), from)
		}
	}()
}

// answer encodes the answer to one question (RFC 1035 §4.1).
func (n *nameServer) answer(query []byte) []byte {
	end := 12
	for query[end] != 0 {
		end += int(query[end]) + 1
	}
	question := query[12 : end+5]
	header := append(append([]byte{}, query[:2]...), 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0)
	out := append(header, question...)
	if question[len(question)-3] != 1 { // not A
		return out
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	address := n.addresses[min(n.asked, len(n.addresses)-1)]
	n.asked++
	out[7] = 1
	out = append(out, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4)
	ip := netip.MustParseAddr(address).As4()
	return append(out, ip[:]...)
}

// The address that is about to be dialled is judged, whatever the name resolved to before (DNS
// rebinding).
func TestDocumentDialledAddressIsJudged(t *testing.T) {
	requests := 0
	server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { requests++ }))
	defer server.Close()
	_, port, _ := net.SplitHostPort(server.Listener.Addr().String())
	for _, c := range []struct {
		name      string
		trusted   []string
		host      string
		addresses []string // of example.com, one after the other
		reached   bool
	}{
		{"the address itself", nil, "127.0.0.1", nil, false},
		{"the address of IPv6", nil, "[::1]", nil, false},
		{"an IPv4-mapped address", nil, "[::ffff:127.0.0.1]", nil, false},
		{"the name of this machine", nil, "localhost", nil, false},
		{"a name with a private address", nil, "example.com", []string{"127.0.0.1"}, false},
		{"a name that was public when it was asked before", nil, "example.com", []string{"8.8.8.8", "127.0.0.1"}, false},
		{"a trusted name", []string{"example.com:" + port}, "example.com", []string{"127.0.0.1"}, true},
		{"a trusted address", []string{"127.0.0.1:" + port}, "127.0.0.1", nil, true},
		{"a trusted name at another port", []string{"example.com:443"}, "example.com", []string{"127.0.0.1"}, false},
		{"a trusted name without a port", []string{"example.com"}, "example.com", []string{"127.0.0.1"}, false},
		{"a name below a trusted one", []string{"example.com:" + port}, "a.example.com", []string{"127.0.0.1"}, false},
		{"a name that ends like a trusted one", []string{"example.com:" + port}, "badexample.com", []string{"127.0.0.1"}, false},
		{"another name of a trusted address", []string{"127.0.0.1:" + port}, "example.com", []string{"127.0.0.1"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			names := &nameServer{addresses: c.addresses}
			names.serve(t)
			if len(c.addresses) > 1 { // somebody resolved the name before
				if first, err := net.DefaultResolver.LookupHost(t.Context(), c.host); err != nil || first[0] != c.addresses[0] {
					t.Fatalf("%v, %v", first, err)
				}
			}
			transport := NewTransport(c.trusted).(*http.Transport)
			// this server's certificate is for example.com and 127.0.0.1
			transport.TLSClientConfig = server.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
			defer transport.CloseIdleConnections()
			before := requests
			req, err := http.NewRequestWithContext(t.Context(), "GET", "https://"+c.host+":"+port+"/client.json", nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := transport.RoundTrip(req)
			if err == nil {
				resp.Body.Close()
			}
			if c.reached && (err != nil || requests != before+1) || !c.reached && (!errors.Is(err, errSpecialUse) || requests != before) {
				t.Errorf("error %v, %d requests", err, requests-before)
			}
		})
	}
}

// Each fetch has a connection of its own, for two reasons. A kept connection may be dead when a
// function wakes up, and the fetch would hang. And net/http logs what arrives unasked on a kept
// connection.
func TestDocumentConnectionIsNotKept(t *testing.T) {
	var logged bytes.Buffer
	log.SetOutput(&logged)
	defer log.SetOutput(os.Stderr)
	server := httptest.NewUnstartedServer(nil)
	server.StartTLS() // for its certificate
	config := server.TLS.Clone()
	server.Close()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() { // answers once, says something more, and falls silent
				http.ReadRequest(bufio.NewReader(conn))
				io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
				io.WriteString(conn, "written by a stranger")
				io.Copy(io.Discard, conn)
			}()
		}
	}()
	transport := NewTransport([]string{listener.Addr().String()}).(*http.Transport)
	transport.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
	for range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		req, err := http.NewRequestWithContext(ctx, "GET", "https://"+listener.Addr().String()+"/client.json", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "{}" {
			t.Errorf("%q, %v", body, err)
		}
		resp.Body.Close()
		cancel()
	}
	if logged.Len() > 0 {
		t.Errorf("logged: %s", &logged)
	}
}

// The headers that a host can make us read are capped as the body is.
func TestAnswerWithTooManyHeaders(t *testing.T) {
	for size, reached := range map[int]bool{8 << 10: true, 20 << 10: false} {
		server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X", strings.Repeat("x", size)) }))
		defer server.Close()
		transport := NewTransport([]string{server.Listener.Addr().String()}).(*http.Transport)
		transport.TLSClientConfig = server.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
		req, err := http.NewRequestWithContext(t.Context(), "GET", server.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := transport.RoundTrip(req)
		if (err == nil) != reached {
			t.Errorf("%d bytes: %v", size, err)
		}
		if err == nil {
			resp.Body.Close()
		}
	}
}

// A proxy would dial, and nobody would check the address. Compression would unpack more than the
// length cap sees.
func TestDocumentTransportHasNoWayAround(t *testing.T) {
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	transport := NewTransport(nil).(*http.Transport)
	if transport.Proxy != nil || !transport.DisableCompression || transport.DialTLSContext != nil || transport.TLSClientConfig != nil {
		t.Errorf("%+v", transport)
	}
}
