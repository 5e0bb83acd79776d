package main

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
)

// installation is one of which the processor time is known that others spend for it.
type installation struct {
	*rig.Installation
	// asked is the processor time of whom the sidecar asks: the store of its guard, or else its
	// provider.
	asked func() time.Duration
}

// install starts the sidecar of a side with a replay guard.
func (b *bench) install(s *side, guard string) *installation {
	in := &installation{}
	in.asked = func() time.Duration { return in.Provider.Usage(b.t).CPU }
	env := map[string]string{"BOUNCER_REPLAY_GUARD": guard}
	switch guard {
	case "redis":
		store := rig.StartRedis(b.t, &rig.Logs{}, "--appendfsync", "everysec")
		env["BOUNCER_REPLAY_GUARD"] = store.URL
		in.asked = func() time.Duration { return store.Usage().CPU }
	case "dynamodb":
		table := rig.StartDynamoDB(b.t, &rig.Logs{})
		env["BOUNCER_REPLAY_GUARD"] = table.URL
		in.asked = func() time.Duration { return table.Usage().CPU }
		for name, value := range table.Env {
			env[name] = value
		}
	}
	in.Installation = rig.StartInstallation(b.t, env)
	in.Replica.Replace(s.sidecar(b.t))
	answer, err := http.Get(in.Public + "/.well-known/oauth-authorization-server")
	if err != nil {
		b.t.Fatalf("%v", err)
	}
	answer.Body.Close()
	if answer.StatusCode == http.StatusForbidden { // it does not take the hop header
		in.SetPayload(complete(in.Payload()))
	}
	return in
}

// complete is the payload for builds before 2026-11-25, which want to be told everything, whether
// it has a value or not, and no version.
func complete(payload []byte) []byte {
	all := map[string]any{
		"requiredScopes": []string{}, "generation": 0, "displayName": "Wiki", "logo": "", "allowedEmails": []string{}, "allowedDomains": []string{},
		"allowedGroups": []string{}, "allowedSubjects": []string{}, "groupsClaim": "groups", "scopeRules": []string{}, "scopesSupported": []string{},
		"identityClaims": []string{}, "privateRedirectURIs": []string{}, "refresh": "auto",
	}
	_ = json.Unmarshal(payload, &all)
	delete(all, "v")
	payload, _ = json.Marshal(all)
	return payload
}

// request to the sidecar, as the plugin passes it on.
func (in *installation) request(method, path, contentType, body string) []byte {
	headers := []string{"X-Mcpb-Hop", in.HopHeader(), "User-Agent", "node", "Accept", "*/*", "X-Forwarded-For", "203.0.113.9"}
	if contentType != "" {
		headers = append(headers, "Content-Type", contentType)
	}
	return text(method, path, mcpHost, body, headers...)
}

func (in *installation) register() []byte {
	return in.request(http.MethodPost, "/oauth/register", "application/json",
		`{"client_name":"Load","redirect_uris":["http://127.0.0.1:33418/callback"],"grant_types":["authorization_code","refresh_token"],"response_types":["code"],"token_endpoint_auth_method":"none"}`)
}

// sidecarConnections are enough that the process never waits, and few enough that they share the
// machine. The cheaper an answer is, the more of them make a round.
const sidecarConnections, sidecarEach = 4, 250

// refresher refreshes one login on each connection. Each token is used once, as clients do: one
// that is presented again costs less.
type refresher struct {
	in       *installation
	clientID string
	tokens   [sidecarConnections]string
}

func newRefresher(t rig.T, in *installation) *refresher {
	r := &refresher{in: in}
	client := rig.NewOAuthClient(t, http.DefaultClient, in.Public)
	r.clientID = client.ClientID
	for w := range r.tokens {
		r.tokens[w] = client.Tokens(in.Browser()).Member("refresh_token")
	}
	return r
}

func (r *refresher) request(c int) []byte {
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {r.tokens[c]}, "client_id": {r.clientID}}.Encode()
	return r.in.request(http.MethodPost, "/oauth/token", "application/x-www-form-urlencoded", form)
}

func (r *refresher) took(c int, body []byte, status string) error {
	var answer struct {
		RefreshToken string `json:"refresh_token"`
	}
	if err := json.Unmarshal(body, &answer); err != nil || answer.RefreshToken == "" || answer.RefreshToken == r.tokens[c] {
		return fmt.Errorf("%s, or the same token again: %v", status, err)
	}
	r.tokens[c] = answer.RefreshToken
	return nil
}

var guards = []string{"none", "memory", "redis", "dynamodb"}

