package e2e

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
	"github.com/mcpbouncer/mcpbouncer/plugin"
)

// bench is one real provider with three sidecars before it, whose clocks the test sets: a and b
// keep no replay guard, so that neither knows what the other saw; memory has one. The plugin is
// compiled, in a proxy.
type bench struct {
	*testing.T
	p        *rig.RealProvider
	logs     *rig.Logs
	replicas map[string]*rig.Replica
	sidecars map[string]string // their URLs
	clock    atomic.Int64      // nanoseconds that the sidecars are ahead
	keys     rig.Keys
	hopFile  string
	mcp      *rig.MCPServer
	public   string
	handler  atomic.Pointer[http.Handler]
	mark     int // in what the wire has kept
	marks    map[string]int
}

const guarded, otherReplica, oneReplica = "memory", "b", "a"

func newBench(t *testing.T, start func(t rig.T, logs *rig.Logs, redirect string) *rig.RealProvider) *bench {
	b := &bench{T: t, logs: &rig.Logs{}, replicas: map[string]*rig.Replica{}, sidecars: map[string]string{}, mcp: rig.StartMCPServer(t, true), marks: map[string]int{}}
	t.Cleanup(func() {
		if t.Failed() {
			for _, name := range b.logs.Names() {
				t.Logf("the end of %s:\n%s", name, b.logs.Tail(name, 25))
			}
		}
	})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*b.handler.Load()).ServeHTTP(w, r) }))
	t.Cleanup(server.Close)
	b.public = strings.Replace(server.URL, "127.0.0.1", "localhost", 1) + "/wiki"
	b.p = start(t, b.logs, b.public+"/oauth/callback")
	b.keys = rig.Keygen(t, &rig.Secrets{})
	b.hopFile = filepath.Join(t.TempDir(), "hop")
	if err := os.WriteFile(b.hopFile, []byte(b.keys.Hop), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, guard := range map[string]string{oneReplica: "none", otherReplica: "none", guarded: "memory"} {
		b.replicas[name] = rig.StartClockReplica(t, b.logs, "sidecar-"+name, map[string]string{
			"BOUNCER_ENCRYPTION_KEY": b.keys.Encryption, "BOUNCER_REPLAY_GUARD": guard,
		}, nil)
		between := httptest.NewServer(b.later(b.replicas[name].Addr))
		t.Cleanup(between.Close)
		b.sidecars[name] = between.URL
	}
	// Some providers make their keys, and load half their code, at the first login, and a sidecar
	// does not wait that long.
	b.at(guarded, nil)
	_, _ = b.login(rig.Users[0])
	b.replicas[guarded].Restart(nil) // it may have found the provider silent
	return b
}

// later stands between the plugin, whose clock is that of this process, and a sidecar, whose clock
// the test sets: it makes each hop header anew with the sidecar's time, and the mark of the answer
// with the plugin's header.
func (b *bench) later(addr string) http.Handler {
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: addr})
			r.Out.Host = r.In.Host
			if payload, err := rig.OpenHop(b.keys.Hop, r.In.Header.Get("X-Mcpb-Hop")); err == nil {
				hop, _ := rig.SealHop(b.keys.Hop, time.Now().Add(time.Duration(b.clock.Load())), payload)
				r.Out.Header.Set("X-Mcpb-Hop", hop)
				*r.Out = *r.Out.WithContext(context.WithValue(r.Out.Context(), pluginsHop{}, r.In.Header.Get("X-Mcpb-Hop")))
			}
		},
		ModifyResponse: func(resp *http.Response) error {
			if hop, ok := resp.Request.Context().Value(pluginsHop{}).(string); ok && resp.Header.Get("X-Mcpb-Sidecar") != "" {
				mark := httptest.NewRecorder()
				rig.MarkAnswer(b.keys.Hop, mark, &http.Request{Header: http.Header{"X-Mcpb-Hop": {hop}}})
				resp.Header.Set("X-Mcpb-Sidecar", mark.Header().Get("X-Mcpb-Sidecar"))
			}
			return nil
		},
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := rig.Hold(r); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		proxy.ServeHTTP(w, r)
	})
}

// pluginsHop is the key of a context for the hop header that the plugin sent.
type pluginsHop struct{}

