package issuer_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/mcpbouncer/mcpbouncer/issuer"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// created returns a client as `mcpbouncer client create` makes it.
func (w *world) created(method string, redirectURIs ...string) *app {
	w.t.Helper()
	info, err := issuer.RegisterClient(newRing(w.t, masterOne), w.id(w.wiki), nil, issuer.ClientMetadata{RedirectURIs: redirectURIs, TokenEndpointAuthMethod: method}, w.clock.Now())
	if err != nil {
		w.t.Fatal(err)
	}
	return &app{w: w, base: w.wiki.PublicURL, id: info.ClientID, secret: info.ClientSecret, basic: method == "client_secret_basic", redirect: redirectURIs[0], verifier: newVerifier(), state: "client-state"}
}

// The labels registration and allowedClients decide which clients come in; a machine is let in by
// whoever made it.
func TestClientRulesSayWhichClientsComeIn(t *testing.T) {
	const document = "https://app.example/client.json"
	clients := map[string]func(*world) *app{
		"registered": func(w *world) *app { return w.register(w.wiki.PublicURL, nil) },
		"document":   func(w *world) *app { return w.publish(document, nil) },
		"created":    func(w *world) *app { return w.created("none", callback) },
		"loopback": func(w *world) *app {
			return w.register(w.wiki.PublicURL, map[string]any{"redirect_uris": []string{"http://127.0.0.1:33418/cb"}, "token_endpoint_auth_method": "none"})
		},
	}
	for _, c := range []struct {
		name    string
		labels  func(*labels)
		come    string // the clients that come in
		because string // the log says this of the others
	}{
		{"no rule", func(*labels) {}, "registered document created loopback", ""},
		{"documents", func(l *labels) { l.Registration = "documents" }, "document created", "by the label registration: the client registered itself"},
		{"created", func(l *labels) { l.Registration = "created" }, "created", "by the label registration: the client was not made by"},
		{"a document", func(l *labels) { l.AllowedClients = []string{document} }, "document", "by the label allowedClients: no entry fits client:"},
		{"another document", func(l *labels) { l.AllowedClients = []string{"https://app.example/other.json"} }, "", "no entry fits"},
		{"the host of documents", func(l *labels) { l.AllowedClients = []string{"document:App.example"} }, "document", "no entry fits"},
		{"a part of the host", func(l *labels) { l.AllowedClients = []string{"document:example"} }, "", "no entry fits"},
		{"the host of redirect URIs", func(l *labels) { l.AllowedClients = []string{"redirect:app.example"} }, "registered document created", "redirect:127.0.0.1"},
		{"loopback", func(l *labels) { l.AllowedClients = []string{"redirect:127.0.0.1"} }, "loopback", "redirect:app.example"},
		{"either", func(l *labels) { l.AllowedClients = []string{"redirect:127.0.0.1", document} }, "document loopback", ""},
		{"both labels must hold", func(l *labels) { l.Registration, l.AllowedClients = "documents", []string{"redirect:127.0.0.1"} }, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			for name, make := range clients {
				w := newWorld(t, nil, nil)
				a := make(w)
				token := a.login().text("refresh_token")
				code := a.code()
				w.relabel(c.labels)
				if strings.Contains(" "+c.come+" ", " "+name+" ") {
					a.login()
					a.token(a.refreshment(token)).wants(t, 200, "")
					continue
				}
				// The page says so before anybody consents, and logins from before end.
				page := a.page()
				if page.Status != 400 || !strings.Contains(page.Body, "not one of those that may be used with this server") {
					t.Errorf("%s: the page %d: %s", name, page.Status, page.Body)
				}
				a.token(a.redemption(code)).wants(t, 400, "unauthorized_client")
				a.token(a.refreshment(token)).wants(t, 400, "unauthorized_client")
				if !strings.Contains(w.log.last(), c.because) {
					t.Errorf("%s: the log says %s, want %q", name, w.log.last(), c.because)
				}
			}
		})
	}
	w := newWorld(t, nil, func(w *world) {
		w.wiki.Registration, w.wiki.AllowedClients = "created", []string{"client:AAAAAAAAAAAAAAAA"}
	})
	machine := w.machine(issuer.Machine{Subject: "ci", Scope: "mcp:read mcp:write"}, "client_secret_basic", nil)
	machine.token(clientCredentials).wants(t, 200, "")
	a := w.created("client_secret_basic", callback)
	a.token(url.Values{"grant_type": {"refresh_token"}, "refresh_token": {"x"}}).wants(t, 400, "unauthorized_client")
	w.relabel(func(l *labels) { l.AllowedClients = []string{"client:" + sealing.Fingerprint(a.id)} })
	a.login()
}

