package provider

import (
	"encoding/binary"
	"errors"
	"strings"
	"time"

	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// isSecretName says which environment variables a label may name: without the rule, anybody who may
// write labels could have the sidecar send any of its variables to a provider of theirs.
func isSecretName(name string) bool {
	return strings.HasSuffix(name, "CLIENT_SECRET") && strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == ""
}

// CheckSecret says why the client's secret cannot be read; nil if it can, or if the client has
// none.
func (all *Providers) CheckSecret(c *Client) error {
	_, err := all.clientSecret(c)
	return err
}

// clientSecret is the client's secret: the label's text, a variable of the sidecar (env:NAME), or a
// text that `mcpbouncer seal-secret` made for this provider and client only.
func (all *Providers) clientSecret(c *Client) (string, error) {
	if name, ok := strings.CutPrefix(c.Secret, "env:"); ok {
		if !isSecretName(name) {
			return "", errors.New("clientSecret: the name of the variable must end in CLIENT_SECRET")
		}
		if secret := all.Getenv(name); strings.TrimSpace(secret) != "" {
			return secret, nil
		}
		return "", errors.New("clientSecret: the variable " + name + " of the sidecar is not set or empty, and so is " + name + "_FILE")
	}
	if strings.HasPrefix(c.Secret, "mbs1_") {
		secret, err := OpenSecret(all.Ring, c.secretFor(), c.ID, c.Secret, all.Now())
		if err != nil {
			return "", errors.New("clientSecret: was sealed for another provider, client or master secret")
		}
		return secret, nil
	}
	return c.Secret, nil
}

// SealSecret makes a value of the label clientSecret that only a sidecar with this ring can read,
// and only for this provider and client: in the label of another tenant it does not open.
func SealSecret(ring *sealing.Ring, providerIssuer, clientID, secret string, now time.Time) string {
	return ring.Seal(sealing.KindSecret, sealing.TenantID{}, secretContext(providerIssuer, clientID), []byte(secret), now)
}

// OpenSecret is the reverse of SealSecret; it fails with sealing.ErrNotOpened.
func OpenSecret(ring *sealing.Ring, providerIssuer, clientID, value string, now time.Time) (string, error) {
	secret, _, err := ring.Open(sealing.KindSecret, sealing.TenantID{}, secretContext(providerIssuer, clientID), value, now)
	return string(secret), err
}

// secretContext is LP(issuer) ‖ LP(client id) of docs/sealed-values.md.
func secretContext(providerIssuer, clientID string) string {
	var b []byte
	for _, s := range []string{providerIssuer, clientID} {
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
	}
	return string(b)
}
