package gateway_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/internal/gateway"
)

// certificatesAre is the middle of the two hours for which certificates are valid. Real clients
// look at them too.
var certificatesAre = time.Now().UTC().Truncate(time.Second)

// writeCertificate writes another certificate, by its serial number. Its files are as many seconds
// younger: some file systems keep times that are coarser than a test is fast.
func writeCertificate(t *testing.T, dir string, serial int64) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), NotBefore: certificatesAre.Add(-time.Hour), NotAfter: certificatesAre.Add(time.Hour), DNSNames: []string{"mcp.example.com"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	text, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: text}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
		written := certificatesAre.Add(time.Duration(serial) * time.Second)
		if err := os.Chtimes(file, written, written); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// servesExample says that tenants have mcp.example.com and wiki.example.com.
func servesExample(_ context.Context, host string) error {
	if host == "mcp.example.com" || host == "wiki.example.com" {
		return nil
	}
	return errors.New("no tenant has it")
}

// openCertificate opens one with the serial number 1, with a log. The clock goes on by pass.
func openCertificate(t *testing.T, dir string) (w *world, c *gateway.Certificate, key string, pass func(time.Duration)) {
	t.Helper()
	w = &world{t: t, log: &lockedBuffer{}}
	cert, key := writeCertificate(t, dir, 1)
	c, err := gateway.OpenCertificate(cert, key, servesExample, w.logger())
	if err != nil {
		t.Fatal(err)
	}
	at := certificatesAre
	c.Now = func() time.Time { return at }
	return w, c, key, func(d time.Duration) { at = at.Add(d) }
}

// A certificate that clients refuse is named in the log with cause and remedy, and none where a
// stranger asks for a host that no tenant has.
func TestGatewayNamesACertificateThatClientsRefuse(t *testing.T) {
	w, c, _, pass := openCertificate(t, t.TempDir())
	expect := func(host, says string) {
		t.Helper()
		before := len(w.log.String())
		if _, err := c.Get(&tls.ClientHelloInfo{ServerName: host}); err != nil {
			t.Fatal(err)
		}
		if said := w.log.String()[before:]; !strings.Contains(said, says) || (says == "") != (said == "") {
			t.Errorf("%q: %q, want %q", host, said, says)
		}
	}
	expect("mcp.example.com", "")
	expect("stranger.example.com", "")
	expect("", "")
	expect("wiki.example.com", "valid for mcp.example.com, not wiki.example.com: name one for all hosts")
	expect("wiki.example.com", "") // said already
	pass(2 * time.Hour)
	expect("stranger.example.com", "")
	expect("mcp.example.com", "it has expired at "+certificatesAre.Add(time.Hour).Format(time.RFC3339)+": renew it")
}

// A certificate that was renewed is used within ten seconds. One that cannot be read is not, and
// the log says so.
func TestGatewayUsesTheCertificateThatWasRenewed(t *testing.T) {
	dir := t.TempDir()
	w, c, key, pass := openCertificate(t, dir)
	expect := func(serial int64) {
		t.Helper()
		got, err := c.Get(&tls.ClientHelloInfo{ServerName: "mcp.example.com"})
		if err != nil || got.Leaf.SerialNumber.Int64() != serial {
			t.Errorf("%v, %v; want serial %d", got.Leaf.SerialNumber, err, serial)
		}
	}
	expect(1)
	writeCertificate(t, dir, 2)
	expect(1)
	pass(11 * time.Second)
	expect(2)
	if err := os.WriteFile(key, []byte("half a"), 0o600); err != nil {
		t.Fatal(err)
	}
	pass(11 * time.Second)
	expect(2)
	if !strings.Contains(w.log.String(), "the one of before is used") {
		t.Error(w.log)
	}
	writeCertificate(t, dir, 3)
	pass(11 * time.Second)
	expect(3)
	if _, err := gateway.OpenCertificate(filepath.Join(dir, "none"), "", nil, nil); err == nil || !strings.Contains(err.Error(), "BOUNCER_TLS_CERT") {
		t.Error(err)
	}
}
