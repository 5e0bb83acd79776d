package issuer_test

import (
	"context"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/mcpbouncer/mcpbouncer/issuer"
	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest"
)

// draft-ietf-oauth-client-id-metadata-document §3 says which URLs are a client_id. The others are
// never fetched.
func TestDocumentURLs(t *testing.T) {
	w := newWorld(t, nil, nil)
	for _, c := range []struct{ name, id, says string }{ // says: empty if it is one
		{"a plain URL", "https://app.example/client.json", ""},
		{"a port", "https://app.example:8443/client.json", ""},
		{"a query, which the draft discourages and allows", "https://app.example/client?v=1", ""},
		{"a slash at the end of a path", "https://app.example/client/", ""},
		{"a punycode host", "https://xn--bcher-kva.example/client.json", ""},
		{"three dots, which are no dot segment", "https://app.example/.../client.json", ""},
		{"http", "http://app.example/client.json", "not registered"},
		{"the scheme in capitals: another string, so another client", "HTTPS://app.example/client.json", "not registered"},
		{"http on this machine", "http://localhost/client.json", "not registered"},
		{"no path", "https://app.example", "must have a path"},
		{"no path but a slash, as the SDKs read it", "https://app.example/", "must have a path"},
		{"no path but a query", "https://app.example?client", "must have a path"},
		{"no host", "https:///client.json", "not an https URL"},
		{"an opaque one", "https:app.example/client.json", "not registered"},
		{"user information", "https://claude.ai@app.example/client.json", "user information"},
		{"user information and password", "https://a:b@app.example/client.json", "user information"},
		{"empty user information", "https://@app.example/client.json", "user information"},
		{"a fragment", "https://app.example/client.json#a", "not a plain URL"},
		{"an empty fragment, which url.Parse hides", "https://app.example/client.json#", "not a plain URL"},
		{"a dot segment", "https://app.example/./client.json", "dot segments"},
		{"two dots", "https://app.example/a/../client.json", "dot segments"},
		{"two dots at the end", "https://app.example/a/..", "dot segments"},
		{"encoded dots", "https://app.example/%2e%2e/client.json", "dot segments"},
		{"half-encoded dots", "https://app.example/.%2E/client.json", "dot segments"},
		{"an encoded slash", "https://app.example/a%2fclient.json", "encoded"},
		{"an encoded letter", "https://app.example/%63lient.json", "encoded"},
		{"a backslash, which browsers take for a slash", `https://app.example\client.json`, "not a plain URL"},
		{"a blank", "https://app.example/client .json", "not a plain URL"},
		{"a line break", "https://app.example/client.json\n", "not a plain URL"},
		{"a tab inside, which browsers drop", "https://app.exa\tmple/client.json", "not a plain URL"},
		{"a quote", `https://app.example/"client.json`, "not a plain URL"},
		{"a host in capitals", "https://APP.example/client.json", "plain form"},
		{"the default port", "https://app.example:443/client.json", "plain form"},
		{"an empty port", "https://app.example:/client.json", "empty port"},
		{"port 0", "https://app.example:0/client.json", "port from 1"},
		{"a port beyond 65535", "https://app.example:99999/client.json", "port from 1"},
		{"a dot at the end of the host", "https://app.example./client.json", "plain host"},
		{"a host of Cyrillic letters that looks like another", "https://\u0441laude.ai/client.json", "not a plain URL"},
		{"the same, percent-encoded, which url.Parse decodes", "https://%D1%81laude.ai/client.json", "plain ASCII"},
		{"something that looks like a slash behind another's host", "https://claude.ai%E2%88%95oauth.evil.example/client.json", "plain ASCII"},
		{"a comma in the host", "https://claude.ai,evil.example/client.json", "plain ASCII"},
		{"the default port with a zero before it", "https://app.example:0443/client.json", "plain form"},
		{"a port with a zero before it: each would be a host of its own", "https://app.example:08443/client.json", "plain form"},
		{"a zone in an address of IPv6", "https://[fe80::1%25eth0]/client.json", "plain ASCII"},
		{"letters beyond ASCII in the path", "https://app.example/clïent.json", "not a plain URL"},
		{"1,001 characters", "https://app.example/" + strings.Repeat("a", 981), "not a plain URL"},
		{"1,000 characters", "https://app.example/" + strings.Repeat("a", 980), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.t = t
			w.publish(c.id, nil)
			a := w.documentApp(c.id)
			before := w.docs.count("")
			p := a.page()
			checkPage(t, seen(p))
			if c.says == "" {
				if p.Status != 200 || w.docs.count(c.id) != 1 {
					t.Errorf("status %d, %d fetches: %s", p.Status, w.docs.count(c.id), p.Body)
				}
				return
			}
			if p.Status != 400 || p.Next() != "" || !strings.Contains(p.Body, c.says) {
				t.Errorf("status %d, want 400 and %q: %s", p.Status, c.says, p.Body)
			}
			a.token(a.refreshment("x")).wants(t, 401, "invalid_client")
			if w.docs.count("") != before {
				t.Error("it was asked for")
			}
		})
	}
}