// A server that takes no registrations says so, and its metadata does not offer them.
func TestRegistrationsAreRefusedWhereTheLabelsSaySo(t *testing.T) {
	body := `{"redirect_uris":["https://app.example/callback"],"token_endpoint_auth_method":"none"}`
	for _, c := range []struct {
		name                string
		labels              func(*labels)
		offers, reads       bool // registrations, documents
		status              int
		code, says, because string
	}{
		{"open", func(*labels) {}, true, true, 201, "", "", ""},
		{"documents", func(l *labels) { l.Registration = "documents" }, false, true, 403, "access_denied", "use the URL of a client metadata document", "the label registration is"},
		{"created", func(l *labels) { l.Registration = "created" }, false, false, 403, "access_denied", "its operator makes the clients", "the label registration is"},
		{"a host", func(l *labels) { l.AllowedClients = []string{"redirect:app.example"} }, true, true, 201, "", "", ""},
		{"another host", func(l *labels) { l.AllowedClients = []string{"redirect:other.example"} }, true, true, 400, "unauthorized_client", "not one of those", "by the label allowedClients"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil, func(w *world) { c.labels(&w.wiki) })
			r := w.do(newRequest(t, "POST", w.wiki.PublicURL+"/oauth/register", "application/json", body)).wants(t, c.status, c.code)
			if !strings.Contains(r.text("error_description"), c.says) || !strings.Contains(w.log.last(), c.because) {
				t.Errorf("%s; the log: %s", r.Body, w.log.last())
			}
			m := w.get(w.wiki.PublicURL+"/.well-known/oauth-authorization-server").wants(t, 200, "").JSON
			if (m["registration_endpoint"] != nil) != c.offers || m["client_id_metadata_document_supported"] != c.reads {
				t.Errorf("metadata: %v, %v", m["registration_endpoint"], m["client_id_metadata_document_supported"])
			}
		})
	}
}

// A registration with a host that is allowed and another cannot lead a code elsewhere.
func TestRedirectRulesMeanAllRedirectURIs(t *testing.T) {
	w := newWorld(t, nil, func(w *world) { w.wiki.AllowedClients = []string{"redirect:app.example"} })
	body := `{"redirect_uris":["https://app.example/callback","https://evil.example/callback"],"token_endpoint_auth_method":"none"}`
	w.do(newRequest(t, "POST", w.wiki.PublicURL+"/oauth/register", "application/json", body)).wants(t, 400, "unauthorized_client")
	for _, uri := range []string{"cursor://anysphere.cursor-mcp/oauth/callback", "https://app.example.evil.example/cb", "https://xapp.example/cb", "https://app.example@evil.example/cb"} {
		r := w.do(newRequest(t, "POST", w.wiki.PublicURL+"/oauth/register", "application/json", `{"redirect_uris":["`+uri+`"],"token_endpoint_auth_method":"none"}`))
		if r.Status == 201 {
			t.Errorf("%s was taken: %s", uri, r.Body)
		}
	}
	w.do(newRequest(t, "POST", w.wiki.PublicURL+"/oauth/register", "application/json", `{"redirect_uris":["https://APP.example:8443/callback"],"token_endpoint_auth_method":"none"}`)).wants(t, 201, "")
	w.relabel(func(l *labels) { l.AllowedClients = []string{"redirect:[::1]"} })
	w.do(newRequest(t, "POST", w.wiki.PublicURL+"/oauth/register", "application/json", `{"redirect_uris":["http://[::1]:33418/callback"],"token_endpoint_auth_method":"none"}`)).wants(t, 201, "")
}

// No stranger makes this server read a document whose client could not come in, whatever it says.
func TestDocumentsOfClientsThatMayNotComeAreNotRead(t *testing.T) {
	const document = "https://app.example/client.json"
	for _, c := range []struct {
		name   string
		labels func(*labels)
		read   bool
	}{
		{"created", func(l *labels) { l.Registration = "created" }, false},
		{"created, and the host of redirect URIs", func(l *labels) { l.Registration, l.AllowedClients = "created", []string{"redirect:app.example"} }, false},
		{"another document", func(l *labels) {
			l.AllowedClients = []string{"https://app.example/other.json", "client:AAAAAAAAAAAAAAAA"}
		}, false},
		{"another host", func(l *labels) { l.AllowedClients = []string{"document:other.example"} }, false},
		{"this document", func(l *labels) { l.AllowedClients = []string{document} }, true},
		{"its fingerprint", func(l *labels) { l.AllowedClients = []string{"client:" + sealing.Fingerprint(document)} }, true},
		{"the host of redirect URIs", func(l *labels) { l.AllowedClients = []string{"redirect:other.example"} }, true},
		{"documents", func(l *labels) { l.Registration = "documents" }, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil, func(w *world) { c.labels(&w.wiki) })
			a := w.publish(document, nil)
			page := a.page()
			token := a.token(a.refreshment("x"))
			if read := w.docs.count("") > 0; read != c.read {
				t.Errorf("read: %t", read)
			}
			if !c.read && (page.Status != 400 || !strings.Contains(page.Body, "not one of those that may be used") || token.text("error") != "unauthorized_client") {
				t.Errorf("%d %s; %s", page.Status, page.Body, token.Body)
			}
		})
	}
}
