package e2e

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/contract"
	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
)

var (
	swarmLength = flag.Duration("swarm", 30*time.Second, "how long TestSwarm runs")
	swarmSeed   = flag.Uint64("seed", 0, "the seed of TestSwarm's schedule, as a run before has printed it; 0 makes one")
	swarmGuards = flag.String("guards", "redis", "the replay guards that TestSwarm runs with, one after the other: "+strings.Join(guardNames, ","))
)

const (
	swarmReplicas = 3
	swarmClients  = 12 // half of them at each tenant
)

// TestSwarm sets random clients on three replicas behind Traefik while everything breaks: replicas
// are killed, clocks are up to two minutes apart and jump, signing keys turn every minute, the
// master ring turns, store and provider fail. What each client was answered is then held against
// the contract, which decides alone what was right. So is what `mcpbouncer logins` makes of their
// logs.
//
//	go test -run TestSwarm -swarm 5m -guards none,memory,redis,dynamodb -seed 1 .
func TestSwarm(t *testing.T) {
	t.Parallel()
	seed := swarmSeedOf()
	for _, guard := range strings.Split(*swarmGuards, ",") {
		t.Run(guard, func(t *testing.T) {
			t.Logf("the schedule is that of -swarm %s -guards %s -seed %d", *swarmLength, guard, seed)
			s := newSwarm(t, guard, newSchedule(seed, *swarmLength, swarmClients, swarmReplicas))
			s.run()
			s.check()
			s.checkLogins()
		})
	}
}

func swarmSeedOf() uint64 {
	if *swarmSeed != 0 {
		return *swarmSeed
	}
	var b [8]byte
	_, _ = rand.Read(b[:])
	return uint64(binary.NativeEndian.Uint32(b[:]))
}

type swarm struct {
	t     *testing.T
	w     *rig.World
	guard guardKind
	schedule

	// whose assertions and workloads are believed; nil at others than Dex and exampleop
	enterprise *rig.Enterprise

	keys      bool        // half of the clients have a key that their tokens are bound to
	manner    *manner     // nil at Dex and exampleop
	providers []*mannered // of the tenants wiki and world, with manners
	record

	ring []string // masters, the one that seals first
}

func newSwarm(t *testing.T, guard string, schedule schedule) *swarm {
	return newSwarmWith(t, guard, schedule, true)
}

// newSwarmWith makes a swarm whose clocks can be set and half of whose clients have keys, or one
// without both: the version before has neither.
func newSwarmWith(t *testing.T, guard string, schedule schedule, today bool) *swarm {
	s := &swarm{t: t, schedule: schedule, guard: newGuardKind(t, guard), enterprise: rig.StartEnterprise(t), keys: today}
	// Dex keeps one refresh token for each person, so each of its clients is another one. It takes
	// a refresh token again for a minute: without that, no answer of the provider that is lost
	// could ever be made good.
	var users []any
	for i := range swarmClients {
		users = append(users, rig.DexUser(swarmUser(i), fmt.Sprintf("00000000-0000-0000-0000-%012d", i)))
	}
	env := map[string]string{
		"BOUNCER_ACCESS_TOKEN_TTL": "2m",
		// minutes: Options.Clocks
		"BOUNCER_KEY_ROTATION_DAYS": "1", "BOUNCER_KEY_OVERLAP_HOURS": "1",
	}
	maps.Copy(env, s.guard.env)
	company := optionsForEnterprise(s.enterprise)
	maps.Copy(env, company.Sidecar)
	labels := map[string]string{"jwksCacheTTLSeconds": "2", "wiki/refresh": "upstream", "wiki/upstreamCheckInterval": "10s"}
	if s.keys {
		labels["dpop"] = "accept"
	}
	for _, label := range []string{"enterpriseIssuers", "workloadIssuers"} {
		labels[label] = company.Labels[label]
	}
	if s.guard.shared {
		labels["world/exchange"] = "callback" // so that nobody but the guard counts codes
	}
	s.w = rig.New(t, rig.Options{
		Replicas: swarmReplicas, Clocks: today, Sidecar: env, Image: company.Image, Labels: labels,
		Dex: map[string]any{"staticPasswords": users, "expiry": map[string]any{"refreshTokens": map[string]any{"reuseInterval": "1m"}}},
	})
	s.ring = []string{s.w.Keys.Encryption}
	return s
}