// draft-ietf-oauth-client-id-metadata-document §4 says what a document must and must not contain.
func TestDocuments(t *testing.T) {
	ok, text := func(changes map[string]any) string { return mustJSON(t, documentMembers(documentURL, changes)) }, func(from, to string) string {
		good := mustJSON(t, documentMembers(documentURL, nil))
		out := strings.Replace(good, from, to, 1)
		if out == good {
			t.Fatalf("no %q in %s", from, good)
		}
		return out
	}
	set := func(name string, v any) string { return ok(map[string]any{name: v}) }
	public, private := jwks(rsaKey().Public(), ecKey().Public(), edKey().Public()), jwks(rsaKey().Public(), rsaKey())
	keyed := func(more map[string]any) string {
		m := map[string]any{"token_endpoint_auth_method": "private_key_jwt"}
		for name, v := range more {
			m[name] = v
		}
		return ok(m)
	}
	const wrongID, secret, method = "client_id is not its URL", "client_secret", "can only use none or private_key_jwt"
	for _, c := range []struct{ name, body, says string }{ // says: empty if accepted
		{"a good one", ok(nil), ""},
		{"unknown members, as Claude's jwt-bearer and others have", ok(map[string]any{"grant_types": []string{"urn:ietf:params:oauth:grant-type:jwt-bearer"}, "x": map[string]any{"y": []int{1}}, "logo_uri": "https://evil.example/logo.png", "contacts": nil}), ""},
		{"no authentication method", set("token_endpoint_auth_method", nil), ""},
		{"members with null", text(`"response_types":["code"]`, `"response_types":null,"jwks":null,"jwks_uri":null,"client_secret":null,"token_endpoint_auth_methods_supported":null`), ""},
		{"no client_id", set("client_id", nil), wrongID},
		{"another client_id", set("client_id", "https://evil.example/client.json"), wrongID},
		{"the client_id with a slash at the end", set("client_id", documentURL+"/"), wrongID},
		{"the client_id in another case: a simple string comparison", set("client_id", "https://APP.example/client.json"), wrongID},
		{"the client_id with its default port", set("client_id", "https://app.example:443/client.json"), wrongID},
		{"the client_id with an escaped slash, which JSON allows", text(`https://app.example/client.json`, `https:\/\/app.example\/client.json`), ""},
		{"a client_id that is no string", set("client_id", 1), "not one JSON object"},
		{"a client_secret", set("client_secret", "s"), secret},
		{"an empty client_secret", set("client_secret", ""), secret},
		{"a client_secret of another type", set("client_secret", 7), "not one JSON object"},
		{"client_secret_expires_at", set("client_secret_expires_at", 0), secret},
		{"client_secret_basic", set("token_endpoint_auth_method", "client_secret_basic"), method},
		{"client_secret_post", set("token_endpoint_auth_method", "client_secret_post"), method},
		{"client_secret_jwt", set("token_endpoint_auth_method", "client_secret_jwt"), method},
		{"client_secret_post, with none among the others", ok(map[string]any{"token_endpoint_auth_method": "client_secret_post", "token_endpoint_auth_methods_supported": []string{"none"}}), method},
		{"client_secret_post, with a key among the others", ok(map[string]any{"token_endpoint_auth_method": "client_secret_post", "token_endpoint_auth_methods_supported": []string{"private_key_jwt"}, "jwks": public}), method},
		{"only secrets in the list", ok(map[string]any{"token_endpoint_auth_method": nil, "token_endpoint_auth_methods_supported": []string{"client_secret_post"}}), method},
		{"a method that nobody knows", set("token_endpoint_auth_method", "magic"), method},
		{"a method that nobody knows, and none", ok(map[string]any{"token_endpoint_auth_method": "tls_client_auth", "token_endpoint_auth_methods_supported": []string{"tls_client_auth", "none"}}), ""},
		{"a key in the list and none as the preference", ok(map[string]any{"token_endpoint_auth_methods_supported": []string{"none", "private_key_jwt"}, "jwks": public}), ""},
		{"the same without a key: it can do without", ok(map[string]any{"token_endpoint_auth_methods_supported": []string{"none", "private_key_jwt"}}), ""},
		{"the same with keys at another host", ok(map[string]any{"token_endpoint_auth_methods_supported": []string{"none", "private_key_jwt"}, "jwks_uri": "https://evil.example/jwks.json"}), ""},
		{"only a key in the list, whatever the preference", ok(map[string]any{"token_endpoint_auth_methods_supported": []string{"private_key_jwt"}}), "needs either jwks or jwks_uri"},
		{"only secrets in the list, whatever the preference", ok(map[string]any{"token_endpoint_auth_methods_supported": []string{"client_secret_post"}}), method},
		{"an empty list, which is none", ok(map[string]any{"token_endpoint_auth_methods_supported": []string{}}), ""},
		{"a list that is text", set("token_endpoint_auth_methods_supported", "none"), "not one JSON object"},
		{"none in capitals", set("token_endpoint_auth_method", "NONE"), method},
		{"a key, inline", keyed(map[string]any{"jwks": public}), ""},
		{"a key, at a URL", keyed(map[string]any{"jwks_uri": "https://app.example/jwks.json"}), ""},
		{"a key, but none there", keyed(nil), "needs either jwks or jwks_uri"},
		{"keys in both places, RFC 7591 §2", keyed(map[string]any{"jwks": public, "jwks_uri": "https://app.example/jwks.json"}), "needs either jwks or jwks_uri"},
		{"a preferred key that is not there, and none", keyed(map[string]any{"token_endpoint_auth_methods_supported": []string{"none"}}), "needs either jwks or jwks_uri"},
		{"an empty key set beside a URL, as some servers write it", keyed(map[string]any{"jwks": map[string]any{}, "jwks_uri": "https://app.example/jwks.json"}), ""},
		{"an empty key set of who needs none", set("jwks", map[string]any{"keys": []any{}}), ""},
		{"keys of unknown kinds of who needs none", set("jwks", jwks(map[string]any{"kty": "AKP", "pub": "AAAA"})), ""},
		{"20 keys", keyed(map[string]any{"jwks": jwks(slices.Repeat([]any{edKey().Public()}, 20)...)}), ""},
		{"21 keys, each of which could be tried", keyed(map[string]any{"jwks": jwks(slices.Repeat([]any{edKey().Public()}, 21)...)}), "at most 20 keys"},
		{"an RSA key of 1,024 bits, RFC 7518 §3.3", keyed(map[string]any{"jwks": jwks(rsaOf(1024))}), "no key"},
		{"an RSA key of 4,096 bits", keyed(map[string]any{"jwks": jwks(rsaOf(4096))}), ""},
		{"an RSA key of 4,104 bits, whose signatures cost more and more to check", keyed(map[string]any{"jwks": jwks(rsaOf(4104))}), "no key"},
		{"an empty key set", keyed(map[string]any{"jwks": map[string]any{"keys": []any{}}}), "no key"},
		{"a key set that is none", keyed(map[string]any{"jwks": "keys"}), "not a JSON Web Key Set"},
		{"a private key", keyed(map[string]any{"jwks": private}), "not a public one"},
		{"a private key that is not used", ok(map[string]any{"jwks": private}), "not a public one"},
		{"a symmetric key", keyed(map[string]any{"jwks": map[string]any{"keys": []any{map[string]any{"kty": "oct", "k": "AAAA"}}}}), "not a public one"},
		{"a private key of an unknown kind", keyed(map[string]any{"jwks": map[string]any{"keys": []any{map[string]any{"kty": "AKP", "d": "AAAA"}}}}), "not a public one"},
		{"a private key of ML-DSA, RFC 9964", keyed(map[string]any{"jwks": jwks(map[string]any{"kty": "AKP", "alg": "ML-DSA-44", "pub": "AAAA", "priv": "AAAA"}, ecKey().Public())}), "not a public one"},
		{"a key of an unknown kind beside a good one, RFC 7517 §5", keyed(map[string]any{"jwks": jwks(map[string]any{"kty": "AKP", "alg": "ML-DSA-44", "pub": "AAAA"}, ecKey().Public())}), ""},
		{"only keys of unknown kinds", keyed(map[string]any{"jwks": jwks(map[string]any{"kty": "AKP", "pub": "AAAA"})}), "no key"},
		{"keys at another host", keyed(map[string]any{"jwks_uri": "https://evil.example/jwks.json"}), "on the host of the client_id"},
		{"keys at another port", keyed(map[string]any{"jwks_uri": "https://app.example:8443/jwks.json"}), "on the host of the client_id"},
		{"keys by http", keyed(map[string]any{"jwks_uri": "http://app.example/jwks.json"}), "on the host of the client_id"},
		{"keys at user information", keyed(map[string]any{"jwks_uri": "https://app.example@169.254.169.254/jwks.json"}), "on the host of the client_id"},
		{"no client_name, which MCP demands", set("client_name", nil), "no client_name"},
		{"a client_name that shows nothing", set("client_name", "\u200b\u202e "), "no client_name"},
		{"a client_name that is no string", set("client_name", []string{"a"}), "not one JSON object"},
		{"no redirect_uris", set("redirect_uris", nil), "redirect_uris"},
		{"empty redirect_uris", set("redirect_uris", []string{}), "redirect_uris"},
		{"only dangerous redirect_uris", set("redirect_uris", []string{"javascript:alert(1)", "http://evil.example/cb", "https://a@evil.example/"}), "redirect_uris"},
		{"redirect_uris that are no list", set("redirect_uris", callback), "not one JSON object"},
		{"51 redirect_uris", set("redirect_uris", manyURIs(51)), "at most 50"},
		{"50 redirect_uris", set("redirect_uris", manyURIs(50)), ""},
		{"a repeated member", text(`{`, `{"client_name":"Claude",`), "not one JSON object"},
		{"a repeated member of no meaning", text(`{`, `{"x":1,"x":2,`), "not one JSON object"},
		{"redirect_uris in capitals", text(`"redirect_uris"`, `"REDIRECT_URIS"`), "redirect_uris"},
		{"redirect_uris with a long s", text(`"redirect_uris"`, `"redirect_uri`+"\u017f"+`"`), "redirect_uris"},
		{"client_id in capitals beside the right one", text(`{`, `{"CLIENT_ID":"https://evil.example/",`), ""},
		{"a secret in capitals, which is an unknown member", text(`{`, `{"Client_Secret":"s",`), ""},
		{"a list", "[" + ok(nil) + "]", "not one JSON object"},
		{"null", "null", wrongID},
		{"something behind it", ok(nil) + "{}", "not one JSON object"},
		{"half of it", ok(nil)[:40], "not one JSON object"},
		{"a page", "<html>", "not one JSON object"},
		{"nothing", "", "not one JSON object"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil, nil)
			w.docs.put(documentURL, 200, c.body)
			a := w.documentApp(documentURL)
			p := a.page("redirect_uri", "")
			if c.name == "50 redirect_uris" {
				p = a.page()
			}
			if c.says == "" {
				if p.Status != 200 || !strings.Contains(p.Body, "<strong>app.example</strong>") {
					t.Errorf("status %d: %s", p.Status, p.Body)
				}
				return
			}
			if p.Status != 400 || !strings.Contains(p.Body, "cannot be accepted") || !strings.Contains(p.Body, c.says) || p.Next() != "" {
				t.Errorf("status %d, want 400 and %q: %s", p.Status, c.says, p.Body)
			}
			checkPage(t, seen(p))
			a.token(a.refreshment("x")).wants(t, 401, "invalid_client")
			if w.docs.count(documentURL) != 2 {
				t.Errorf("%d fetches, want one for each request: an invalid document is never kept", w.docs.count(documentURL))
			}
			w.publish(documentURL, nil)
			if p := a.page(); p.Status != 200 {
				t.Errorf("mended, and still status %d", p.Status)
			}
		})
	}
}