// at sends requests to one replica from now on, with labels laid over the usual ones.
func (b *bench) at(replica string, more map[string]string) {
	b.Helper()
	client := b.p.Clients[rig.BasicClient]
	labels := map[string]string{
		"providerIssuer": b.p.Issuer, "clientID": client.ID, "clientSecret": client.Secret, "resource": "wiki", "scopes": b.p.Scopes,
		"sidecarURL": b.sidecars[replica], "publicURL": b.public, "upstreamCheckInterval": "0s", "hopKeyFile": b.hopFile,
	}
	maps.Copy(labels, b.p.OAuth)
	maps.Copy(labels, b.p.Setting)
	maps.Copy(labels, more)
	config := plugin.CreateConfig()
	set, _ := json.Marshal(labels)
	if err := json.Unmarshal(set, config); err != nil {
		b.Fatal(err)
	}
	backend, err := url.Parse(b.mcp.URL)
	if err != nil {
		b.Fatal(err)
	}
	next := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(backend); r.SetXForwarded() }}
	handler, err := plugin.New(b.Context(), next, config, "mcpb-wiki")
	if err != nil {
		b.Fatal(err)
	}
	b.handler.Store(&handler)
}

// with returns the labels of a client that the provider knows, for the method at.
func (b *bench) with(kind string, more map[string]string) map[string]string {
	labels := map[string]string{"clientID": b.p.Clients[kind].ID, "clientSecret": b.p.Clients[kind].Secret}
	maps.Copy(labels, more)
	return labels
}

// tick lets a moment pass on all sidecars: a check in the second of the login does not count as a
// new one.
func (b *bench) tick(by time.Duration) {
	b.Helper()
	ahead := time.Duration(b.clock.Add(int64(by)))
	for _, r := range b.replicas {
		r.SetClock(ahead)
	}
}

// reset sets the clocks right: what the provider gives is over in an hour.
func (b *bench) reset() {
	b.Helper()
	b.tick(-time.Duration(b.clock.Load()))
}

// session is a login of a client.
type session struct {
	c       *rig.OAuthClient
	flow    *rig.Flow
	code    string
	access  string
	refresh string
}

// authorize takes a person to a code, or says why there is none.
func (b *bench) authorize(user string) (*session, string) {
	b.Helper()
	c := rig.NewOAuthClient(b, &http.Client{}, b.public)
	s := &session{c: c, flow: c.Begin()}
	back, err := b.p.Browser(user).Visit(b.Context(), s.flow.URL, c.Redirect)
	if err != nil {
		b.Logf("the browser: %v", err)
		return nil, "refused: no way back to the client"
	}
	if s.code = back.Query().Get("code"); s.code == "" {
		return nil, "refused: `" + back.Query().Get("error") + "`"
	}
	return s, ""
}

// login takes a person to tokens, or says why there are none.
func (b *bench) login(user string) (*session, string) {
	b.Helper()
	s, refused := b.authorize(user)
	if s == nil {
		return nil, refused
	}
	answer := s.c.Redeem(s.code, s.flow)
	if answer.Status != http.StatusOK {
		return nil, "refused: " + cameOf(answer)
	}
	s.access, s.refresh = answer.Member("access_token"), answer.Member("refresh_token")
	b.tick(2 * time.Second)
	return s, ""
}

// must is login, and fails the test if there is none.
func (b *bench) must(user string) *session {
	b.Helper()
	s, refused := b.login(user)
	if s == nil {
		b.Fatalf("login: %s\n%s", refused, b.evidence())
	}
	return s
}

// use presents the newest refresh token and says what came of it.
func (b *bench) use(s *session) string {
	b.Helper()
	answer := s.c.Refresh(s.refresh)
	if next := answer.Member("refresh_token"); next != "" {
		s.refresh = next
	}
	b.tick(2 * time.Second)
	return cameOf(answer)
}

const goesOn, bridged, ended = "goes on", "short token", "`invalid_grant`"

// cameOf returns an answer of the token endpoint in two words.
func cameOf(answer *rig.Answer) string {
	switch {
	case answer.Status == http.StatusOK && expiresIn(answer) > 420:
		return goesOn
	case answer.Status == http.StatusOK:
		return bridged
	case answer.Status == http.StatusBadRequest:
		return "`" + answer.Member("error") + "`"
	}
	return fmt.Sprintf("%d `%s`", answer.Status, answer.Member("error"))
}

