package issuer

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer/internal/packed"
	"github.com/mcpbouncer/mcpbouncer/issuer/provider"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// Each kind opens for the operator however old it is, says what it holds, and shows no secret.
func TestInspectOfEachKind(t *testing.T) {
	const mark = "sEcReT" // of each secret, from the fifth character on
	ring, err := sealing.ParseRing("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
	if err != nil {
		t.Fatal(err)
	}
	labels := sealing.Tenant{PublicURL: "https://mcp.localhost/wiki", Resource: "wiki", Audience: "wiki", UpstreamIssuer: "https://idp.example", UpstreamClientID: "c"}
	at := time.Unix(1_790_000_000, 0)
	config := Config{Ring: ring, RefreshTokenTTL: 30 * 24 * time.Hour, SessionTTL: 24 * time.Hour, RefreshIdleTTL: 14 * 24 * time.Hour, Now: func() time.Time { return at }}
	s := &Issuer{Config: config}
	tn := &tenant{id: labels.ID()}
	seal := func(kind sealing.Kind, context string, payload any) string {
		return s.seal(kind, tn, context, payload)
	}
	registered := seal(sealing.KindClient, "", registration{RedirectURIs: []string{"https://app.example/cb"}, Name: "App"})
	public := client{id: registered, registration: registration{RedirectURIs: []string{"https://app.example/cb"}, Name: "App"}}
	const document = "https://app.example/client.json"
	who := identity{Subject: "person-1", RefreshToken: packed.Text("upst" + mark + "-refresh-token-of-the-provider"), CheckedAt: at.Unix(), Email: "ada@example.com"}
	request := authorizationRequest{RedirectURI: "https://app.example/cb", State: "stat" + mark + "-of-the-client-which-is-long", Scope: "mcp", Resource: labels.PublicURL}
	seed := sealing.LoginSeed([]byte(mark + mark + mark + mark + mark + "!!"))
	login := grant{Identity: who, Scope: "mcp", Resource: labels.PublicURL, Born: at.Unix() - 3600, Step: 3}
	unchecked := login
	unchecked.Identity.RefreshToken = ""
	const boundToIt = "jkt=0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"
	thumbprint := decodeThumbprint(boundToIt[len("jkt="):])
	bound := login
	bound.Thumbprint = thumbprint
	hash := func(id string) string { return clientContext(sha256.Sum256([]byte(id))) }
	for _, c := range []struct {
		name   string
		kind   sealing.Kind
		value  string
		beside Beside
		want   string
		ends   time.Time
	}{
		{"a client", sealing.KindClient, registered, Beside{}, "redirect URI=https://app.example/cb authentication=none name=App", time.Time{}},
		{"a machine", sealing.KindClient, seal(sealing.KindClient, "", registration{AuthMethod: authBasic, Subject: "ci-bot"}), Beside{}, "machine=ci-bot scope=none authentication=client_secret_basic", time.Time{}},
		{"a consent", sealing.KindConsent, seal(sealing.KindConsent, "the-id", request), Beside{Consent: "the-id"}, "redirect URI=https://app.example/cb state=38 characters, the first are stat", time.Time{}},
		{"a login in progress", sealing.KindFlow, seal(sealing.KindFlow, "the-state", loginInProgress{request, seed}), Beside{State: "the-state"}, "seed=32 bytes", time.Time{}},
		{"a login whose consent was remembered", sealing.KindFlow, seal(sealing.KindFlow, "the-state", loginInProgress{authorizationRequest{Document: document, Consent: consentRemembered}, seed}), Beside{State: "the-state"}, "document=" + document + " consent=remembered", time.Time{}},
		{"a login whose consent is to be remembered", sealing.KindFlow, seal(sealing.KindFlow, "the-state", loginInProgress{authorizationRequest{Consent: consentToRemember}, seed}), Beside{State: "the-state"}, "consent=to be remembered", time.Time{}},
		{"a consent that a browser remembers", sealing.KindRemembered, seal(sealing.KindRemembered, hash(document), rememberedConsent{RedirectURI: "https://app.example/cb", Subject: "person-1", UpstreamToken: "scopes=repo"}), Beside{ClientID: document}, "redirect URI=https://app.example/cb scope=none resource= sub=person-1 given= upstreamToken=scopes=repo", time.Time{}},
		{"a code", sealing.KindCode, seal(sealing.KindCode, hash(registered), authorizationCode{RedirectURI: "https://app.example/cb", UpstreamCode: packed.Text("code" + mark + "-of-the-provider-long"), Seed: seed}), Beside{ClientID: registered}, "provider's code=31 characters, the first are code", time.Time{}},
		{"a code that is short at the provider", sealing.KindCode, seal(sealing.KindCode, hash(registered), authorizationCode{UpstreamCode: packed.Text(mark), Seed: seed}), Beside{ClientID: registered}, "provider's code=6 characters", time.Time{}},
		{"a code that the callback redeemed", sealing.KindCode, seal(sealing.KindCode, hash(document), authorizationCode{Identity: &who, Mark: []byte(mark), Seed: seed}), Beside{ClientID: document}, "provider's code=redeemed by the callback sub=person-1 provider's refresh token=40 characters, the first are upst", time.Time{}},
		{"a refresh token", sealing.KindRefresh, seal(sealing.KindRefresh, refreshContext(public), login), Beside{ClientID: registered}, "provider's refresh token=40 characters, the first are upst", at.Add(14 * 24 * time.Hour)},
		{"a refresh token of earlier builds", sealing.KindRefresh, seal(sealing.KindRefresh, hash(registered), login), Beside{ClientID: registered}, "step=3", at.Add(14 * 24 * time.Hour)},
		{"a refresh token of a document's client", sealing.KindRefresh, seal(sealing.KindRefresh, hash(document), login), Beside{ClientID: document}, "sub=person-1", at.Add(14 * 24 * time.Hour)},
		{"a login without checks", sealing.KindRefresh, seal(sealing.KindRefresh, hash(document), unchecked), Beside{ClientID: document}, "provider's refresh token=none", at.Add(23 * time.Hour)},
		{"a client that always proves a key", sealing.KindClient, seal(sealing.KindClient, "", registration{RedirectURIs: []string{"https://app.example/cb"}, DPoPBound: true}), Beside{}, "DPoP=always", time.Time{}},
		{"a consent for a key", sealing.KindConsent, seal(sealing.KindConsent, "the-id", authorizationRequest{Thumbprint: thumbprint}), Beside{Consent: "the-id"}, boundToIt, time.Time{}},
		{"a code for a key", sealing.KindCode, seal(sealing.KindCode, hash(document), authorizationCode{Thumbprint: thumbprint}), Beside{ClientID: document}, boundToIt, time.Time{}},
		{"a refresh token for a key", sealing.KindRefresh, seal(sealing.KindRefresh, hash(document), bound), Beside{ClientID: document}, boundToIt, at.Add(14 * 24 * time.Hour)},
		{"a client secret", sealing.KindSecret, provider.SealSecret(ring, labels.UpstreamIssuer, "c", "clie"+mark+"-and-more-than-24-characters", at), Beside{}, "client secret=38 characters, the first are clie", time.Time{}},
		{"a bearer key", sealing.KindBearer, seal(sealing.KindBearer, "", bearerKey{ID: [16]byte{1}, Subject: "ci-bot", Expires: at.Unix() + 60}), Beside{}, "key_id=AQAAAAAAAAAAAAAAAAAAAA subject=ci-bot scope=none", at.Add(time.Minute)},
	} {
		t.Run(c.name, func(t *testing.T) {
			later := config
			later.Now = func() time.Time { return at.Add(400 * 24 * time.Hour) }
			c.beside.Tenant = labels
			opened, err := later.Inspect(c.kind, c.beside, c.value)
			if err != nil || opened.Refused != "" || !opened.Ends.Equal(c.ends) {
				t.Fatalf("%+v %v, want the end %v", opened, err, c.ends)
			}
			said := ""
			for _, f := range opened.Facts {
				said += " " + f.Name + "=" + f.Value
			}
			if !strings.Contains(said, c.want) {
				t.Errorf("it says%s, want %s", said, c.want)
			}
			if text := fmt.Sprintf("%s %+v", said, opened); strings.Contains(text, mark[1:]) || strings.Contains(text, c.value) {
				t.Errorf("it shows a secret: %s", text)
			}
			// for nobody else, whatever the kind is bound to
			for name, other := range map[string]Beside{
				"tenant":  {Tenant: sealing.Tenant{PublicURL: "https://other.example"}, ClientID: c.beside.ClientID, Consent: c.beside.Consent, State: c.beside.State},
				"context": {Tenant: labels, ClientID: "x", Consent: "x", State: "x"},
			} {
				bound := name == "tenant" || c.kind == sealing.KindConsent || c.kind == sealing.KindFlow || c.kind == sealing.KindRemembered || c.kind == sealing.KindCode || c.kind == sealing.KindRefresh
				if _, err := later.Inspect(c.kind, other, c.value); bound && !errors.Is(err, sealing.ErrNotOpened) {
					t.Errorf("with another %s: %v", name, err)
				}
			}
		})
	}
}

// A registration that the rules of today refuse is explained, with the reason.
func TestInspectOfAClientThatIsRefused(t *testing.T) {
	ring, err := sealing.ParseRing("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
	if err != nil {
		t.Fatal(err)
	}
	c := Config{Ring: ring, Now: time.Now}
	id := (&Issuer{Config: c}).seal(sealing.KindClient, &tenant{id: sealing.Tenant{}.ID()}, "", registration{RedirectURIs: []string{"myapp:/cb"}})
	if opened, err := c.Inspect(sealing.KindClient, Beside{}, id); err != nil || opened.Refused == "" {
		t.Errorf("%+v %v", opened, err)
	}
	if opened, err := c.Inspect(sealing.KindClient, Beside{PrivateRedirectURIs: []string{"myapp:/cb"}}, id); err != nil || opened.Refused != "" {
		t.Errorf("with the label: %+v %v", opened, err)
	}
}

// Of a hop header, the client secret is the only member that is a secret; of a member that this
// version does not know nobody can say that it is not.
func TestInspectHopShowsNoSecret(t *testing.T) {
	const rest = `"v":1,"publicURL":"https://mcp.localhost/wiki","resource":"wiki","providerIssuer":"https://idp.example","clientID":"c"`
	for member, want := range map[string]string{
		`"clientSecret":"env:GOOGLE_SECRET"`:                        "clientSecret=env:GOOGLE_SECRET",
		`"clientSecret":"plain-sEcReT"`:                             "clientSecret=12 characters",
		`"clientSecret":"long-sEcReT-with-more-than-24-characters"`: "clientSecret=40 characters, the first are long",
		`"clientSecret":["sEcReT"]`:                                 "clientSecret=10 bytes",
		`"laterSecret":"sEcReT"`:                                    "laterSecret=8 bytes",
		`"logo":"data:image/png;base64,sEcReT"`:                     "logo=30 bytes",
		`"scopes":["openid",  "email"]`:                             `scopes=["openid","email"]`,
	} {
		facts, _, _ := InspectHop([]byte("{" + rest + "," + member + "}"))
		said := fmt.Sprint(facts)
		for _, f := range facts {
			said += " " + f.Name + "=" + f.Value
		}
		if !strings.Contains(said, want) || strings.Contains(said, "sEcReT") {
			t.Errorf("%s: %s", member, said)
		}
	}
	if facts, _, why := InspectHop([]byte("[]")); len(facts) != 0 || why == "" {
		t.Errorf("%v %q", facts, why)
	}
}