// rsaOf returns a public key of so many bits. Nobody knows its private key.
func rsaOf(bits int) *jose.JSONWebKey {
	n := new(big.Int).Lsh(big.NewInt(1), uint(bits-1))
	return &jose.JSONWebKey{Key: &rsa.PublicKey{N: n.SetBit(n, 0, 1), E: 65537}}
}

func manyURIs(n int) (uris []string) {
	for i := range n - 1 {
		uris = append(uris, fmt.Sprintf("https://app.example/%d", i))
	}
	return append(uris, callback)
}

// draft-ietf-oauth-client-id-metadata-document §5, §8.6 and §8.7 say how a document is fetched. A
// failed fetch says nothing about the client: the person is told so, and a client that redeems or
// refreshes is asked to come again. The error must not be invalid_client, at which SDKs throw away
// what they have.
func TestDocumentsThatCannotBeRead(t *testing.T) {
	good := mustJSON(t, documentMembers(documentURL, nil))
	spaces := func(n int) string { return good + strings.Repeat(" ", n-len(good)) }
	answer := func(status int, body string, headers ...string) func(*documentHosts) {
		return func(d *documentHosts) { d.put(documentURL, status, body, headers...) }
	}
	for _, c := range []struct {
		name      string
		host      func(*documentHosts)
		status    int // of the page; 200: it was read
		token     int
		tokenCode string
	}{
		{"a good answer", answer(200, good), 200, 400, "invalid_grant"},
		{"with a charset", answer(200, good, "Content-Type", "application/json; charset=utf-8"), 200, 400, "invalid_grant"},
		{"of a +json type", answer(200, good, "Content-Type", "application/oauth-client+json"), 200, 400, "invalid_grant"},
		{"of exactly 5 KB", answer(200, spaces(5<<10)), 200, 400, "invalid_grant"},
		{"of 5 KB and one byte", answer(200, spaces(5<<10+1)), 502, 503, "temporarily_unavailable"},
		{"without an end", func(d *documentHosts) {
			d.handle(documentURL, func(*http.Request) (*http.Response, error) {
				return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(endless{})}, nil
			})
		}, 502, 503, "temporarily_unavailable"},
		{"that breaks off", func(d *documentHosts) {
			d.handle(documentURL, func(*http.Request) (*http.Response, error) {
				return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(io.MultiReader(strings.NewReader(good), broken{}))}, nil
			})
		}, 502, 503, "temporarily_unavailable"},
		{"as a page, such as a bot check", answer(200, good, "Content-Type", "text/html"), 502, 503, "temporarily_unavailable"},
		{"compressed, which was not asked for", answer(200, good, "Content-Encoding", "gzip"), 502, 503, "temporarily_unavailable"},
		{"with the word that it is not compressed", answer(200, good, "Content-Encoding", "identity"), 200, 400, "invalid_grant"},
		{"as text", answer(200, good, "Content-Type", "text/plain"), 502, 503, "temporarily_unavailable"},
		{"of no type", answer(200, good, "Content-Type", ""), 502, 503, "temporarily_unavailable"},
		{"with 201", answer(201, good), 502, 503, "temporarily_unavailable"},
		{"with 203", answer(203, good), 502, 503, "temporarily_unavailable"},
		{"with 206", answer(206, good), 502, 503, "temporarily_unavailable"},
		{"with 301 to a good one", answer(301, good, "Location", "https://app.example/other.json"), 502, 503, "temporarily_unavailable"},
		{"with 302 to the metadata service", answer(302, "", "Location", "http://169.254.169.254/latest/meta-data/"), 502, 503, "temporarily_unavailable"},
		{"with 307", answer(307, "", "Location", "https://app.example/other.json"), 502, 503, "temporarily_unavailable"},
		{"with 401", answer(401, good), 502, 503, "temporarily_unavailable"},
		{"with 403, as bot checks do to data centres", answer(403, good), 502, 503, "temporarily_unavailable"},
		{"with 429", answer(429, good), 502, 503, "temporarily_unavailable"},
		{"with 500", answer(500, good), 502, 503, "temporarily_unavailable"},
		{"with 404: it is not there, which is an answer", answer(404, good), 400, 401, "invalid_client"},
		{"with 410", answer(410, good), 400, 401, "invalid_client"},
		{"no connection", func(d *documentHosts) { d.fail(documentURL) }, 502, 503, "temporarily_unavailable"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil, nil)
			w.docs.put("https://app.example/other.json", 200, good)
			c.host(w.docs)
			a := w.documentApp(documentURL)
			p := a.page()
			checkPage(t, seen(p))
			if p.Status != c.status || p.Next() != "" && c.status != 200 {
				t.Errorf("status %d, want %d: %s", p.Status, c.status, p.Body)
			}
			if c.status == 502 && !strings.Contains(p.Body, "cannot be read at the moment") || c.status == 400 && !strings.Contains(p.Body, "there is no such document") {
				t.Errorf("the page says %s", p.Body)
			}
			if log := w.log.String(); c.status != 200 && !strings.Contains(log, `"document":"`+documentURL+`"`) {
				t.Errorf("the log does not say whose document: %s", log)
			}
			got := a.token(a.refreshment("x")).wants(t, c.token, c.tokenCode)
			if n := strings.Count(w.log.String(), `"document":"`+documentURL+`"`); c.status != 200 && n != 2 {
				t.Errorf("the log does not say whose document: %s", w.log)
			}
			if (got.Header.Get("Retry-After") != "") != (c.token == 503) {
				t.Errorf("Retry-After %q", got.Header.Get("Retry-After"))
			}
			if c.status != 200 {
				if n := w.docs.count(documentURL); n != 2 {
					t.Errorf("%d fetches, want one for each request: failures are never kept", n)
				}
				w.publish(documentURL, nil)
				if p := a.page(); p.Status != 200 {
					t.Errorf("it is back, and still status %d", p.Status)
				}
			}
			if w.docs.count("https://app.example/other.json") != 0 || w.docs.count("http://169.254.169.254/latest/meta-data/") != 0 {
				t.Error("a redirect was followed")
			}
		})
	}
}

