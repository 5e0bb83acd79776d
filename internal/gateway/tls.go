package gateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// Certificate is a certificate and its key in two files, which are read again when one of them has
// changed: whatever renews them need not know of this process.
type Certificate struct {
	cert, key string
	serves    func(ctx context.Context, host string) error
	log       *slog.Logger
	lines     lines

	// Now is the clock.
	Now func() time.Time

	mu     sync.Mutex // guards all below; files are read under it
	loaded *tls.Certificate
	looked time.Time
	stamps [2]string
}

const certificateEvery = 10 * time.Second

// OpenCertificate reads the files. Its errors name the variable, the cause and the remedy. serves
// returns an error for a host that no tenant has.
func OpenCertificate(cert, key string, serves func(ctx context.Context, host string) error, log *slog.Logger) (*Certificate, error) {
	c := &Certificate{cert: cert, key: key, serves: serves, log: log, Now: time.Now}
	return c, c.read(c.Now())
}

// Get is for tls.Config.GetCertificate.
func (c *Certificate) Get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.Now()
	if now.Sub(c.looked) >= certificateEvery || now.Before(c.looked) {
		if err := c.read(now); err != nil { // one file may be new and the other not yet
			c.log.Error("the certificate cannot be read: the one of before is used", "cause", err.Error())
		}
	}
	if cause := refusal(c.loaded.Leaf, hello.ServerName, now); cause != "" && c.serves(context.Background(), hello.ServerName) == nil && c.lines.allow(cause, now) {
		c.log.Error("clients refuse the certificate", "host", hello.ServerName, "cause", cause)
	}
	return c.loaded, nil
}

// refusal says why clients refuse a certificate whoever has signed it, and what to do.
func refusal(leaf *x509.Certificate, host string, now time.Time) string {
	if now.After(leaf.NotAfter) {
		return "it has expired at " + leaf.NotAfter.UTC().Format(time.RFC3339) + ": renew it; it is read again by itself"
	}
	if now.Before(leaf.NotBefore) {
		return "it begins at " + leaf.NotBefore.UTC().Format(time.RFC3339) + ": set the clock of this machine, or wait"
	}
	if err := leaf.VerifyHostname(host); err != nil {
		return err.Error() + ": name one for all hosts of the tenants"
	}
	return ""
}

// read needs c locked, or not yet shared. It reads nothing where nothing has changed.
func (c *Certificate) read(now time.Time) error {
	c.looked = now
	stamps := [2]string{}
	for i, file := range []string{c.cert, c.key} {
		info, err := os.Stat(file)
		if err != nil {
			return fmt.Errorf("BOUNCER_TLS_CERT and BOUNCER_TLS_KEY: %w: name a certificate chain and its key, PEM", err)
		}
		stamps[i] = fmt.Sprint(info.ModTime().UnixNano(), " ", info.Size())
	}
	if stamps == c.stamps {
		return nil
	}
	loaded, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err != nil {
		return fmt.Errorf("BOUNCER_TLS_CERT and BOUNCER_TLS_KEY: %w: name a certificate chain and its key, PEM", err)
	}
	if c.loaded != nil {
		c.log.Info("another certificate is used", "until", loaded.Leaf.NotAfter)
	}
	c.loaded, c.stamps = &loaded, stamps
	return nil
}