func swarmUser(i int) string { return fmt.Sprintf("person-%d@example.com", i) }

// contract returns what was promised to a tenant's clients.
func (s *swarm) contract(tn *rig.Tenant) contract.Contract {
	c := contract.Contract{Guard: contract.None, Grace: time.Minute, Life: 24 * time.Hour, Claim: 15 * time.Second, Settle: 1500 * time.Millisecond}
	switch {
	case s.guard.shared:
		c.Guard = contract.Shared
	case s.guard.counts:
		c.Guard = contract.Memory
	}
	// exchange=auto redeems at the callback where a guard counts and a login may be refused:
	// because there is no refresh token, with refresh=upstream.
	c.CodesByGuard = s.guard.counts && (s.guard.shared || s.manner != nil || tn == s.w.Wiki)
	if s.manner != nil {
		c.Upstream, c.Interval = s.manner.upstream, checkedEvery[slices.Index(s.w.Tenants(), tn)]
	}
	return c
}

func (s *swarm) run() {
	s.begin()
	s.live()
}

func (s *swarm) live() {
	var clients, faults sync.WaitGroup
	for i, steps := range s.clients {
		tn := s.w.Tenants()[i%2]
		c := &swarmClient{swarm: s, tn: tn, oauth: tn.Client(), name: fmt.Sprintf("client-%d", i)}
		if s.keys && i%4 < 2 {
			c.oauth.Prover = rig.NewProver([]string{"ES256", "EdDSA"}[i%2])
		}
		switch {
		case s.manner != nil:
			c.who = s.person(i)
		case tn == s.w.Wiki:
			c.user = swarmUser(i)
		}
		clients.Go(func() { c.live(steps) })
	}
	if s.enterprise != nil {
		for i, p := range s.newPageless() {
			clients.Go(func() { p.live(s.pageless[i]) })
		}
	}
	faults.Go(func() {
		for _, f := range s.faults {
			s.waitUntil(f.At)
			s.breakOnce(f)
		}
	})
	faults.Wait()
	clients.Wait()
}

// breakOnce lets one thing go wrong, and writes down when.
func (s *swarm) breakOnce(f fault) {
	out := func(part contract.Part, breaks func()) {
		from := s.now()
		breaks()
		s.outage(contract.Outage{Part: part, From: from, To: s.now()})
	}
	last := func() { s.pause(f.For) }
	replica := s.w.Replicas[f.Replica]
	restart := func() {
		out(contract.Sidecar, func() {
			replica.Kill()
			last()
			replica.SetClock(f.Skew)
			replica.Start(nil)
		})
	}
	if s.manner != nil && s.breakProvider(f, out) {
		return
	}
	switch f.Do {
	case "kill":
		restart()
	case "clock":
		// whose grace is measured by the clock that nobody can set, which this program has not
		if s.guard.name == "memory" {
			restart()
		} else {
			replica.SetClock(f.Skew)
		}
	case "new master, unused": // as docs/secrets.md says: known everywhere before it seals anywhere
		s.ring = append(s.ring, rig.Keygen(s.t, s.w.Secrets).Encryption)
		s.turnRing(out)
	case "new master, used":
		s.ring[0], s.ring[1] = s.ring[1], s.ring[0]
		s.turnRing(out)
	case "kill the store":
		if s.guard.kill != nil {
			out(contract.Store, func() { s.guard.kill(); last(); s.guard.start() })
			if !s.guard.keeps {
				out(contract.Emptied, func() {})
			}
		}
	case "stall the store":
		if s.guard.stall != nil {
			out(contract.Store, func() { s.guard.stall(); last(); s.guard.wake() })
		}
	case "store full":
		if s.guard.fill != nil {
			out(contract.Store, func() { s.guard.fill(); last(); s.guard.drain() })
		}
	case "empty the store":
		if s.guard.empty != nil {
			out(contract.Emptied, s.guard.empty)
		}
	case "provider down":
		out(contract.Provider, func() {
			for _, tn := range s.w.Tenants() {
				tn.Provider.Fault(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }))
			}
			last()
			for _, tn := range s.w.Tenants() {
				tn.Provider.Fault(nil)
			}
		})
	case "provider closes idle connections": // not an outage: nobody may notice
		for _, tn := range s.w.Tenants() {
			tn.Provider.CloseIdleConnections()
		}
	default:
		s.t.Errorf("nobody knows how to make %q", f.Do)
	}
}