type endless struct{}

func (endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = ' '
	}
	return len(b), nil
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// The request is a plain one. Its deadline does not depend on the requests that wait for it.
func TestRequestForADocument(t *testing.T) {
	w := newWorld(t, nil, nil)
	good := w.publish(documentURL, nil)
	serve := w.docs.at[documentURL]
	var asked *http.Request
	ctx, hangUp := context.WithCancel(t.Context())
	w.docs.handle(documentURL, func(r *http.Request) (*http.Response, error) {
		if hangUp(); r.Context().Err() != nil {
			t.Error("who hangs up makes it fail for those who wait with them")
		}
		asked = r
		return serve(r)
	})
	r := newRequest(t, "GET", good.authorizeURL(), "", "").WithContext(ctx)
	r.Header.Set("Cookie", "a=b")
	r.Header.Set("Authorization", "Bearer x")
	w.do(r)
	deadline, ok := asked.Context().Deadline()
	if left := time.Until(deadline); !ok || left > 5*time.Second {
		t.Errorf("deadline %v in %v", ok, left)
	}
	if asked.Method != "GET" || asked.Body != nil || len(asked.Header) != 3 || asked.Header.Get("Accept") != "application/json" || asked.Header.Get("Accept-Encoding") != "identity" || asked.Header.Get("User-Agent") != "mcpbouncer" {
		t.Errorf("%s with %v", asked.Method, asked.Header)
	}
}

// If the operator switches documents off, clients are told to register, and no client's host is
// asked.
func TestDocumentsThatAreSwitchedOff(t *testing.T) {
	w := newWorld(t, nil, func(w *world) {
		w.config = func(c *issuer.Config) { c.MetadataDocuments = new(false) }
	})
	a := w.publish(documentURL, nil)
	vendor := w.documentApp("https://claude.ai/oauth/claude-code-client-metadata")
	vendor.redirect = "http://localhost/callback"
	for _, a := range []*app{a, vendor} {
		if p := a.page(); p.Status != 400 || !strings.Contains(p.Body, "this server reads no such documents") {
			t.Errorf("%s: status %d: %s", a.id, p.Status, p.Body)
		}
		// an error at which SDKs register
		if r := w.do(a.tokenRequest(a.refreshment("mbr1_x"))); r.Status != 401 || r.text("error") != "invalid_client" {
			t.Errorf("%s: %d %s", a.id, r.Status, r.Body)
		}
	}
	if w.docs.count("") != 0 {
		t.Error("a document was fetched")
	}
	if m := w.get(a.base + "/.well-known/oauth-authorization-server"); m.JSON["client_id_metadata_document_supported"] != false {
		t.Errorf("advertised: %s", m.Body)
	}
	if p := w.register(a.base, nil).page(); p.Status != 200 {
		t.Errorf("a client that registers: status %d", p.Status)
	}
}

// A request that no document could make valid does not cause a fetch.
func TestDocumentIsNotFetchedForARequestThatIsRefusedAnyway(t *testing.T) {
	w := newWorld(t, nil, nil)
	a := w.publish(documentURL, nil)
	for _, uri := range []string{"javascript:alert(1)", "http://evil.example/", "https://a@evil.example/", "https://app.example/#", "x"} {
		if p := a.page("redirect_uri", uri); p.Status != 400 || w.docs.count("") != 0 {
			t.Errorf("%s: status %d, %d fetches", uri, p.Status, w.docs.count(""))
		}
	}
	if p := a.page("redirect_uri", "https://evil.example/"); p.Status != 400 || w.docs.count("") != 1 {
		t.Errorf("an acceptable one that is not in the document: status %d", p.Status)
	}
}

// A document is kept for as long as RFC 9111 §4.2 says, between a minute and a day.
func TestDocumentIsKeptAsItsHeadersSay(t *testing.T) {
	const second, hour, day = time.Second, time.Hour, 24 * time.Hour
	date := func(d time.Duration) string { return issuertest.Start.Add(d).Format(http.TimeFormat) }
	for _, c := range []struct {
		name    string
		headers []string
		want    time.Duration
	}{
		{"no word: an hour", nil, hour},
		{"two hours", []string{"Cache-Control", "public, max-age=7200"}, 2 * hour},
		{"in capitals and quotes", []string{"Cache-Control", `MAX-AGE="7200"`}, 2 * hour},
		{"a second: a minute", []string{"Cache-Control", "max-age=1"}, time.Minute},
		{"nothing: a minute", []string{"Cache-Control", "max-age=0"}, time.Minute},
		{"no-store: a minute, or each login would make us ask", []string{"Cache-Control", "no-store, max-age=7200"}, time.Minute},
		{"no-cache", []string{"Cache-Control", "no-cache"}, time.Minute},
		{"no-store in a second line", []string{"Cache-Control", "max-age=7200", "Cache-Control", "no-store"}, time.Minute},
		{"a year: a day", []string{"Cache-Control", "max-age=31536000"}, day},
		{"a number beyond all bounds: a day", []string{"Cache-Control", "max-age=99999999999999999999"}, day},
		{"a negative number: a minute", []string{"Cache-Control", "max-age=-7200"}, time.Minute},
		{"no number: a minute", []string{"Cache-Control", "max-age=soon"}, time.Minute},
		{"an answer that was half-way old", []string{"Cache-Control", "max-age=7200", "Age", "3600"}, hour},
		{"an answer that was too old", []string{"Cache-Control", "max-age=7200", "Age", "7300"}, time.Minute},
		{"Expires", []string{"Expires", date(2 * hour), "Date", date(0)}, 2 * hour},
		{"Expires by another clock", []string{"Expires", date(50 * hour), "Date", date(48 * hour)}, 2 * hour},
		{"Expires without Date", []string{"Expires", date(2 * hour)}, 2 * hour},
		{"Expires in the past", []string{"Expires", date(-hour)}, time.Minute},
		{"Expires that is no date", []string{"Expires", "0"}, time.Minute},
		{"Expires against max-age, which wins", []string{"Expires", date(-hour), "Cache-Control", "max-age=7200"}, 2 * hour},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil, nil)
			w.docs.put(documentURL, 200, mustJSON(t, documentMembers(documentURL, nil)), c.headers...)
			a := w.documentApp(documentURL)
			for _, at := range []struct {
				after time.Duration
				want  int
			}{{0, 1}, {c.want - second, 1}, {second, 2}} {
				w.clock.Add(at.after)
				if p := a.page(); p.Status != 200 || w.docs.count(documentURL) != at.want {
					t.Errorf("status %d, %d fetches, want %d", p.Status, w.docs.count(documentURL), at.want)
				}
			}
		})
	}
}

// A document that was read, or a fetch that failed, while the clock was far ahead holds no longer
// than it would have with a right clock.
func TestDocumentThatWasReadWhenTheClockWasAhead(t *testing.T) {
	w := newWorld(t, nil, nil)
	slow := w.documentApp("https://slow.example/client.json")
	w.docs.handle(slow.id, func(*http.Request) (*http.Response, error) { return nil, timeout{errors.New("i/o timeout")} })
	a := w.publish(documentURL, nil)
	w.clock.Add(1000 * time.Hour)
	a.page()
	slow.page()
	w.clock.Add(-1000 * time.Hour)
	w.publish(documentURL, map[string]any{"client_name": "Another App"})
	for _, app := range []*app{a, w.publish(slow.id, map[string]any{"client_name": "Another App"})} {
		if p := app.page(); p.Status != 200 || !strings.Contains(p.Body, "Another App") {
			t.Errorf("%s: status %d: %s", app.id, p.Status, p.Body)
		}
	}
}

