package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer/outgoing"
)

// On AWS Lambda a secret variable may name a secret instead of holding it, because whoever may look
// at a function's configuration sees its variables:
//
//	ssm:/mcpbouncer/key                                  a parameter of Systems Manager, decrypted
//	secretsmanager:arn:aws:secretsmanager:…:secret:key   a secret of Secrets Manager, its text
const (
	parameterReference = "ssm:"
	secretReference    = "secretsmanager:"
)

func isReference(value string) bool {
	return strings.HasPrefix(value, parameterReference) || strings.HasPrefix(value, secretReference)
}

var errNoExtension = errors.New("names a secret of AWS, which is read on AWS Lambda only; elsewhere use a variable that ends in _FILE")

// extension is AWS's Parameters and Secrets Lambda Extension: a process beside this one, that reads
// what the function's role may read. It answers during an invocation only, not before the first.
type extension struct {
	address string
	token   string // proves that the caller is the function

	deadline time.Duration // of one answer

	mu     sync.Mutex        // held during a read: whoever waits for it needs a secret as well
	client *http.Client      // made for the first secret: most functions name none
	values map[string]string // reference → secret, for as long as the environment lives
}

const (
	extensionDeadline = 3 * time.Second
	maxExtensionBody  = 128 << 10 // a secret of Secrets Manager has 64 KB at most
)

func newExtension() *extension {
	port := os.Getenv("PARAMETERS_SECRETS_EXTENSION_HTTP_PORT")
	if port == "" {
		port = "2773"
	}
	return &extension{
		address:  "http://localhost:" + port,
		token:    os.Getenv("AWS_SESSION_TOKEN"),
		deadline: extensionDeadline,
		values:   map[string]string{},
	}
}

// read returns the secret that a reference names. Its errors hold the reference, never the secret.
func (x *extension) read(reference string) (string, error) {
	if !onLambda() {
		return "", errNoExtension
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if secret, ok := x.values[reference]; ok {
		return secret, nil
	}
	if x.client == nil {
		// HTTP_PROXY must not see secrets.
		x.client = outgoing.NewClient(&http.Transport{Proxy: nil}, 0)
	}
	secret, err := x.fetch(reference)
	if err == nil && secret == "" {
		err = errors.New("it is empty")
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", reference, err)
	}
	x.values[reference] = secret
	return secret, nil
}

// forget makes the next read of a reference ask for it again.
func (x *extension) forget(reference string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.values, reference)
}

func (x *extension) fetch(reference string) (string, error) {
	var answer struct {
		Parameter    struct{ Value string }
		SecretString string
	}
	if name, ok := strings.CutPrefix(reference, parameterReference); ok {
		err := x.get("/systemsmanager/parameters/get?withDecryption=true&name="+url.QueryEscape(name), &answer)
		return strings.TrimSpace(answer.Parameter.Value), err
	}
	err := x.get("/secretsmanager/get?secretId="+url.QueryEscape(strings.TrimPrefix(reference, secretReference)), &answer)
	return strings.TrimSpace(answer.SecretString), err
}

func (x *extension) get(pathAndQuery string, into any) error {
	ctx, cancel := context.WithTimeout(context.Background(), x.deadline)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, x.address+pathAndQuery, nil)
	if err != nil {
		return err
	}
	req.Header.Set("X-Aws-Parameters-Secrets-Token", x.token)
	resp, err := x.client.Do(req)
	if err != nil {
		return fmt.Errorf("%w; is the layer AWS-Parameters-and-Secrets-Lambda-Extension there?", err.(*url.Error).Err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxExtensionBody+1))
	switch {
	case err != nil:
		return errors.New("the extension's answer ends early")
	case resp.StatusCode != http.StatusOK: // AWS's reason, such as which permission is missing
		return fmt.Errorf("the extension answers %d: %.300q", resp.StatusCode, body)
	case len(body) > maxExtensionBody:
		return errors.New("the extension's answer is too long")
	case json.Unmarshal(body, into) != nil:
		return errors.New("the extension's answer is not its JSON")
	}
	return nil
}