func (s *swarm) turnRing(out func(contract.Part, func())) {
	for _, r := range s.w.Replicas {
		out(contract.Sidecar, func() { r.Restart(map[string]string{"BOUNCER_ENCRYPTION_KEY": strings.Join(s.ring, ",")}) })
	}
}

// check holds the record against the contract, and against nothing having happened at all.
func (s *swarm) check() {
	var h contract.History
	for _, tn := range s.w.Tenants() {
		of := s.history(tn)
		h.Ops, h.Outages, h.Endings = append(h.Ops, of.Ops...), of.Outages, append(h.Endings, of.Endings...)
		broken := s.contract(tn).Check(of)
		for i, v := range broken {
			if i == 20 {
				s.t.Errorf("%s: and %d more", tn.Name, len(broken)-i)
				break
			}
			s.t.Errorf("%s: %s\n%s", tn.Name, v, s.detail(v.Op))
		}
		if dir := os.Getenv("E2E_LOGS"); dir != "" && len(broken) > 0 {
			_ = os.WriteFile(filepath.Join(dir, tn.Name+".history"), []byte(of.String()), 0o600)
		}
	}
	count := map[string]int{}
	for _, op := range h.Ops {
		what := string(op.Do)
		if op.Forged {
			what += " forged"
		}
		count[what+" "+string(op.Outcome)]++
	}
	s.t.Logf("%d operations in %d outages, %d times somebody was removed: %v", len(h.Ops), len(h.Outages), len(h.Endings), count)
	thieves := 0
	if s.guard.shared {
		thieves = 1 // was refused, and so was the owner afterwards
	}
	pageless, bound := 0, 0
	if s.enterprise != nil {
		pageless = 1
	}
	if s.keys {
		bound = 1
	}
	for _, least := range []struct {
		what string
		n    int
	}{
		{"login granted", swarmClients}, {"redeem granted", swarmClients}, {"redeem forged refused", 3}, {"refresh refused", 2 * thieves},
		{"refresh granted", 10 * swarmClients}, {"call granted", 5 * swarmClients}, {"refresh unanswered", 5},
		{"refresh forged refused", 2 * bound}, {"call forged refused", 5 * bound},
		{"assert granted", 10 * pageless}, {"assert refused", 2 * thieves * pageless}, {"assert forged refused", pageless},
		{"work granted", 10 * pageless}, {"work forged refused", pageless},
	} {
		if count[least.what] < least.n {
			s.t.Errorf("only %d times %s: the run proves nothing", count[least.what], least.what)
		}
	}
}

// record is what happened, under short names for what must not be printed.
type record struct {
	mu      sync.Mutex
	start   time.Time
	ops     map[*rig.Tenant][]contract.Op
	outages []contract.Outage
	endings map[*rig.Tenant][]contract.Ending
	names   map[string]string // :: code or token → its name in the record
	details map[string]string // :: operation → the answer
}

func (r *record) begin() {
	r.endings = map[*rig.Tenant][]contract.Ending{}
	r.start, r.ops, r.names, r.details = time.Now(), map[*rig.Tenant][]contract.Op{}, map[string]string{}, map[string]string{}
}

func (r *record) now() time.Duration { return time.Since(r.start) }

func (r *record) waitUntil(at time.Duration) { r.pause(at - r.now()) }

// pause follows the schedule; it does not wait for an event.
func (r *record) pause(d time.Duration) { <-time.After(d) }