// "Verified" says that the document was read from its host, now or within the time for which the
// host lets it be kept. If something else serves in place of a document that cannot be read, the
// page says so.
func TestDocumentVerifiedIsWhatItsHostSaysNow(t *testing.T) {
	const vendor = "https://claude.ai/oauth/mcp-oauth-client-metadata"
	redirect := map[string]any{"redirect_uris": []string{"https://claude.ai/api/mcp/auth_callback"}, "client_name": "Claude"}
	w := newWorld(t, nil, nil)
	want := func(a *app, verified bool) {
		t.Helper()
		host := hostOfURL(t, a.id)
		p := a.page("redirect_uri", a.redirect)
		if p.Status != 200 || strings.Contains(p.Body, "Unverified") ||
			strings.Contains(p.Body, "Verified: <strong>"+host+"</strong>") != verified ||
			strings.Contains(p.Body, "Not verified at the moment: <strong>"+host+"</strong>") == verified {
			t.Errorf("verified should be %v: status %d: %s", verified, p.Status, p.Body)
		}
	}
	w.docs.fail(vendor)
	claude := w.documentApp(vendor)
	claude.redirect = "https://claude.ai/api/mcp/auth_callback"
	want(claude, false) // built-in knowledge serves
	w.clock.Add(time.Minute)
	w.publish(vendor, redirect)
	want(claude, true)
	w.docs.fail(vendor)
	want(claude, true) // within the life of its copy
	w.clock.Add(time.Hour)
	want(claude, false) // the last copy serves on
	want(claude, false) // and is not asked for again for a while
	w.clock.Add(25 * time.Hour)
	want(claude, false) // built-in knowledge again
	w.publish(vendor, redirect)
	w.clock.Add(time.Minute)
	want(claude, true)

	a := w.publish(documentURL, nil)
	want(a, true)
	w.docs.put(documentURL, 403, "")
	w.clock.Add(time.Hour)
	want(a, false)
}

func hostOfURL(t *testing.T, address string) string {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return u.Host
}

// The last good copy serves for a day beyond its time, and not an hour longer. A fetch that fails
// is not repeated at every request.
func TestDocumentWhoseLastGoodCopyServes(t *testing.T) {
	for _, c := range []struct {
		name  string
		fails func(*world)
		keeps bool
	}{
		{"its host is away", func(w *world) { w.docs.fail(documentURL) }, true},
		{"its host refuses us", func(w *world) { w.docs.put(documentURL, 403, "") }, true},
		{"a bot check stands there", func(w *world) { w.docs.put(documentURL, 200, "<html>", "Content-Type", "text/html") }, true},
		{"the document is broken", func(w *world) { w.docs.put(documentURL, 200, "{") }, true},
		{"the document names another client", func(w *world) { w.publish(documentURL, map[string]any{"client_id": "https://evil.example/x"}) }, true},
		{"it was withdrawn", func(w *world) { w.docs.put(documentURL, 404, "") }, false},
		{"it is gone", func(w *world) { w.docs.put(documentURL, 410, "") }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil, nil)
			a := w.publish(documentURL, nil)
			want := func(status, fetches int) {
				t.Helper()
				if p := a.page(); (p.Status == 200) != (status == 200) || w.docs.count(documentURL) != fetches {
					t.Fatalf("status %d, %d fetches, want %d and %d", p.Status, w.docs.count(documentURL), status, fetches)
				}
			}
			want(200, 1)
			c.fails(w)
			want(200, 1) // still fresh
			w.clock.Add(time.Hour)
			if !c.keeps {
				want(400, 2)
				w.docs.fail(documentURL)
				want(502, 3) // nor is there a copy any more
				return
			}
			want(200, 2)
			want(200, 2) // not again for 30 seconds
			w.clock.Add(29 * time.Second)
			want(200, 2)
			w.clock.Add(time.Second)
			want(200, 3)
			w.clock.Add(24*time.Hour - 31*time.Second)
			want(200, 4)
			w.clock.Add(time.Second)
			want(0, 5)
			want(0, 6)
			w.publish(documentURL, nil)
			want(200, 7)
			want(200, 7)
		})
	}
}

// The built-in knowledge of vendors' clients serves only when there is neither document nor copy.
func TestDocumentsOfVendorsThatCannotBeRead(t *testing.T) {
	for _, c := range []struct{ id, name, uri string }{
		{"https://claude.ai/oauth/claude-code-client-metadata", "Claude Code", "http://localhost:53127/callback"},
		{"https://claude.ai/oauth/claude-code-client-metadata", "Claude Code", "http://127.0.0.1:1/callback"},
		{"https://claude.ai/oauth/mcp-oauth-client-metadata", "Claude", "https://claude.ai/api/mcp/auth_callback"},
		{"https://vscode.dev/oauth/client-metadata.json", "Visual Studio Code", "http://127.0.0.1:53127/"},
		{"https://chatgpt.com/oauth/codex/client.json", "Codex", "http://127.0.0.1:53127/callback"},
		{"https://chatgpt.com/oauth/client.json", "ChatGPT", "https://chatgpt.com/connector_platform_oauth_redirect"},
		{"https://opencode.ai/oauth/opencode/client.json", "opencode", "http://127.0.0.1:53127/callback"},
	} {
		t.Run(c.id+" to "+c.uri, func(t *testing.T) {
			w := newWorld(t, nil, nil)
			u, _ := url.Parse(c.id)
			a := w.documentApp(c.id)
			a.redirect = c.uri
			shows := func(name string) {
				t.Helper()
				p := a.page()
				checkPage(t, seen(p))
				if p.Status != 200 || !strings.Contains(p.Body, "“"+name+"”") || !strings.Contains(p.Body, "<strong>"+u.Host+"</strong>") {
					t.Fatalf("status %d: %s", p.Status, p.Body)
				}
			}
			w.docs.put(c.id, 403, "")
			shows(c.name)
			if p := a.page("redirect_uri", "https://evil.example/callback"); p.Status != 400 {
				t.Errorf("another redirect URI: status %d", p.Status)
			}
			a.login()
			w.publish(c.id, map[string]any{"client_name": "Its Own Words", "redirect_uris": []string{c.uri}})
			shows("Its Own Words")
			w.docs.fail(c.id)
			w.clock.Add(2 * time.Hour)
			shows("Its Own Words") // a copy counts more than built-in knowledge
			w.clock.Add(30 * time.Hour)
			shows(c.name)
			w.docs.put(c.id, 404, "")
			if p := a.page(); p.Status != 400 {
				t.Errorf("withdrawn by its vendor: status %d", p.Status)
			}
			w.publish(c.id, map[string]any{"client_secret": "s"})
			if p := a.page(); p.Status != 400 {
				t.Errorf("a document that says something else: status %d", p.Status)
			}
		})
	}
	t.Run("nobody else is known", func(t *testing.T) {
		w := newWorld(t, nil, nil)
		for _, id := range []string{
			"https://claude.ai/oauth/other", "https://claude.ai.evil.example/oauth/claude-code-client-metadata", "https://evil.example/oauth/client.json",
			"https://chatgpt.com/other/client.json", "https://chatgpt.com/oauth/abc123/client.json", "https://chatgpt.com/oauth/codex/x/client.json", "https://chatgpt.com.evil.example/oauth/client.json", "https://claude.ai/oauth/claude-code-client-metadata/", "https://vscode.dev/oauth/client-metadata.json?x",
		} {
			if p := w.documentApp(id).page(); p.Status != 502 {
				t.Errorf("%s: status %d", id, p.Status)
			}
		}
	})
}