func (b *bench) sidecar() {
	names := []string{
		"sidecar/without a hop header", "sidecar/metadata", "sidecar/keys", "sidecar/register", "sidecar/login",
	}
	for _, guard := range guards {
		names = append(names, "sidecar/refresh, guard "+guard)
	}
	installed := map[string]map[*side]*installation{}
	refreshers := map[*installation]*refresher{}
	for i, guard := range guards {
		installed[guard] = map[*side]*installation{}
		for _, s := range b.sides {
			if guard == "none" || b.wants(names[5+i]) {
				in := b.install(s, guard)
				installed[guard][s], refreshers[in] = in, newRefresher(b.t, in)
			}
		}
	}
	clients := map[*side]*rig.OAuthClient{}
	for _, s := range b.sides {
		clients[s] = rig.NewOAuthClient(b.t, http.DefaultClient, installed["none"][s].Public)
	}
	b.turns(names, func(round, i int, s *side) {
		in := installed["none"][s]
		l := &load{addr: in.Replica.Addr, connections: sidecarConnections, each: 4 * sidecarEach}
		switch i {
		case 0:
			l.status = http.StatusForbidden
			l.request = func(int, int) []byte { return text(http.MethodGet, "/oauth/authorize", mcpHost, "") }
		case 1:
			l.status = http.StatusOK
			l.request = func(int, int) []byte {
				return in.request(http.MethodGet, "/.well-known/oauth-authorization-server", "", "")
			}
		case 2:
			l.status = http.StatusOK
			l.request = func(int, int) []byte { return in.request(http.MethodGet, "/oauth/jwks.json", "", "") }
		case 3:
			l.status = http.StatusCreated
			l.request = func(int, int) []byte { return in.register() }
		case 4:
			b.logins(s, names[i], round == 0, in, clients[s])
			return
		default:
			in = installed[guards[i-5]][s]
			r := refreshers[in]
			l.addr, l.each, l.status = in.Replica.Addr, sidecarEach, http.StatusOK
			l.request = func(c, _ int) []byte { return r.request(c) }
			l.body = func(c int, status string, body []byte) error { return r.took(c, body, status) }
		}
		asked := in.asked()
		b.loaded(s, names[i], round == 0, in.Replica.Usage, l)
		if round > 0 && i >= 7 { // the guards that have a store
			// the first request of each connection, which is not measured, is in it too
			b.note(s, names[i], "helper_us", float64((in.asked()-asked).Nanoseconds())/1000/(l.requests()+sidecarConnections))
		}
	})
	for i, guard := range guards {
		for s, in := range installed[guard] {
			if b.wants(names[5+i]) {
				b.note(s, names[5+i], "rss_mb", float64(in.Replica.Usage().RSS)/1e6)
			}
		}
	}
}

// logins are authorize, consent, callback and token, of four people at a time.
func (b *bench) logins(s *side, name string, warmUp bool, in *installation, client *rig.OAuthClient) {
	const each = 6
	before, asked := in.Replica.Usage(), in.asked()
	at := time.Now()
	_ = together(sidecarConnections, func(int) error {
		for range each {
			client.Tokens(in.Browser())
		}
		return nil
	})
	took, after := time.Since(at), in.Replica.Usage()
	if !warmUp {
		b.note(s, name, "helper_us", float64((in.asked()-asked).Nanoseconds())/1000/sidecarConnections/each)
		b.note(s, name, "cpu_us", float64((after.CPU-before.CPU).Nanoseconds())/1000/sidecarConnections/each)
		b.note(s, name, "per_second", sidecarConnections*each/took.Seconds())
	}
}

// strangers are those who never log in: 20,000 registrations, and as many requests of garbage. What
// they leave behind in the sidecar is memory, or nothing.
func (b *bench) strangers() {
	const times = 20_000
	for _, c := range []struct {
		name    string
		request func(in *installation, n int) []byte
		check   func(status int) bool
	}{
		{"strangers/20,000 registrations", func(in *installation, _ int) []byte { return in.register() },
			func(status int) bool { return status == http.StatusCreated }},
		{"strangers/20,000 requests of garbage", garbage,
			func(status int) bool { return status >= 400 && status < 500 }},
	} {
		for _, s := range b.sides {
			if !b.wants(c.name) {
				continue
			}
			in := b.install(s, "memory")
			l := &load{addr: in.Replica.Addr, connections: sidecarConnections, each: 2000}
			l.request = func(connection, i int) []byte { return c.request(in, i) }
			l.check = func(_, i int, answer *http.Response) error {
				if !c.check(answer.StatusCode) {
					return errors.New(answer.Status)
				}
				return nil
			}
			// Buffers and the garbage collector find their size, which takes some collections:
			// there is one in 1,500 requests or so.
			if _, err := l.run(); err != nil {
				b.t.Fatalf("%s: %v", c.name, err)
			}
			before := in.Replica.Usage()
			l.each = times / sidecarConnections
			b.loaded(s, c.name, false, in.Replica.Usage, l)
			b.note(s, c.name, "grown_mb", float64(in.Replica.Usage().RSS-before.RSS)/1e6)
			if err := in.Replica.WroteNothing(); err != nil {
				b.t.Fatalf("%s: %v", c.name, err)
			}
		}
	}
}

// garbage is what strangers send: hop headers that nobody sealed, and, through the plugin, clients,
// codes and tokens that nobody has.
func garbage(in *installation, n int) []byte {
	form := func(v url.Values) []byte {
		return in.request(http.MethodPost, "/oauth/token", "application/x-www-form-urlencoded", v.Encode())
	}
	switch n % 5 {
	case 0:
		return text(http.MethodGet, "/oauth/authorize", mcpHost, "", "X-Mcpb-Hop", "mbh1_"+rand.Text()+rand.Text())
	case 1:
		return form(url.Values{"grant_type": {"refresh_token"}, "refresh_token": {"mbr1_" + rand.Text()}, "client_id": {rand.Text()}})
	case 2:
		return form(url.Values{"grant_type": {"authorization_code"}, "code": {rand.Text()}, "client_id": {rand.Text()}, "code_verifier": {rand.Text()}})
	case 3:
		return in.request(http.MethodGet, "/oauth/authorize?response_type=code&client_id="+rand.Text()+"&redirect_uri=https://"+strings.ToLower(rand.Text())+".example/", "", "")
	default:
		return in.request(http.MethodPost, "/oauth/register", "application/json", `{"redirect_uris":["`+rand.Text()+`"]}`)
	}
}