// nameOf a code or token that must not be printed.
func (r *record) nameOf(kind, value string) string {
	if value == "" {
		return ""
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.names[value] == "" {
		r.names[value] = fmt.Sprintf("%s%d", kind, len(r.names)+1)
	}
	return r.names[value]
}

func (r *record) add(tn *rig.Tenant, op contract.Op, detail string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ops[tn] = append(r.ops[tn], op)
	r.details[op.String()] = detail
}

func (r *record) outage(o contract.Outage) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.outages = append(r.outages, o)
}

func (r *record) ending(tn *rig.Tenant, e contract.Ending) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.endings[tn] = append(r.endings[tn], e)
}

func (r *record) history(tn *rig.Tenant) contract.History {
	r.mu.Lock()
	defer r.mu.Unlock()
	return contract.History{Ops: r.ops[tn], Outages: r.outages, Endings: r.endings[tn]}
}

func (r *record) detail(op contract.Op) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.details[op.String()]
}

// swarmClient is a client with one login at a time.
type swarmClient struct {
	*swarm
	tn    *rig.Tenant
	oauth *rig.OAuthClient
	name  string
	thief bool   // has what a client holds, and not its key
	user  string // of the tenant's usual one when empty
	who   string // person at a provider with manners

	code      string
	flow      *rig.Flow
	refresh   string // the newest
	access    string
	accessOf  string   // the refresh token that it came with
	spent     []string // refresh tokens that were answered with another one, the oldest first
	loggedOut bool
}

// tokens are an answer of the token endpoint.
type tokens struct{ access, refresh string }

// A client repeats a request that was not answered, for longer than anything is out of order, and
// than the lease of a replica that died.
const (
	patience   = 90
	retryAfter = 250 * time.Millisecond
)

func (c *swarmClient) live(steps []step) {
	c.login(1)
	for _, step := range steps {
		c.waitUntil(step.At)
		if c.loggedOut {
			c.login(1)
		}
		switch step.Do {
		case "refresh":
			c.renew()
		case "refresh at once":
			c.atOnce(step.N, func() (contract.Outcome, *tokens) { return c.present(c.refresh, 0) })
			c.renew()
		case "refresh and hang up":
			c.present(c.refresh, step.Cut)
			c.renew()
		case "refresh, and again":
			used := c.refresh
			c.renew()
			c.present(used, 0)
		case "call":
			c.call()
		case "login":
			c.login(1)
		case "login, and redeem at once":
			c.login(step.N)
		case "login, and redeem again":
			c.login(1)
			c.redeem(c.flow)
			c.renew()
		case "is robbed":
			c.isRobbed()
			c.renew()
		case "call, and the same again":
			c.callAgain()
		case "is removed":
			c.isRemoved()
		case "replay":
			c.replay()
		case "revoke":
			c.revoke()
			c.renew()
		default:
			c.t.Errorf("nobody knows how to %q", step.Do)
		}
	}
	// Whatever happened, a client that was not logged out for cause is still in.
	if c.loggedOut {
		c.login(1)
	}
	c.renew()
	c.call()
}

// login logs in until there are tokens, with so many redemptions of the code at once.
func (c *swarmClient) login(redemptions int) {
	for range patience {
		if !c.authorize() {
			c.pause(retryAfter)
			continue
		}
		// a thief without the verifier spoils nothing
		c.redeem(&rig.Flow{Verifier: rig.NewVerifier()})
		got := c.atOnce(redemptions, func() (contract.Outcome, *tokens) { return c.redeem(c.flow) })
		outcome := contract.Unanswered
		for try := 0; got == nil && outcome == contract.Unanswered && try < patience; try++ {
			c.pause(retryAfter)
			outcome, got = c.redeem(c.flow)
		}
		if got != nil {
			c.refresh, c.spent, c.loggedOut = got.refresh, nil, false
			c.access, c.accessOf = got.access, got.refresh
			return
		}
	}
	c.t.Errorf("%s did not get in", c.name)
	c.loggedOut = true
}

// atOnce does the same several times at once, and returns tokens if there were any.
func (c *swarmClient) atOnce(n int, do func() (contract.Outcome, *tokens)) (got *tokens) {
	var all sync.WaitGroup
	answers := make([]*tokens, n)
	for i := range n {
		all.Go(func() { _, answers[i] = do() })
	}
	all.Wait()
	for _, answer := range answers {
		if answer != nil {
			got = answer
		}
	}
	return got
}