// The documents are as their vendors published them in 2026. The built-in knowledge that serves
// without them allows the same and no more.
func TestPublishedDocuments(t *testing.T) {
	for _, c := range []struct {
		document string
		allowed  []string // redirect URIs
		refused  []string // some more addresses of the same vendor
	}{
		{`{"client_id":"https://claude.ai/oauth/claude-code-client-metadata","client_name":"Claude Code","client_uri":"https://claude.ai","redirect_uris":["http://localhost/callback","http://127.0.0.1/callback"],"grant_types":["authorization_code","refresh_token"],"response_types":["code"],"token_endpoint_auth_method":"none"}`,
			[]string{"http://localhost:3118/callback", "http://127.0.0.1:52163/callback"}, []string{"https://claude.ai/api/mcp/auth_callback"}},
		{`{"client_id":"https://claude.ai/oauth/mcp-oauth-client-metadata","client_name":"Claude","client_uri":"https://claude.ai","redirect_uris":["https://claude.ai/api/mcp/auth_callback"],"grant_types":["authorization_code","refresh_token","urn:ietf:params:oauth:grant-type:jwt-bearer"],"response_types":["code"],"token_endpoint_auth_method":"none"}`,
			[]string{"https://claude.ai/api/mcp/auth_callback"}, []string{"https://claude.com/api/mcp/auth_callback", "http://localhost:3118/callback"}},
		{`{"client_name":"Visual Studio Code","logo_uri":"https://code.visualstudio.com/assets/branding/code-stable.png","grant_types":["authorization_code","refresh_token","urn:ietf:params:oauth:grant-type:device_code"],"response_types":["code"],"token_endpoint_auth_method":"none","application_type":"native","client_id":"https://vscode.dev/oauth/client-metadata.json","client_uri":"https://vscode.dev/product","redirect_uris":["http://127.0.0.1:33418/","https://vscode.dev/redirect"]}`,
			[]string{"http://127.0.0.1:33418/", "http://127.0.0.1:59656/", "https://vscode.dev/redirect"}, []string{"https://insiders.vscode.dev/redirect", "http://localhost:33418/"}},
		{`{"client_id":"https://chatgpt.com/oauth/client.json","client_uri":"https://chatgpt.com/","redirect_uris":["https://chatgpt.com/connector_platform_oauth_redirect"],"token_endpoint_auth_method":"private_key_jwt","token_endpoint_auth_methods_supported":["none","private_key_jwt"],"grant_types":["authorization_code","refresh_token"],"response_types":["code"],"client_name":"ChatGPT","logo_uri":"https://persistent.oaistatic.com/sonic/misc/openai-logo.png","token_endpoint_auth_signing_alg":"RS256","jwks_uri":"https://chatgpt.com/oauth/jwks.json"}`,
			[]string{"https://chatgpt.com/connector_platform_oauth_redirect"}, []string{"https://chatgpt.com/connector/oauth/abc"}},
		{`{"client_id":"https://opencode.ai/oauth/opencode/client.json","client_name":"opencode","client_uri":"https://opencode.ai","logo_uri":"https://opencode.ai/web-app-manifest-512x512.png","application_type":"native","redirect_uris":["http://127.0.0.1/callback","http://localhost/callback"],"grant_types":["authorization_code","refresh_token"],"response_types":["code"],"token_endpoint_auth_method":"none","token_endpoint_auth_methods_supported":["none"]}`,
			[]string{"http://127.0.0.1:19876/callback", "http://localhost:19876/callback"}, []string{"http://127.0.0.1:19876/mcp/oauth/callback"}},
	} {
		var members struct {
			ID   string `json:"client_id"`
			Name string `json:"client_name"`
		}
		if err := json.Unmarshal([]byte(c.document), &members); err != nil {
			t.Fatal(err)
		}
		for _, readable := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, readable: %v", members.Name, readable), func(t *testing.T) {
				w := newWorld(t, nil, nil)
				w.docs.put(members.ID, 403, "")
				if readable {
					w.docs.put(members.ID, 200, c.document)
				}
				for _, uri := range c.allowed {
					a := w.documentApp(members.ID)
					a.redirect = uri
					if p := a.page(); !strings.Contains(p.Body, "“"+members.Name+"”") {
						t.Errorf("%s: status %d: %s", uri, p.Status, p.Body)
					}
					a.login()
				}
				for _, uri := range c.refused {
					if p := w.documentApp(members.ID).page("redirect_uri", uri); p.Status != 400 || p.Next() != "" {
						t.Errorf("%s: status %d", uri, p.Status)
					}
				}
			})
		}
	}
}

// Requests for the same document share one fetch, and its failure.
func TestDocumentFetchIsSharedByAllWhoWait(t *testing.T) {
	for _, c := range []struct {
		name   string
		answer func(*http.Request) (*http.Response, error)
		status int
	}{
		{"a good one", nil, 200},
		{"a failure", func(*http.Request) (*http.Response, error) { return nil, errors.New("reset") }, 502},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil, nil)
			a := w.publish(documentURL, nil)
			serve := w.docs.at[documentURL]
			if c.answer != nil {
				serve = c.answer
			}
			release := make(chan struct{})
			w.docs.handle(documentURL, func(r *http.Request) (*http.Response, error) {
				<-release
				return serve(r)
			})
			w.get(w.wiki.PublicURL + "/oauth/jwks.json") // starts the replica
			const many = 40
			statuses := make(chan int, many)
			ask := func() { statuses <- w.get(a.authorizeURL()).Status }
			go ask()
			waitFor(t, "the first fetch", func() bool { return w.docs.count(documentURL) == 1 })
			for range many - 1 {
				go ask()
			}
			// One more request comes, which does not wait. The requests before it are in the queue
			// or will find the answer.
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if got := w.do(newRequest(t, "GET", a.authorizeURL(), "", "").WithContext(ctx)); got.Status != 502 {
				t.Errorf("who hung up got %d", got.Status)
			}
			if w.docs.count(documentURL) != 1 {
				t.Errorf("%d fetches while one is under way", w.docs.count(documentURL))
			}
			close(release)
			for range many {
				if got := <-statuses; got != c.status {
					t.Errorf("status %d, want %d", got, c.status)
				}
			}
			// A failure is not kept, so requests that came too late for the shared one may have
			// asked anew.
			if n := w.docs.count(documentURL); n != 1 && c.status == 200 {
				t.Errorf("%d fetches, want 1", n)
			}
		})
	}
}

// hanging makes a URL keep whoever asks until release is closed, and returns an application there.
func (w *world) hanging(address string, release chan struct{}) *app {
	w.docs.handle(address, func(*http.Request) (*http.Response, error) {
		<-release
		return nil, errors.New("too late")
	})
	return w.documentApp(address)
}

