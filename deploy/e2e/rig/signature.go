package rig

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// RequireSignature gives the function's URL AuthType AWS_IAM. It returns the variables with which
// somebody can sign. Signatures are compared with those that AWS's own SDK makes.
func (l *Lambda) RequireSignature(secrets *Secrets) []string {
	who := aws.Credentials{AccessKeyID: "ASIATRAEFIK", SecretAccessKey: secrets.New("AWS secret", "aws-"), SessionToken: secrets.New("AWS session token", "session+/=")}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.verify = func(r *http.Request, body []byte) error {
		at, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
		if age := time.Since(at); err != nil || age < -5*time.Minute || age > 5*time.Minute {
			return fmt.Errorf("X-Amz-Date %q", r.Header.Get("X-Amz-Date"))
		}
		hash := sha256.Sum256(body)
		want := &http.Request{Method: r.Method, Host: r.Host, Header: http.Header{}, URL: &url.URL{Scheme: "http", Host: r.Host, Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: r.URL.RawQuery}}
		want.Header.Set("X-Amz-Content-Sha256", hex.EncodeToString(hash[:]))
		err = v4.NewSigner().SignHTTP(r.Context(), who, want, hex.EncodeToString(hash[:]), "lambda", "eu-central-1", at)
		for _, name := range []string{"Authorization", "X-Amz-Content-Sha256", "X-Amz-Security-Token"} {
			if err == nil && r.Header.Get(name) != want.Header.Get(name) {
				err = fmt.Errorf("%s %q is not %q", name, r.Header.Get(name), want.Header.Get(name))
			}
		}
		return err
	}
	return []string{"AWS_REGION=eu-central-1", "AWS_ACCESS_KEY_ID=" + who.AccessKeyID, "AWS_SECRET_ACCESS_KEY=" + who.SecretAccessKey, "AWS_SESSION_TOKEN=" + who.SessionToken}
}