func (c *swarmClient) authorize() bool {
	browser := c.tn.Browser()
	if c.user != "" {
		browser.Username = c.user
	}
	if c.who != "" {
		c.signedIn(browser.Client.Jar)
	}
	op := contract.Op{Do: contract.Login, Value: c.name, Start: c.now(), Outcome: contract.Unanswered}
	c.flow = c.oauth.Begin()
	back, err := browser.Visit(c.t.Context(), c.flow.URL, c.oauth.Redirect)
	detail := fmt.Sprint(err)
	if err == nil {
		c.code, op.Outcome = back.Query().Get("code"), contract.Granted
		switch back.Query().Get("error") {
		case "":
		case "temporarily_unavailable", "server_error":
			op.Outcome = contract.Unanswered
		default:
			op.Outcome = contract.Refused
		}
		detail = back.Query().Get("error") + " " + back.Query().Get("error_description")
	}
	op.End = c.now()
	c.add(c.tn, op, detail)
	return op.Outcome == contract.Granted
}

// redeem presents the code with the verifier of a flow.
func (c *swarmClient) redeem(flow *rig.Flow) (contract.Outcome, *tokens) {
	return c.token(contract.Op{Do: contract.Redeem, Value: c.nameOf("code", c.code), Forged: flow != c.flow, Who: c.who}, 0, formHeader, url.Values{
		"grant_type": {"authorization_code"}, "code": {c.code}, "code_verifier": {flow.Verifier}, "client_id": {c.oauth.ClientID},
		"redirect_uri": {c.oauth.Redirect}, "resource": {c.oauth.Resource},
	})
}

// present presents a refresh token, and hangs up after some time if that is not 0.
func (c *swarmClient) present(token string, cut time.Duration) (contract.Outcome, *tokens) {
	return c.token(contract.Op{Do: contract.Refresh, Value: c.nameOf("token", token), Forged: c.thief}, cut, formHeader, url.Values{
		"grant_type": {"refresh_token"}, "refresh_token": {token}, "client_id": {c.oauth.ClientID}, "resource": {c.oauth.Resource},
	})
}

// renew does what a good client does: it presents its newest token until it has an answer.
func (c *swarmClient) renew() {
	for range patience {
		outcome, got := c.present(c.refresh, 0)
		switch {
		case outcome == contract.Refused:
			c.loggedOut = true
			return
		case got != nil:
			if got.refresh != "" && got.refresh != c.refresh {
				c.spent = append(c.spent, c.refresh)
				c.refresh = got.refresh
			}
			c.access, c.accessOf = got.access, c.refresh
			return
		}
		c.pause(retryAfter)
	}
}

// replay plays a thief with the oldest token of the login, after which at least one more was used.
func (c *swarmClient) replay() {
	for range 2 {
		if c.renew(); c.loggedOut {
			return
		}
	}
	if len(c.spent) > 1 {
		c.present(c.spent[0], 0)
		c.renew()
	}
}

// revoke ends the login where that can be done.
func (c *swarmClient) revoke() {
	if c.oauth.Meta.RevocationEndpoint == "" {
		return
	}
	op := contract.Op{Do: contract.Revoke, Value: c.nameOf("token", c.refresh)}
	c.ask(op, 0, http.MethodPost, c.oauth.Meta.RevocationEndpoint, formHeader, url.Values{
		"token": {c.refresh}, "token_type_hint": {"refresh_token"}, "client_id": {c.oauth.ClientID},
	})
}

// isRobbed lets a thief without the key have the newest tokens, and those of before. Without a key
// nobody could tell who is the thief.
func (c *swarmClient) isRobbed() {
	if c.oauth.Prover == nil {
		return
	}
	for _, prover := range []*rig.Prover{nil, rig.NewProver("ES256")} {
		thief, oauth := *c, *c.oauth
		oauth.Prover = prover
		thief.thief, thief.oauth = true, &oauth
		thief.call()
		thief.present(c.refresh, 0)
		if len(c.spent) > 0 {
			thief.present(c.spent[0], 0)
		}
	}
}