// Strangers who name hosts that hang hold up only one another. One host has few places, and the
// last places are kept for the hosts of well-known vendors and of the operator's network.
func TestDocumentFetchesAtTheSameTime(t *testing.T) {
	const trusted = "https://apps.internal/client.json"
	trust := func(w *world) {
		w.config = func(c *issuer.Config) { c.TrustedDocumentHosts = []string{"apps.internal:443", "apps.internal:8443"} }
	}
	for _, c := range []struct {
		name    string
		hanging []string
		asks    map[string]bool // another URL → whether there is a place for it
	}{
		{"four of one host",
			[]string{"https://slow.example/1", "https://slow.example/2", "https://slow.example/3", "https://slow.example/4"},
			map[string]bool{"https://slow.example/5": false, "https://slow.example:8443/5": true, "https://a.slow.example/5": true, "https://app.example/other.json": true}},
		{"twelve of twelve hosts",
			[]string{"https://1.example/a", "https://2.example/a", "https://3.example/a", "https://4.example/a", "https://5.example/a", "https://6.example/a", "https://7.example/a", "https://8.example/a", "https://9.example/a", "https://10.example/a", "https://11.example/a", "https://12.example/a"},
			map[string]bool{"https://app.example/other.json": false, "https://1.example/b": false, "https://claude.ai/oauth/mcp-oauth-client-metadata": true, "https://chatgpt.com/oauth/any/client.json": true, trusted: true, "https://apps.internal:8443/client.json": true, "https://apps.internal:9443/client.json": false, "https://x.claude.ai/a": false, "https://claude.ai:8443/a": false}},
		{"four of a vendor's host",
			[]string{"https://claude.ai/1", "https://claude.ai/2", "https://claude.ai/3", "https://claude.ai/4"},
			map[string]bool{"https://claude.ai/5": false, "https://chatgpt.com/oauth/client.json": true, "https://app.example/other.json": true}},
		{"all sixteen",
			[]string{"https://1.example/a", "https://2.example/a", "https://3.example/a", "https://4.example/a", "https://5.example/a", "https://6.example/a", "https://7.example/a", "https://8.example/a", "https://9.example/a", "https://10.example/a", "https://11.example/a", "https://12.example/a", "https://claude.ai/1", "https://claude.ai/2", "https://chatgpt.com/1", "https://vscode.dev/1"},
			map[string]bool{"https://app.example/other.json": false, "https://claude.ai/3": false, trusted: false}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil, trust)
			known := w.publish(documentURL, nil)
			if p := known.page(); p.Status != 200 {
				t.Fatal(p.Status)
			}
			release, done := make(chan struct{}), make(chan int, len(c.hanging))
			for i, address := range c.hanging {
				slow := w.hanging(address, release)
				go func() { done <- w.get(slow.authorizeURL()).Status }()
				waitFor(t, "the fetch of "+address, func() bool { return w.docs.count("") == 2+i })
			}
			for address, place := range c.asks {
				other := w.publish(address, nil)
				p := other.page()
				if asked := w.docs.count(address) == 1; asked != place || place != (p.Status == 200) {
					t.Errorf("%s: status %d, asked %v, want %v", address, p.Status, asked, place)
				}
			}
			if p := known.page(); p.Status != 200 {
				t.Errorf("a document that is known: status %d", p.Status)
			}
			close(release)
			for range c.hanging {
				if got := <-done; got != 502 {
					t.Errorf("status %d", got)
				}
			}
			for address := range c.asks {
				if p := w.documentApp(address).page(); p.Status != 200 {
					t.Errorf("afterwards %s: status %d", address, p.Status)
				}
			}
		})
	}
}

// timeout is the error of a connection that took too long.
type timeout struct{ error }

func (timeout) Timeout() bool   { return true }
func (timeout) Temporary() bool { return true }

// A host that hung is not asked again for 15 seconds, whatever the URL, because each request would
// hold a place for five of them. The rest says nothing about a document, so cached documents still
// serve. No stranger can put a vendor's host to rest.
func TestDocumentHostThatHungIsNotAskedForAWhile(t *testing.T) {
	slow := func(*http.Request) (*http.Response, error) { return nil, timeout{errors.New("i/o timeout")} }
	trickle := func(r *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(late{})}, nil
	}
	for _, c := range []struct {
		name, id string
		answer   func(*http.Request) (*http.Response, error)
		says     string // in the log
		pauses   bool
	}{
		{"no answer in time", documentURL, slow, "did not answer in time", true},
		{"half an answer in time", documentURL, trickle, "did not answer in time", true},
		{"a name that does not resolve in time", documentURL, func(*http.Request) (*http.Response, error) {
			return nil, &net.OpError{Op: "dial", Err: &net.DNSError{Err: "i/o timeout", IsTimeout: true}}
		}, "did not answer in time", true},
		{"a refused connection, which cost no time", documentURL, func(*http.Request) (*http.Response, error) { return nil, errors.New("connection refused") }, "cannot be reached", false},
		{"a vendor's host", "https://claude.ai/oauth/other", slow, "did not answer in time", false},
		{"a host of the operator's network", "https://apps.internal/client.json", slow, "did not answer in time", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil, func(w *world) {
				w.config = func(c *issuer.Config) { c.TrustedDocumentHosts = []string{"apps.internal:443"} }
			})
			u, _ := url.Parse(c.id)
			kept := w.publish(u.Scheme+"://"+u.Host+"/kept.json", nil)
			elsewhere := w.publish("https://else.example/client.json", nil)
			kept.page()
			w.docs.handle(c.id, c.answer)
			a := w.documentApp(c.id)
			if p := a.page(); p.Status != 502 || !strings.Contains(w.log.String(), c.says) {
				t.Fatalf("status %d: %s", p.Status, w.log)
			}
			asked := w.docs.count(c.id)
			other := w.publish(u.Scheme+"://"+u.Host+"/other.json", nil)
			w.clock.Add(14 * time.Second)
			for _, app := range []*app{a, other} {
				if p := app.page(); (p.Status == 200) != (app == other && !c.pauses) {
					t.Errorf("%s: status %d", app.id, p.Status)
				}
			}
			if again := w.docs.count(c.id) > asked; again == c.pauses {
				t.Errorf("asked again within 15 seconds: %v", again)
			}
			for _, app := range []*app{kept, elsewhere} {
				if p := app.page(); p.Status != 200 {
					t.Errorf("%s: status %d", app.id, p.Status)
				}
			}
			w.publish(c.id, nil)
			w.clock.Add(2 * time.Second)
			if p := a.page(); p.Status != 200 {
				t.Errorf("it is back, 16 seconds later: status %d: %s", p.Status, p.Body)
			}
		})
	}
}

// late is a body that stops in the middle.
type late struct{}

func (late) Read([]byte) (int, error) { return 0, timeout{errors.New("i/o timeout")} }

// A flood of documents displaces some cached documents, but never all at once. A fetch that fails
// displaces none.
func TestDocumentFlood(t *testing.T) {
	w := newWorld(t, nil, nil)
	kept := make([]*app, 50)
	for i := range kept {
		kept[i] = w.publish(fmt.Sprintf("https://app.example/%d", i), nil)
		kept[i].page()
	}
	for i := range 1200 {
		w.documentApp(fmt.Sprintf("https://evil.example/%d", i)).page()
	}
	fetches := w.docs.count("")
	for _, a := range kept {
		a.page()
	}
	if w.docs.count("") != fetches {
		t.Error("documents that are not there drove out those that are")
	}
	flood := make([]*app, 960)
	for i := range flood {
		flood[i] = w.publish(fmt.Sprintf("https://evil.example/good/%d", i), nil)
		flood[i].page()
	}
	fetches = w.docs.count("")
	for _, a := range kept {
		a.page()
	}
	if lost := w.docs.count("") - fetches; lost > 40 {
		t.Errorf("960 documents drove out %d of 50", lost)
	}
	fetches = w.docs.count("")
	for _, a := range append(kept, flood...) {
		a.page()
	}
	if again := w.docs.count("") - fetches; again < 10 {
		t.Errorf("%d of 1,010 documents were fetched again: more than 1,000 are kept", again)
	}
}