// begin marks where evidence starts.
func (b *bench) begin() {
	b.mark = len(b.p.Wire.Kept(0))
	for _, name := range b.logs.Names() {
		b.marks[name] = len(b.logs.Text(name))
	}
}

// evidence returns what passed between the sidecars and the provider since then, and the logs.
func (b *bench) evidence() string {
	var all strings.Builder
	for _, x := range b.p.Wire.Kept(b.mark) {
		if x.Form.Has("grant_type") || x.Form.Has("token") {
			fmt.Fprintf(&all, "  %s %s %s → %d %.300s\n", x.Method, x.Path, x.Form.Get("grant_type"), x.Status, x.Answer)
		}
	}
	all.WriteString(b.said("WARN", "ERROR", "INFO"))
	return all.String()
}

// said returns what the sidecars have logged at these levels since begin.
func (b *bench) said(levels ...string) string {
	var all strings.Builder
	for _, r := range b.replicas {
		text := b.logs.Text(r.Name)
		for line := range strings.Lines(text[min(b.marks[r.Name], len(text)):]) {
			if slices.ContainsFunc(levels, func(level string) bool {
				return strings.Contains(line, `"level":"`+level+`"`) || strings.Contains(line, "level="+level)
			}) {
				all.WriteString("  " + r.Name + " " + line)
			}
		}
	}
	return all.String()
}

// asked returns the requests to the provider's token endpoint with this grant type since begin.
func (b *bench) asked(grant string) (of []rig.Exchange) {
	for _, x := range b.p.Wire.Kept(b.mark) {
		if x.Path == b.p.TokenPath && x.Form.Get("grant_type") == grant {
			of = append(of, x)
		}
	}
	return of
}

// situation is what may happen to a login, at any provider.
type situation struct {
	name string
	run  func(b *bench) string // what came of it; "" where the provider has nothing of the kind
}