func (c *swarmClient) call() contract.Outcome {
	return c.callWith(c.oauth.Authorization(c.access), c.thief)
}

func (c *swarmClient) callWith(h http.Header, forged bool) contract.Outcome {
	op := contract.Op{Do: contract.Call, Value: c.nameOf("token", c.accessOf), Expires: c.expiry(c.access), Forged: forged}
	outcome, _ := c.ask(op, 0, http.MethodGet, c.oauth.Public+"/anything", h, nil)
	return outcome
}

// callAgain sends a request once more, proof and all. The call before it brings a nonce that the
// plugin takes.
func (c *swarmClient) callAgain() {
	if c.call() != contract.Granted || c.oauth.Prover == nil {
		return
	}
	h := c.oauth.Authorization(c.access)
	h.Set("DPoP", c.oauth.Prover.Proof(http.MethodGet, c.oauth.Public+"/anything", c.access))
	c.callWith(h, false)
	c.callWith(h, true)
}

// expiry returns the claim exp of an access token, as a time of the record.
func (c *swarmClient) expiry(token string) time.Duration {
	return time.Unix(c.claims(token).Expires, 0).Sub(c.start)
}

type swarmClaims struct {
	Expires int64  `json:"exp"`
	Login   string `json:"sid"`
}

func (c *swarmClient) claims(token string) (claims swarmClaims) {
	if parts := strings.Split(token, "."); len(parts) == 3 {
		payload, err := base64.RawURLEncoding.DecodeString(parts[1])
		if err == nil && json.Unmarshal(payload, &claims) == nil {
			return claims
		}
	}
	c.t.Errorf("%s has an access token that is no JWT", c.name)
	return swarmClaims{}
}

var formHeader = http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}

func (c *swarmClient) token(op contract.Op, cut time.Duration, h http.Header, form url.Values) (contract.Outcome, *tokens) {
	outcome, answer := c.ask(op, cut, http.MethodPost, c.oauth.Meta.TokenEndpoint, h, form)
	if outcome != contract.Granted {
		return outcome, nil
	}
	return outcome, &tokens{answer.Member("access_token"), answer.Member("refresh_token")}
}

// ask sends a request and writes down what came of it.
func (c *swarmClient) ask(op contract.Op, cut time.Duration, method, url string, h http.Header, form url.Values) (contract.Outcome, *rig.Answer) {
	ctx, cancel := c.t.Context(), func() {}
	if cut > 0 {
		ctx, cancel = context.WithTimeout(ctx, cut)
	}
	defer cancel()
	op.Cut, op.Start = cut > 0, c.now()
	answer, err := c.oauth.Try(ctx, method, url, h, []byte(form.Encode()))
	op.End = c.now()
	detail := fmt.Sprint(err)
	switch {
	case err != nil:
		op.Outcome = contract.Unanswered
	default:
		op.Process, detail = answer.Header.Get(rig.ProcessHeader), answer.String()
		switch {
		case answer.Status == http.StatusOK:
			op.Outcome, detail = contract.Granted, ""
			if access := answer.Member("access_token"); op.Do != contract.Call && op.Do != contract.Revoke {
				op.Gives = c.nameOf("token", answer.Member("refresh_token"))
				op.Login = c.claims(access).Login
				if op.Do == contract.Assert || op.Do == contract.Work {
					op.Expires = c.expiry(access)
				}
			}
		case answer.Status >= 500 || answer.Status == http.StatusTooManyRequests:
			op.Outcome = contract.Unanswered
		case op.Do == contract.Call && answer.Status == http.StatusUnauthorized,
			answer.Status == http.StatusBadRequest && answer.Member("error") == "invalid_grant",
			op.Forged && answer.Status == http.StatusBadRequest && answer.Member("error") == "invalid_dpop_proof":
			op.Outcome = contract.Refused
		default:
			op.Outcome = contract.Broken
		}
	}
	c.add(c.tn, op, detail)
	return op.Outcome, answer
}