// FuzzDocument checks that no content of a URL makes the sidecar fail, and that an accepted
// document names itself and sends codes only to permitted addresses.
func FuzzDocument(f *testing.F) {
	w := newWorld(f, nil, func(w *world) { w.config = func(c *issuer.Config) { c.Log = slog.New(slog.DiscardHandler) } })
	a := w.documentApp(documentURL)
	for _, seed := range []map[string]any{nil, {"token_endpoint_auth_method": "private_key_jwt", "jwks": jwks(ecKey().Public())}, {"redirect_uris": []string{"http://127.0.0.1/cb", "x"}}, {"client_name": "<b>\u202e"}, {"jwks": map[string]any{"keys": []any{nil, 1}}}} {
		f.Add([]byte(mustJSON(f, documentMembers(documentURL, seed))), callback)
	}
	f.Add([]byte(`{"client_id":"https://app.example/client.json","redirect_uris":["javascript:alert(1)"],"client_name":"a"}`), "javascript:alert(1)")
	f.Fuzz(func(t *testing.T, body []byte, uri string) {
		w.t, w.replicas = t, nil
		w.docs.put(documentURL, 200, string(body))
		p := a.page("redirect_uri", uri)
		switch p.Status {
		case 400, 502:
			if p.Next() != "" {
				t.Fatalf("%q leads to %s", body, p.Next())
			}
			return
		case 200:
		default:
			t.Fatalf("%q gave %d: %s", body, p.Status, p.Body)
		}
		if !strings.Contains(string(body), "client_id") || strings.ContainsAny(uri, "<>\"\\ #") || uri != "" && !strings.Contains(uri, ":") {
			t.Fatalf("%q was accepted with %q", body, uri)
		}
		lower := strings.ToLower(uri)
		for _, bad := range []string{"javascript:", "data:", "vbscript:", "file:", "about:", "view-source:"} {
			if strings.HasPrefix(lower, bad) {
				t.Fatalf("%q was accepted with %q", body, uri)
			}
		}
		if strings.HasPrefix(lower, "http:") && !strings.HasPrefix(lower, "http://localhost") && !strings.HasPrefix(lower, "http://127.0.0.1") && !strings.HasPrefix(lower, "http://[::1]") {
			t.Fatalf("%q was accepted with %q", body, uri)
		}
	})
}

// xss are texts that an attacker might write where a name is expected.
var xss = []string{
	`<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `' onmouseover='alert(1)`, `</title><script>alert(1)</script>`, `</style><script>alert(1)</script>`,
	`{{.Style}}`, `javascript:alert(1)`, `<!--`, `--><b>`, `&lt;script&gt;`, `<svg/onload=alert(1)>`, `</form><form action="https://evil.example">`, `<base href=//evil.example>`, "Claude\u202egnp.exe", "a\x00b<b>",
}

// The consent page names the application by its host, which has been proven. What the document says
// of itself stays plain text.
func TestConsentPageOfADocument(t *testing.T) {
	for _, c := range []struct {
		name, id, shown, uri string
		warns                bool
	}{
		{"a program elsewhere", documentURL, "app.example", callback, false},
		{"a host with a port", "https://app.example:8443/client.json", "app.example:8443", callback, false},
		{"a host in punycode stays readable as what it is", "https://xn--clude-2ve.example/client.json", "xn--clude-2ve.example", callback, false},
		{"a program on this computer, which may be any", documentURL, "app.example", "http://127.0.0.1/cb", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil, nil)
			a := w.publish(c.id, map[string]any{"redirect_uris": []string{c.uri}, "logo_uri": "https://evil.example/logo.png", "client_uri": "https://evil.example"})
			a.redirect = c.uri
			p := a.page()
			checkPage(t, seen(p))
			if !strings.Contains(p.Body, "Verified: <strong>"+c.shown+"</strong>") || strings.Contains(p.Body, "Unverified") || !strings.Contains(p.Body, "“Test App”") {
				t.Errorf("the page says %s", p.Body)
			}
			if strings.Contains(p.Body, "program on your own computer") != c.warns || strings.Contains(p.Body, "evil.example") {
				t.Errorf("the warning, or something of the document's: %s", p.Body)
			}
		})
	}
	t.Run("a registration is not verified", func(t *testing.T) {
		w := newWorld(t, nil, nil)
		p := w.register(w.wiki.PublicURL, map[string]any{"redirect_uris": []string{callback}, "client_name": "claude.ai"}).page()
		if strings.Contains(p.Body, "Verified:") || !strings.Contains(p.Body, "Unverified: ") {
			t.Errorf("the page says %s", p.Body)
		}
	})
	for _, text := range xss {
		t.Run("names with "+text, func(t *testing.T) {
			w := newWorld(t, nil, func(w *world) { w.wiki.DisplayName = text })
			p := w.publish(documentURL, map[string]any{"client_name": text}).page()
			plain := newWorld(t, nil, nil).publish(documentURL, nil).page()
			if got, want := tags(p.Body), tags(plain.Body); !slices.Equal(got, want) {
				t.Errorf("tags %q, want %q", got, want)
			}
			heading := regexp.MustCompile(`<h1>Allow <bdi>“(.*)”</bdi> to use (.*) in your name\?</h1>`).FindStringSubmatch(p.Body)
			if heading == nil || strings.ContainsAny(heading[1]+heading[2], "<>\"'\u202e\x00") || heading[1] != heading[2] {
				t.Errorf("the heading is %q", heading)
			}
			if got, want := tags(w.errorPage(text).Body), tags(w.errorPage("x").Body); !slices.Equal(got, want) {
				t.Errorf("tags of the error page %q, want %q", got, want)
			}
		})
	}
}

// tags returns the tags of a page with the names of their attributes.
func tags(body string) []string {
	return regexp.MustCompile(`"[^"]*"`).Split(strings.Join(regexp.MustCompile(`<[^>]*>`).FindAllString(body, -1), ""), -1)
}

// errorPage returns the page that a stranger gets with this text in every parameter.
func (w *world) errorPage(text string) *issuertest.Page {
	q := url.Values{"client_id": {text}, "redirect_uri": {text}, "state": {text}, "scope": {text}, "resource": {text}}
	return issuertest.NewBrowser(w.t, w.net).Get(w.wiki.PublicURL + "/oauth/authorize?" + q.Encode())
}

// A logo is a picture in the page and nothing else.
func TestLogosStayPictures(t *testing.T) {
	for _, logo := range []string{
		"data:image/png;base64,iVBORw0KGgo=", `data:image/png" onerror="alert(1)`, `data:image/png'onerror='alert(1)`, `data:image/svg+xml,<svg onload="alert(1)"/>`,
		`data:image/png"><script>alert(1)</script>`, `data:image/,</style><script>alert(1)</script>`, "data:image/png,`${1}`", "data:image/png,{{.Style}}",
	} {
		t.Run(logo, func(t *testing.T) {
			w := newWorld(t, nil, func(w *world) { w.wiki.Logo = logo })
			p := w.register(w.wiki.PublicURL, nil).page()
			picture := regexp.MustCompile(`<img class="logo" src="(data:image/[^"<>]*)" alt="">`)
			if len(picture.FindAllString(p.Body, -1)) != 1 || strings.Count(p.Body, "<img") != 1 || strings.Contains(p.Body, "<script") || strings.Contains(p.Body, "<svg") {
				t.Errorf("the page has %q", regexp.MustCompile(`<img[^>]*>`).FindAllString(p.Body, -1))
			}
			policy := p.Header.Get("Content-Security-Policy")
			if !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "script-src") || !strings.HasSuffix(policy, "img-src data:") {
				t.Errorf("Content-Security-Policy %q", policy)
			}
		})
	}
}
