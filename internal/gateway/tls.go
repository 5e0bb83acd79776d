package gateway

import (
	"crypto/tls"
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
	log       *slog.Logger

	mu     sync.Mutex // guards all below; files are read under it
	loaded *tls.Certificate
	looked time.Time
	stamps [2]string
}

const certificateEvery = 10 * time.Second

// OpenCertificate reads the files. Its errors name the variable, the cause and the remedy.
func OpenCertificate(cert, key string, log *slog.Logger) (*Certificate, error) {
	c := &Certificate{cert: cert, key: key, log: log}
	return c, c.read(time.Now())
}

// Get is for tls.Config.GetCertificate.
func (c *Certificate) Get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); now.Sub(c.looked) >= certificateEvery || now.Before(c.looked) {
		if err := c.read(now); err != nil { // one file may be new and the other not yet
			c.log.Error("the certificate cannot be read: the one of before is used", "cause", err.Error())
		}
	}
	return c.loaded, nil
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
