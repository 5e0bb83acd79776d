package rig

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
)

// Extension is AWS's Parameters and Secrets Lambda Extension, with some secrets. Every environment
// of a Lambda has the same one here.
type Extension struct {
	port string

	mu     sync.Mutex
	values map[string]string // name or ARN → secret
	asked  []string
}

// StartExtension starts it without secrets.
func StartExtension(t T) *Extension {
	t.Helper()
	x := &Extension{values: map[string]string{}}
	server := httptest.NewServer(x)
	t.Cleanup(server.Close)
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatalf("rig: extension: %v", err)
	}
	x.port = u.Port()
	return x
}

// Hide takes the values of variables and leaves references in their place: a parameter's for the
// first, secrets' for the others.
func (x *Extension) Hide(env map[string]string, names ...string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	env["PARAMETERS_SECRETS_EXTENSION_HTTP_PORT"] = x.port
	for i, name := range names {
		at, reference := "/mcpbouncer/"+name, "ssm:"
		if i > 0 {
			at, reference = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:"+name+"-a1b2c3", "secretsmanager:"
		}
		x.values[at], env[name] = env[name], reference+at
	}
}

// Asked lists what was asked for, in order.
func (x *Extension) Asked() []string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.Clone(x.asked)
}

func (x *Extension) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x.mu.Lock()
	defer x.mu.Unlock()
	q := r.URL.Query()
	name := q.Get("name") + q.Get("secretId")
	x.asked = append(x.asked, name)
	value, ok := x.values[name]
	answer := map[string]any{"ARN": name, "SecretString": value}
	if r.URL.Path == "/systemsmanager/parameters/get" {
		answer = map[string]any{"Parameter": map[string]any{"Name": name, "Type": "SecureString", "Value": value}}
		ok = ok && q.Get("withDecryption") == "true" && strings.HasPrefix(name, "/")
	}
	if !ok || r.Header.Get("X-Aws-Parameters-Secrets-Token") != sessionToken {
		http.Error(w, "AccessDeniedException", http.StatusBadRequest)
		return
	}
	_ = json.NewEncoder(w).Encode(answer)
}