var situations = []situation{
	{"login", func(b *bench) string {
		b.at(oneReplica, nil)
		s, refused := b.login(rig.Users[0])
		b.want("login", refused, "")
		if s == nil {
			return refused
		}
		if who := s.c.Get("/whoami", s.access); who.Status != http.StatusOK {
			return "then " + who.String()
		}
		if b.p.OAuth != nil {
			return "works"
		}
		answers := b.asked("authorization_code")
		return "works, " + algorithm(answers[len(answers)-1].Answer)
	}},
	{"refresh token by default", func(b *bench) string {
		plain := map[string]string{}
		for label := range b.p.Setting {
			plain[label] = ""
		}
		given := func(more map[string]string) string {
			b.begin()
			b.at(oneReplica, more)
			if _, refused := b.login(rig.Users[0]); refused != "" {
				return "login " + refused
			}
			answers := b.asked("authorization_code")
			if strings.Contains(string(answers[len(answers)-1].Answer), `"refresh_token"`) {
				return "yes"
			}
			return "no"
		}
		first := given(plain)
		if first == "yes" || len(b.p.Setting) == 0 {
			return first
		}
		return first + "; with the setting: " + given(nil)
	}},
	{"refresh", func(b *bench) string {
		b.at(oneReplica, nil)
		s := b.must(rig.Users[0])
		// Some refresh tokens are JWTs, whose times are whole seconds: two of one second are the
		// same.
		login := time.Now().Unix()
		rig.WaitWithin(b, 10*time.Second, "the next second", func() error {
			if time.Now().Unix() == login {
				return errors.New("it is the same")
			}
			return nil
		})
		var came []string
		for range 3 {
			came = append(came, b.use(s))
		}
		b.want("three refreshes", strings.Join(came, ", "), goesOn+", "+goesOn+", "+goesOn)
		how, id := "no new refresh token", "no id_token"
		for _, x := range b.asked("refresh_token") {
			var answer map[string]any
			_ = json.Unmarshal(x.Answer, &answer)
			if next, _ := answer["refresh_token"].(string); next != "" && next != x.Form.Get("refresh_token") {
				how = "a new one each time"
			}
			if answer["id_token"] != nil {
				id = "id_token too"
			}
		}
		return how + ", " + id
	}},
	{"ten refreshes at once", func(b *bench) string {
		b.at(guarded, nil)
		s := b.must(rig.Users[0])
		b.begin()
		got := map[string]int{}
		var next string
		for _, answer := range (&guardBench{T: b.T}).atOnce(10, func() *rig.Answer { return s.c.Refresh(s.refresh) }) {
			got[cameOf(answer)+answer.Member("refresh_token")]++
			next = answer.Member("refresh_token")
		}
		s.refresh = next
		asked := len(b.asked("refresh_token"))
		b.tick(2 * time.Second)
		then := b.use(s)
		b.want("different answers", fmt.Sprint(len(got)), "1")
		b.want("questions", fmt.Sprint(asked), "1")
		b.want("afterwards", then, goesOn)
		return fmt.Sprintf("%d question, %d answer", asked, len(got))
	}},
	{"a stolen refresh token, at another replica", func(b *bench) string {
		b.at(oneReplica, nil)
		s := b.must(rig.Users[0])
		thief := *s
		b.use(s)
		b.use(s)
		b.begin()
		b.at(otherReplica, nil)
		first := b.use(&thief)
		// once for each process and provider
		warned := strings.Contains(b.logs.Text("sidecar-"+otherReplica), "stolen refresh token")
		b.at(oneReplica, nil)
		owner := b.use(s)
		b.at(otherReplica, nil)
		later := first
		switch first {
		case goesOn:
			later = b.use(&thief)
		case bridged:
			later = b.overTwoHours(&thief)
		}
		if first == goesOn && !warned {
			b.Errorf("a stolen refresh token was accepted and nothing said\n%s", b.evidence())
		}
		said := ""
		if warned {
			said = ", with a warning"
		}
		if later != first {
			first += ", then " + later
		}
		return fmt.Sprintf("thief: %s%s; owner: %s", first, said, owner)
	}},
	{"a stolen refresh token after its owner revoked", func(b *bench) string {
		b.at(oneReplica, nil)
		s := b.must(rig.Users[0])
		thief := *s
		b.use(s)
		b.use(s)
		revoked := b.revoke(s)
		b.at(otherReplica, nil)
		b.begin()
		return "revocation: " + revoked + "; thief: " + b.overTwoHours(&thief)
	}},
	{"the provider's answer is lost", func(b *bench) string {
		b.at(oneReplica, nil)
		s, other := b.must(rig.Users[0]), b.must(rig.Users[0])
		var once sync.Once
		b.p.Wire.Fault(func(r *http.Request) (h http.Handler) {
			if r.URL.Path == b.p.TokenPath {
				once.Do(func() { h = b.p.Wire.Lose(b.p.Backend) })
			}
			return h
		})
		first := b.use(s)
		b.p.Wire.Fault(nil)
		if first != ended {
			b.tick(90 * time.Second)
			first += ", then " + b.use(s)
		}
		second := b.use(other)
		b.want("the person's other login", second, goesOn)
		return first + "; the person's other login: " + second
	}},
	{"two replicas at once", func(b *bench) string {
		b.at(oneReplica, nil)
		one := *b.handler.Load()
		b.at(otherReplica, nil)
		two := *b.handler.Load()
		s, other := b.must(rig.Users[0]), b.must(rig.Users[0])
		var n atomic.Int32
		var both http.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if n.Add(1)%2 == 0 {
				one.ServeHTTP(w, r)
			} else {
				two.ServeHTTP(w, r)
			}
		})
		b.handler.Store(&both)
		b.p.Wire.Fault(b.p.Wire.Together(b.p.TokenPath, b.p.Backend))
		good := 0
		for _, answer := range (&guardBench{T: b.T}).atOnce(2, func() *rig.Answer { return s.c.Refresh(s.refresh) }) {
			if answer.Status == http.StatusOK {
				good++
				if next := answer.Member("refresh_token"); next != "" {
					s.refresh = next
				}
			}
		}
		b.p.Wire.Fault(nil)
		b.at(oneReplica, nil)
		b.tick(90 * time.Second)
		return fmt.Sprintf("%d of 2 answered, then %s; the person's other login: %s", good, b.use(s), b.use(other))
	}},
	{"a code used twice, at another replica", func(b *bench) string {
		b.at(oneReplica, nil)
		s, refused := b.authorize(rig.Users[0])
		if s == nil {
			return refused
		}
		s.refresh = s.c.Redeem(s.code, s.flow).Member("refresh_token")
		b.tick(2 * time.Second)
		b.at(otherReplica, nil)
		second := cameOf(s.c.Redeem(s.code, s.flow))
		b.at(oneReplica, nil)
		b.want("the second use", second, ended)
		return second + "; the first login: " + b.use(s)
	}},
	{"revocation", func(b *bench) string {
		b.at(oneReplica, nil)
		s := b.must(rig.Users[0])
		revoked := b.revoke(s)
		return revoked + ", then " + b.overTwoHours(s)
	}},
	{"the person is removed", func(b *bench) string {
		var all []string
		for _, removal := range b.p.Remove {
			b.reset()
			b.at(oneReplica, nil)
			s := b.must(removal.User)
			b.use(s)
			removal.Do()
			all = append(all, removal.How+": "+b.overTwoHours(s))
		}
		return strings.Join(all, "; ")
	}},
	{"the provider starts again", func(b *bench) string {
		if b.p.Stop == nil {
			return ""
		}
		b.at(oneReplica, nil)
		s := b.must(rig.Users[0])
		b.p.Stop()
		away := b.use(s)
		b.p.Start()
		b.tick(10 * time.Second) // the pause after a silence
		back := b.use(s)
		b.want("while it is away", away, bridged)
		b.want("when it is back", back, goesOn)
		return away + ", then " + back
	}},
	{"its key set is yesterday's for a moment", func(b *bench) string {
		if b.p.OAuth != nil {
			return "" // it has none
		}
		b.at(oneReplica, nil)
		s := b.must(rig.Users[0])
		b.replicas[otherReplica].Restart(nil) // it has read no keys yet
		b.p.Wire.Fault(func(r *http.Request) http.Handler {
			if !keySets.MatchString(r.URL.Path) {
				return nil
			}
			return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				fmt.Fprint(w, yesterdaysKeys)
			})
		})
		b.at(otherReplica, nil)
		first := b.use(s)
		b.p.Wire.Fault(nil)
		b.tick(90 * time.Second)
		then := b.use(s)
		b.want("a moment later", then, goesOn)
		return first + ", then " + then
	}},
	{"its keys are rotated", func(b *bench) string {
		if b.p.RotateKeys == nil {
			return ""
		}
		b.at(oneReplica, nil)
		s := b.must(rig.Users[0])
		b.p.RotateKeys()
		first := b.use(s)
		b.tick(90 * time.Second)
		return first + ", then " + b.use(s)
	}},
	{"a secret with + / =", func(b *bench) string {
		if b.p.Clients[rig.SpecialClient].ID == "" {
			return ""
		}
		b.at(oneReplica, b.with(rig.SpecialClient, nil))
		_, refused := b.login(rig.Users[0])
		b.want("login", refused, "")
		if refused != "" {
			return "login " + refused
		}
		answers := b.asked("authorization_code")
		return "works, " + authentication(answers[len(answers)-1])
	}},
	{"a client for client_secret_post alone", func(b *bench) string {
		if b.p.Clients[rig.PostClient].ID == "" {
			return ""
		}
		tried := func(more map[string]string) string {
			b.begin()
			b.at(oneReplica, b.with(rig.PostClient, more))
			_, refused := b.login(rig.Users[0])
			if refused != "" {
				return "login " + refused
			}
			return "works"
		}
		plain := tried(nil)
		labelled := tried(map[string]string{"clientAuth": "post"})
		b.want("login with clientAuth=post", labelled, "works")
		if plain == "works" {
			return plain
		}
		return plain + "; with `clientAuth: post` " + labelled
	}},
	{"a client without a secret", func(b *bench) string {
		if b.p.Clients[rig.KeyClient].ID == "" {
			return ""
		}
		b.begin()
		b.at(oneReplica, b.with(rig.KeyClient, map[string]string{"clientAuth": "private_key_jwt"}))
		s := b.must(rig.Users[0])
		b.tick(20 * time.Second) // by so much the clocks of sidecar and provider may differ then
		used := b.use(s)
		b.want("a refresh", used, goesOn)
		return used
	}},
	{"the issuer with a wrong slash", func(b *bench) string {
		if b.p.OAuth != nil {
			return "" // no document says how it is spelt
		}
		other := b.p.Issuer + "/"
		if strings.HasSuffix(b.p.Issuer, "/") {
			other = strings.TrimSuffix(b.p.Issuer, "/")
		}
		b.at(oneReplica, map[string]string{"providerIssuer": other})
		if s, _ := b.login(rig.Users[0]); s != nil {
			b.Errorf("logged in with the issuer %s", other)
		}
		said := b.said("WARN", "ERROR", "INFO")
		b.Logf("wrong slash:\n%s", said)
		if !strings.Contains(said, b.p.Issuer) || !strings.Contains(said, other) {
			b.Errorf("the log does not name both %s and %s:\n%s", b.p.Issuer, other, said)
			return "the log does not say it"
		}
		return "the log names both"
	}},
	{"a scope that it does not know", func(b *bench) string {
		b.at(oneReplica, map[string]string{"scopes": b.p.Scopes + " wiki:admin", "requiredScopes": "wiki:admin"})
		s, refused := b.login(rig.Users[0])
		if s == nil {
			return refused
		}
		switch who := s.c.Get("/whoami", s.access); who.Status {
		case http.StatusForbidden:
			return "logged in, and may do nothing"
		case http.StatusOK:
			return "granted"
		default:
			return who.String()
		}
	}},
	{"e-mail", func(b *bench) string {
		b.at(oneReplica, map[string]string{"allowedEmails": "nobody@example.org"})
		if s, _ := b.login(rig.Users[0]); s != nil {
			b.Error("the wrong address is admitted")
		}
		b.at(oneReplica, map[string]string{"allowedEmails": b.p.Email})
		if s, _ := b.login(rig.Users[0]); s == nil {
			return "nobody vouches for it: no address is admitted"
		}
		return "vouched for"
	}},
	{"groups", func(b *bench) string {
		if b.p.Groups == "" {
			return "none"
		}
		b.at(oneReplica, map[string]string{"allowedGroups": "nobody"})
		if s, _ := b.login(rig.Users[0]); s != nil {
			b.Error("who is in the wrong group is admitted")
		}
		b.at(oneReplica, map[string]string{"allowedGroups": b.p.Groups})
		if _, refused := b.login(rig.Users[0]); refused != "" {
			b.want("a member", refused, "")
			return refused
		}
		return "`groups`, as `" + b.p.Groups + "`"
	}},
}

