package main

import (
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// whoLog is a log of two servers of one provider, and one of another.
func whoLog(t *testing.T, prefix string) (log string, wiki, world sealing.TenantID) {
	t.Helper()
	var b strings.Builder
	for _, tn := range []struct {
		name, provider string
		id             *sealing.TenantID
	}{{"wiki", "https://sso.example", &wiki}, {"world", "https://sso.example", &world}, {"files", "https://other.example", new(sealing.TenantID)}} {
		public := "https://mcp.localhost/" + tn.name
		*tn.id = sealing.Tenant{PublicURL: public, Resource: tn.name, Audience: tn.name, UpstreamIssuer: tn.provider, UpstreamClientID: "id"}.ID()
		fmt.Fprintf(&b, "%s{\"time\":\"2026-11-30T06:00:00Z\",\"level\":\"WARN\",\"msg\":\"who may come in\",\"tenant\":%q,\"issuer\":%q,\"who\":\"everybody\",\"provider\":%q,\"tenant_id\":%q}\n",
			prefix, tn.name, public, tn.provider, hex.EncodeToString(tn.id[:]))
	}
	return b.String(), wiki, world
}

func ringOf(t *testing.T, secrets ...string) *sealing.Ring {
	t.Helper()
	ring, err := sealing.ParseRing(strings.Join(secrets, ","))
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

func who(t *testing.T, in string, args ...string) (string, error) {
	t.Helper()
	var out strings.Builder
	err := run(append([]string{"who"}, args...), strings.NewReader(in), &out)
	return out.String(), err
}

func TestPseudonymsOfAPersonAtEachServer(t *testing.T) {
	clean(t, map[string]string{"BOUNCER_ENCRYPTION_KEY": keyTwo + "," + keyOne})
	ring := ringOf(t, keyTwo, keyOne)
	for _, prefix := range []string{"", "bouncer-1  | ", "2026-11-30T06:00:00.000Z "} {
		log, wiki, world := whoLog(t, prefix)
		old := ringOf(t, keyOne).Pseudonym(wiki, "auth0|anna")
		// Of two replicas, one after the other.
		log += prefix + `{"time":"2026-11-30T07:01:00.5Z","msg":"login ended","subject":"` + old + `","family":"-amily","client":"abc"}` + "\n" +
			prefix + `{"time":"2026-11-30T06:01:00.5Z","msg":"token issued","subject":"` + old + `","family":"-amily","client":"abc"}` + "\n"
		out, err := who(t, log, "--issuer", "https://sso.example/", "--sub", "auth0|anna")
		want := ring.Pseudonym(wiki, "auth0|anna") + "  https://mcp.localhost/wiki\n" +
			old + "  https://mcp.localhost/wiki  while " + ring.MasterIDs()[1] + " was the first master\n" +
			"  login -amily  client abc  first 2026-11-30T06:01:00Z, last 2026-11-30T07:01:00Z, ended\n" +
			ring.Pseudonym(world, "auth0|anna") + "  https://mcp.localhost/world\n" +
			ringOf(t, keyOne).Pseudonym(world, "auth0|anna") + "  https://mcp.localhost/world  while " + ring.MasterIDs()[1] + " was the first master\n"
		if err != nil || out != want {
			t.Errorf("%q: %v\n%s\nwant\n%s", prefix, err, out, want)
		}
	}
}

func TestPersonOfAPseudonym(t *testing.T) {
	clean(t, map[string]string{"BOUNCER_ENCRYPTION_KEY": keyTwo + "," + keyOne})
	log, wiki, _ := whoLog(t, "bouncer-1  | ")
	for _, c := range []struct {
		name, sub, offered, command string
	}{
		{"a line of its own", "auth0|anna", "auth0|anna", `'https://sso.example' 'auth0|anna'`},
		{"Traefik's access log", "248289761001", `traefik-1  | {"DownstreamStatus":200,"request_X-Mcp-Sub":"248289761001"}`, `'https://sso.example' '248289761001'`},
		{"Traefik's access log, encoded", "Zoë 100%", `{"time":"x","request_X-Mcp-Sub":"Zo%C3%AB%20100%25"}`, `'https://sso.example' 'Zoë 100%'`},
		{"a quote", "o'neil; rm -rf", "o'neil; rm -rf", `'https://sso.example' 'o'\''neil; rm -rf'`},
		{"what a terminal obeys", "a\x1b[2J'", "a\x1b[2J'", `'https://sso.example' $'a\x1b[2J\x27'`},
	} {
		for i, master := range []string{keyTwo, keyOne} {
			name := ringOf(t, master).Pseudonym(wiki, c.sub)
			for order, in := range []string{log + "ben\n" + c.offered + "\n", "ben\n" + c.offered + "\r\n" + log} {
				out, err := who(t, in, "--pseudonym", name)
				if err != nil || !strings.HasPrefix(out, name+"  ") || !strings.Contains(out, " at https://mcp.localhost/wiki, of the provider https://sso.example\n") ||
					!strings.HasSuffix(out, "\n  mcpbouncer deny user "+c.command+"\n") || strings.Contains(out, "\x1b") {
					t.Errorf("%s, master %d, order %d: %v\n%s", c.name, i, order, err, out)
				}
			}
		}
	}
}

func TestPseudonymOfNobodySaysWhy(t *testing.T) {
	log, wiki, _ := whoLog(t, "")
	name := ringOf(t, keyOne).Pseudonym(wiki, "anna")
	login := `{"time":"2026-11-30T06:01:00Z","msg":"token issued","subject":"` + name + `","family":"family","client":"abc"}` + "\n"
	for _, c := range []struct {
		name, in string
		args     []string
		want     string
	}{
		{"no log", "anna\n", []string{"--pseudonym", name}, `no line "who may come in" with a tenant_id`},
		{"a log of an older sidecar", `{"msg":"who may come in","provider":"https://sso.example"}`, []string{"--issuer", "https://sso.example", "--sub", "anna"}, `no line "who may come in" with a tenant_id`},
		{"another provider", log, []string{"--issuer", "https://so.example", "--sub", "anna"}, "there are: https://sso.example, https://other.example"},
		{"others", log + "ben\ncarl\nben\n", []string{"--pseudonym", name}, "none of the 2 subjects on standard input is this one, at 3 servers and under 1 masters of the ring"},
		{"nobody", log + login, []string{"--pseudonym", name}, "no subject is on standard input: add Traefik's access log"},
		{"no question", log, nil, "either --issuer and --sub, or --pseudonym"},
		{"half a question", log, []string{"--issuer", "https://sso.example"}, "either --issuer and --sub, or --pseudonym"},
		{"two questions", log, []string{"--issuer", "https://sso.example", "--sub", "anna", "--pseudonym", name}, "either --issuer and --sub, or --pseudonym"},
		{"one and a half", log, []string{"--sub", "anna", "--pseudonym", name}, "either --issuer and --sub, or --pseudonym"},
		{"a subject where the pseudonym stands", log, []string{"--pseudonym", "anna@example.com"}, "16 letters, digits, - or _"},
		{"words", log, []string{"--pseudonym", name, "anna"}, `"anna" stands behind the flags`},
	} {
		t.Run(c.name, func(t *testing.T) {
			clean(t, map[string]string{"BOUNCER_ENCRYPTION_KEY": keyOne})
			out, err := who(t, c.in, c.args...)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v\n%s", err, out)
			}
			if c.name == "nobody" && !strings.Contains(out, "login family") {
				t.Errorf("the logins that can be denied are not listed: %s", out)
			}
		})
	}
}

// A machine has a login for each of its tokens, so a log may have very many of one pseudonym.
func TestManyLoginsOfOneMachineAreReadInOneGo(t *testing.T) {
	clean(t, map[string]string{"BOUNCER_ENCRYPTION_KEY": keyOne})
	log, wiki, _ := whoLog(t, "")
	name := ringOf(t, keyOne).Pseudonym(wiki, "ci")
	var b strings.Builder
	const many = 60_000 // which would take a minute if each were looked for among all
	for i := range 2 * many {
		fmt.Fprintf(&b, `{"time":"2026-11-30T07:00:00Z","msg":"token issued","subject":%q,"family":"f%d"}`+"\n", name, i%many)
	}
	begin := time.Now()
	out, err := who(t, log+b.String(), "--issuer", "https://sso.example", "--sub", "ci")
	if err != nil || strings.Count(out, "\n  login f") != many {
		t.Errorf("%v: %d logins", err, strings.Count(out, "\n  login f"))
	}
	if took := time.Since(begin); took > 15*time.Second {
		t.Errorf("it took %s", took)
	}
}
