package deny

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestDenyDocumentsThatAreRefused(t *testing.T) {
	for _, c := range []struct{ name, document, want string }{
		{"a good one", `{"v":1,"serial":3,"notBefore":{"*":"2026-01-01T00:00:00Z"},"clients":{"AAAAAAAAAAAAAAAA":"2026-01-01T00:00:00+02:00"},"users":{"http://localhost:5556/dex|a b|c":""},"families":{},"redirectHosts":{"::1":""},"keys":{"k":""}}`, ""},
		{"no version", `{"serial":1}`, "deny document: v must be 1"},
		{"another version", `{"v":2}`, "deny document: v must be 1"},
		{"no object", `[]`, "deny document: not a JSON object of this form, or a repeated member"},
		{"nothing", ``, "deny document: not a JSON object of this form, or a repeated member"},
		{"more behind it", `{"v":1}{}`, "deny document: not a JSON object of this form, or a repeated member"},
		{"an unknown member", `{"v":1,"hosts":{}}`, `deny document: unknown member "hosts"`},
		{"a member in another case", `{"v":1,"Clients":{}}`, `deny document: unknown member "Clients"`},
		{"a member twice", `{"v":1,"clients":{},"clients":{}}`, "deny document: not a JSON object of this form, or a repeated member"},
		{"an entry twice", `{"v":1,"keys":{"k":"","k":"2020-01-01T00:00:00Z"}}`, "deny document: not a JSON object of this form, or a repeated member"},
		{"a list", `{"v":1,"clients":["AAAAAAAAAAAAAAAA"]}`, "deny document: not a JSON object of this form, or a repeated member"},
		{"a time that is none", `{"v":1,"keys":{"k":"tomorrow"}}`, "deny document: not a JSON object of this form, or a repeated member"},
		{"a mark without a time", `{"v":1,"notBefore":{"*":"0001-01-01T00:00:00Z"}}`, `deny document: notBefore: "*" has no time`},
		{"a mark for a name", `{"v":1,"notBefore":{"wiki":"2026-01-01T00:00:00Z"}}`, `deny document: notBefore: "wiki" is neither * nor a public URL as "issuer" of the server's metadata writes it: no slash at its end, host in small letters, no default port, no query`},
		{"a mark for a URL with a slash", `{"v":1,"notBefore":{"https://mcp.localhost/":"2026-01-01T00:00:00Z"}}`, `deny document: notBefore: "https://mcp.localhost/" is neither * nor a public URL as "issuer" of the server's metadata writes it: no slash at its end, host in small letters, no default port, no query`},
		{"a mark for a host in capitals, which no server has", `{"v":1,"notBefore":{"https://MCP.localhost/wiki":"2026-01-01T00:00:00Z"}}`, `deny document: notBefore: "https://MCP.localhost/wiki" is neither * nor a public URL as "issuer" of the server's metadata writes it: no slash at its end, host in small letters, no default port, no query`},
		{"a mark with a default port", `{"v":1,"notBefore":{"https://mcp.localhost:443/wiki":"2026-01-01T00:00:00Z"}}`, `deny document: notBefore: "https://mcp.localhost:443/wiki" is neither * nor a public URL as "issuer" of the server's metadata writes it: no slash at its end, host in small letters, no default port, no query`},
		{"a mark with a query", `{"v":1,"notBefore":{"https://mcp.localhost/wiki?x":"2026-01-01T00:00:00Z"}}`, `deny document: notBefore: "https://mcp.localhost/wiki?x" is neither * nor a public URL as "issuer" of the server's metadata writes it: no slash at its end, host in small letters, no default port, no query`},
		{"a mark with another port", `{"v":1,"notBefore":{"http://mcp.localhost:443/wiki":"2026-01-01T00:00:00Z"}}`, ""},
		{"a client_id instead of its fingerprint", `{"v":1,"clients":{"https://claude.ai/oauth/mcp":""}}`, `deny document: clients: "https://claude.ai/oauth/mcp" cannot be one`},
		{"a user without a provider", `{"v":1,"users":{"ada":""}}`, `deny document: users: "ada" cannot be one`},
		{"a short family", `{"v":1,"families":{"abc":""}}`, `deny document: families: "abc" cannot be one`},
		{"a host in capitals", `{"v":1,"redirectHosts":{"Evil.example":""}}`, `deny document: redirectHosts: "Evil.example" cannot be one`},
		{"a URL for a host", `{"v":1,"redirectHosts":{"https://evil.example":""}}`, `deny document: redirectHosts: "https://evil.example" cannot be one`},
		{"a dot in front of a host", `{"v":1,"redirectHosts":{".evil.example":""}}`, `deny document: redirectHosts: ".evil.example" cannot be one`},
		{"a megabyte and a little", `{"v":1}` + strings.Repeat(" ", 1<<20), "deny document: larger than 1048576 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Parse([]byte(c.document))
			if c.want == "" && err != nil || c.want != "" && (err == nil || err.Error() != c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
	t.Run("more entries than the plugin takes", func(t *testing.T) {
		d := Document{Version: 1, Keys: Entries{}}
		for i := range 10_001 {
			d.Keys[fmt.Sprint("key-", i)] = Until{}
		}
		b, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Parse(b); err == nil || !strings.HasPrefix(err.Error(), "deny document: more than 10000 entries") {
			t.Errorf("error %v", err)
		}
	})
}

// A mistake is reported when the program starts, not when somebody must be kept out.
func TestPlacesOfADenyDocument(t *testing.T) {
	good, bad := filepath.Join(t.TempDir(), "good.json"), filepath.Join(t.TempDir(), "bad.json")
	for name, content := range map[string]string{good: `{"v":1,"serial":1}`, bad: `{"v":1,"serial":1`} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name, source string
		ok           bool
	}{
		{"a file", good, true}, {"the document itself", ` {"v":1,"serial":1}`, true}, {"an https URL", "https://revocations.example/deny.json", true}, {"http on this machine", "http://127.0.0.1:1/deny.json", true},
		{"a file that is not there", good + ".json", false}, {"a malformed file", bad, false}, {"a malformed document", `{"v":1`, false}, {"http elsewhere", "http://revocations.example/deny.json", false},
		{"another scheme", "s3://bucket/deny.json", false}, {"a malformed URL", "https://user:s3cr3t%zz@revocations.example/", false}, {"a directory", filepath.Dir(good), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := Open(c.source, nil); (err == nil) != c.ok || err != nil && strings.Contains(err.Error(), "s3cr3t") {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestDenyDocumentIsPruned(t *testing.T) {
	now := time.Unix(1790000000, 0)
	d := &Document{Version: 1, NotBefore: map[string]time.Time{"*": now.Add(-3650 * 24 * time.Hour)},
		Clients: Entries{"a": {}, "b": {Time: now}}, Users: Entries{"c": {Time: now.Add(time.Second)}}}
	if n := d.Prune(now); n != 1 || len(d.NotBefore) != 1 || len(d.Clients) != 1 || len(d.Users) != 1 {
		t.Errorf("%d removed: %+v", n, d)
	}
}

// Without the refusal, "mcpbouncer deny" would say that they are denied.
func TestDenyEntriesThatCanDenyNothingAreRefused(t *testing.T) {
	for name, document := range map[string]string{
		"a host with its port, as the consent page shows it": `"redirectHosts":{"localhost:33418":""}`,
		"a host with an empty label":                         `"redirectHosts":{"::::":""}`,
	} {
		if _, err := Parse([]byte(`{"v":1,"serial":1,` + document + `}`)); err == nil {
			t.Errorf("%s is taken: %s", name, document)
		}
	}
}

// In every spelling of a redirect URI or an entry, the address to which browsers go counts.
func TestDenyOfARedirectHostInEverySpelling(t *testing.T) {
	for _, c := range []struct {
		name, entry, uri string
		denied           bool
	}{
		{"as it is written", "93.184.216.34", "https://93.184.216.34/cb", true},
		{"decimal", "93.184.216.34", "https://1572395042/cb", true},
		{"hexadecimal", "93.184.216.34", "https://0x5db8d822/cb", true},
		{"hexadecimal in capitals", "93.184.216.34", "https://0X5DB8D822/cb", true},
		{"octal parts", "93.184.216.34", "https://0135.0270.0330.042/cb", true},
		{"mixed parts", "93.184.216.34", "https://0x5d.184.0330.34/cb", true},
		{"two parts", "93.184.216.34", "https://93.12113954/cb", true},
		{"three parts", "93.184.216.34", "https://93.184.55330/cb", true},
		{"leading zeros that change the number", "93.184.216.34", "https://093.184.216.34/cb", false},
		{"a trailing dot", "93.184.216.34", "https://93.184.216.34./cb", true},
		{"with a port", "93.184.216.34", "https://1572395042:8443/cb", true},
		{"a mapped address", "93.184.216.34", "https://[::ffff:93.184.216.34]/cb", true},
		{"a mapped address in hexadecimal", "93.184.216.34", "https://[::ffff:5db8:d822]/cb", true},
		{"another address", "93.184.216.34", "https://1572395043/cb", false},
		{"an entry in decimal", "1572395042", "https://93.184.216.34/cb", true},
		{"an entry that is a mapped address", "::ffff:5db8:d822", "https://93.184.216.34/cb", true},
		{"IPv6 in full", "2001:db8::1", "https://[2001:0DB8:0:0:0:0:0:1]/cb", true},
		{"an entry in full", "2001:db8:0:0:0:0:0:1", "https://[2001:db8::1]/cb", true},
		{"another IPv6 address", "2001:db8::1", "https://[2001:db8::2]/cb", false},
		{"a name that begins like a number", "93.184.216.34", "https://1572395042.example/cb", false},
		{"a name in capitals", "evil.example", "https://EVIL.example/cb", true},
		{"a name with a dot at its end", "evil.example", "https://evil.example./cb", true},
		{"a name with its default port", "evil.example", "https://evil.example:443/cb", true},
		{"a name below it", "evil.example", "https://a.b.evil.example/cb", true},
		{"a private-use scheme in capitals", "com.evil.app", "COM.evil.app:/cb", true},
		{"a private-use scheme's host in capitals", "evil.example", "com.evil.app://EVIL.example/cb", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, err := Parse(fmt.Appendf(nil, `{"v":1,"serial":1,"redirectHosts":{%q:""}}`, c.entry))
			if err != nil {
				t.Fatal(err)
			}
			u, err := url.Parse(c.uri)
			if err != nil {
				t.Fatal(err)
			}
			if d.RedirectHost(u, time.Now()) != c.denied {
				t.Errorf("denied %v", !c.denied)
			}
		})
	}
}

// A nil list stands for a sidecar without a deny document.
func TestDenyListThatIsNilDeniesNothing(t *testing.T) {
	var l *List
	d, err := l.Current(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	u := &url.URL{Scheme: "https", Host: "evil.example"}
	if d.Client("AAAAAAAAAAAAAAAA", time.Now()) || d.Key("k", time.Now()) || d.RedirectHost(u, time.Now()) || d.Login(Login{}, time.Now()) != "" {
		t.Errorf("%+v", d)
	}
}

// An entry may be a scheme, but not that of the web: a host may have its name.
func TestDenyOfASchemeDeniesNoWebAddress(t *testing.T) {
	d := &Document{RedirectHosts: Entries{"https": Until{}, "myapp": Until{}}}
	for address, want := range map[string]bool{"https://app.example/cb": false, "https://https/cb": true, "myapp:/cb": true} {
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		if d.RedirectHost(u, time.Unix(1790000000, 0)) != want {
			t.Errorf("%s: denied %v", address, !want)
		}
	}
}