// want is Errorf with what passed, where something has an answer that is right everywhere.
func (b *bench) want(what, got, want string) {
	b.Helper()
	if got != want {
		b.Errorf("%s: %s, want %s\n%s", what, got, want, b.evidence())
	}
}

// revoke has the client revoke its refresh token.
func (b *bench) revoke(s *session) string {
	b.Helper()
	answer := s.c.Do(http.MethodPost, b.public+"/oauth/revoke", http.Header{"Content-Type": {"application/x-www-form-urlencoded"}},
		[]byte(url.Values{"token": {s.refresh}, "client_id": {s.c.ClientID}}.Encode()))
	b.tick(2 * time.Second)
	if answer.Status == http.StatusOK {
		return "done"
	}
	return cameOf(answer)
}

// overTwoHours uses a login that should be over: now, and where it is not, when the longest bridge
// has ended.
func (b *bench) overTwoHours(s *session) string {
	b.Helper()
	now := b.use(s)
	if now == ended || now == goesOn {
		return now
	}
	b.tick(110 * time.Minute)
	before := b.use(s)
	b.tick(20 * time.Minute)
	after := b.use(s)
	b.want("after more than two hours", after, ended)
	return fmt.Sprintf("%s, after 110 minutes %s, after 130 %s", now, before, after)
}

var keySets = regexp.MustCompile(`jwks|/keys$|/certs$`)

// yesterdaysKeys is the key of RFC 7517 appendix A.1.
const yesterdaysKeys = `{"keys":[{"kty":"RSA","use":"sig","alg":"RS256","kid":"yesterday","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw","e":"AQAB"}]}`

// algorithm returns the algorithm of the answer's id_token.
func algorithm(answer []byte) string {
	var tokens struct {
		ID string `json:"id_token"`
	}
	var header struct{ Alg string }
	_ = json.Unmarshal(answer, &tokens)
	first, _, _ := strings.Cut(tokens.ID, ".")
	raw, _ := base64.RawURLEncoding.DecodeString(first)
	_ = json.Unmarshal(raw, &header)
	return header.Alg
}

// authentication says how the sidecar authenticated.
func authentication(x rig.Exchange) string {
	switch {
	case strings.HasPrefix(x.Authorization, "Basic "):
		return "by Basic"
	case x.Form.Has("client_secret"):
		return "in the body"
	case x.Form.Has("client_assertion"):
		return "by a key"
	}
	return "by nothing"
}
