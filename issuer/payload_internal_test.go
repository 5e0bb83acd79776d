package issuer

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/mcpbouncer/mcpbouncer/issuer/internal/packed"
	"github.com/mcpbouncer/mcpbouncer/issuer/provider"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// payloadTypes maps headings of docs/sealed-values.md to their payloads.
var payloadTypes = map[string]reflect.Type{
	"client":                   reflect.TypeFor[registration](),
	"consent":                  reflect.TypeFor[authorizationRequest](),
	"flow":                     reflect.TypeFor[loginInProgress](),
	"remembered":               reflect.TypeFor[rememberedConsent](),
	"code":                     reflect.TypeFor[authorizationCode](),
	"refresh":                  reflect.TypeFor[grant](),
	"bearer":                   reflect.TypeFor[bearerKey](),
	"identity":                 reflect.TypeFor[identity](),
	"What a provider answered": reflect.TypeFor[learnt](),
}

// Somebody who writes a second implementation has only the page.
func TestPayloadTables(t *testing.T) {
	text, err := os.ReadFile("../docs/sealed-values.md")
	if err != nil {
		t.Fatal(err)
	}
	tagged := 0
	for heading, payload := range payloadTypes {
		_, section, found := strings.Cut(string(text), "\n### "+heading+"\n")
		if !found {
			t.Errorf("there is no section %s", heading)
			continue
		}
		section, _, _ = strings.Cut(section, "\n### ")
		_, table, _ := strings.Cut(section, "| number | member | type | when | meaning |\n|---|---|---|---|---|\n")
		table, _, _ = strings.Cut(strings.TrimSpace(table), "\n\n")
		var onPage []string
		for row := range strings.SplitSeq(table, "\n") {
			cells := strings.Split(row, " | ")
			if len(cells) != 5 || cells[1] == "" {
				t.Errorf("%s: %q has %d cells", heading, row, len(cells))
				continue
			}
			onPage = append(onPage, fmt.Sprintf("%s %s, always: %t", strings.TrimPrefix(cells[0], "| "), cells[2], strings.HasPrefix(cells[3], "always")))
		}
		var inCode []string
		for field := range payload.Fields() {
			if tag, ok := field.Tag.Lookup("cbor"); ok {
				number, options, _ := strings.Cut(tag, ",")
				tagged++
				inCode = append(inCode, fmt.Sprintf("%s %s, always: %t", number, payloadType(t, field.Type), options == "keyasint"))
			}
		}
		all := 0
		for _, field := range reflect.VisibleFields(payload) { // with those of a struct within
			if _, ok := field.Tag.Lookup("cbor"); ok {
				all++
			}
		}
		if all > 24 { // payloadDecoding would not open one with all of them
			t.Errorf("%s has %d members", heading, all)
		}
		number := func(a, b string) int { return numberOf(a) - numberOf(b) }
		slices.SortFunc(inCode, number)
		if !slices.Equal(onPage, inCode) {
			t.Errorf("%s: on the page\n%s\nin the code\n%s", heading, strings.Join(onPage, "\n"), strings.Join(inCode, "\n"))
		}
	}

	// No struct is missing above.
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	tags := 0
	for _, name := range files {
		code, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(name, "_test.go") {
			tags += len(regexp.MustCompile("`cbor:\"").FindAll(code, -1))
		}
	}
	if tags != tagged {
		t.Errorf("%d members have a number, %d of them stand in payloadTypes", tags, tagged)
	}
}

func numberOf(row string) int {
	digits, _, _ := strings.Cut(row, " ")
	n, err := strconv.Atoi(digits)
	if err != nil {
		panic(err)
	}
	return n
}

// payloadType returns the page's name of a type.
func payloadType(t *testing.T, of reflect.Type) string {
	t.Helper()
	switch {
	case of == reflect.TypeFor[packed.Text](), of == reflect.TypeFor[*packed.Text]():
		return "packed"
	case of == reflect.TypeFor[identity](), of == reflect.TypeFor[*identity]():
		return "identity"
	case of == reflect.TypeFor[[]string]():
		return "array"
	case of == reflect.TypeFor[[]byte]():
		return "bytes"
	case of.Kind() == reflect.Array && of.Elem().Kind() == reflect.Uint8:
		return fmt.Sprintf("bytes, %d", of.Len())
	case of.Kind() == reflect.String, of == reflect.TypeFor[*string]():
		return "text"
	case of.Kind() == reflect.Bool:
		return "flag"
	case of == reflect.TypeFor[*int64](), slices.Contains([]reflect.Kind{reflect.Uint8, reflect.Uint32, reflect.Int64}, of.Kind()):
		return "integer"
	}
	t.Fatalf("the page has no name for %v", of)
	return ""
}

// PayloadVector is a file of sealing/testdata/payloads.
type PayloadVector struct {
	Name   string
	Header map[string]string
	Value  string
}

// Bytes is a header in hexadecimal digits.
func (v PayloadVector) Bytes(t *testing.T, name string) []byte {
	t.Helper()
	b, err := hex.DecodeString(v.Header[name])
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// At returns the time at which the value is opened.
func (v PayloadVector) At(t *testing.T) time.Time {
	t.Helper()
	seconds, err := strconv.ParseInt(v.Header["now"], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return time.Unix(seconds, 0)
}

// ReadPayloadVectors reads all files of sealing/testdata/payloads.
func ReadPayloadVectors(t *testing.T) (vectors []PayloadVector) {
	t.Helper()
	names, err := filepath.Glob("../sealing/testdata/payloads/*.txt")
	if err != nil || len(names) < 20 {
		t.Fatalf("%d vectors: %v", len(names), err)
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		head, value, _ := strings.Cut(string(text), "\n\n")
		v := PayloadVector{strings.TrimSuffix(filepath.Base(name), ".txt"), map[string]string{}, strings.TrimSuffix(value, "\n")}
		for line := range strings.SplitSeq(head, "\n") {
			name, value, ok := strings.Cut(line, ":")
			if !ok || !slices.Contains([]string{"expect", "comment", "master", "kind", "tenant", "context", "now", "payload", "members"}, name) {
				t.Fatalf("%s: %q", v.Name, line)
			}
			v.Header[name] = strings.TrimPrefix(value, " ")
		}
		vectors = append(vectors, v)
	}
	return vectors
}

// A second implementation has sealed these values from the page alone. Each opens, is read whole,
// and would be encoded to the same bytes here.
func TestPayloadVectors(t *testing.T) {
	kinds := map[string]reflect.Type{}
	for name, letter := range map[string]string{"client": "c", "consent": "k", "flow": "f", "remembered": "m", "code": "a", "refresh": "r", "bearer": "b"} {
		kinds[letter] = payloadTypes[name]
	}
	set := map[string][2]bool{} // :: kind and member → seen left out, seen there
	for _, v := range ReadPayloadVectors(t) {
		t.Run(v.Name, func(t *testing.T) {
			ring, err := sealing.ParseRing(v.Header["master"])
			if err != nil {
				t.Fatal(err)
			}
			s := &Issuer{Config: Config{Ring: ring, Now: func() time.Time { return v.At(t) }}}
			kind := v.Header["kind"]
			tenant := &tenant{id: sealing.TenantID(v.Bytes(t, "tenant"))}
			into := reflect.New(kinds[kind])
			err = s.open(sealing.Kind(kind[0]), tenant, string(v.Bytes(t, "context")), v.Value, into.Interface())
			if v.Header["expect"] != "ok" {
				if err != sealing.ErrNotOpened || v.Header["expect"] != "refused" {
					t.Errorf("error %v, expect %s: %s", err, v.Header["expect"], v.Header["comment"])
				}
				return
			}
			if err != nil {
				t.Fatalf("%v: %s", err, v.Header["comment"])
			}
			payload := v.Bytes(t, "payload")
			if again := must(payloadEncoding.Marshal(into.Interface())); !bytes.Equal(again, payload) {
				t.Errorf("sealed anew it would be\n%x, the vector has\n%x", again, payload)
			}
			// A third reader, cbor.Diagnose, spells the members.
			if members, err := cbor.Diagnose(payload); err != nil || members != v.Header["members"] {
				t.Errorf("%v: the members are\n%s, the vector has\n%s", err, members, v.Header["members"])
			}
			noteMembers(set, kind, into.Elem())
		})
	}
	for member, seen := range set {
		if !seen[0] || !seen[1] {
			t.Errorf("optional member %s: left out in a vector: %t; there: %t", member, seen[0], seen[1])
		}
	}
	if len(set) < 20 {
		t.Errorf("%d optional members", len(set))
	}
}

// noteMembers notes which of the optional members have a value.
func noteMembers(set map[string][2]bool, kind string, payload reflect.Value) {
	for i := range payload.NumField() {
		field, value := payload.Type().Field(i), payload.Field(i)
		if field.Anonymous {
			noteMembers(set, kind, value)
		}
		number, options, _ := strings.Cut(field.Tag.Get("cbor"), ",")
		if strings.Contains(options, "omitempty") {
			seen := set[kind+number]
			seen[0], seen[1] = seen[0] || value.IsZero(), seen[1] || !value.IsZero()
			set[kind+number] = seen
		}
		switch who := value; {
		case who.Type() == reflect.TypeFor[*identity]() && !who.IsNil():
			noteMembers(set, "identity ", who.Elem())
		case who.Type() == reflect.TypeFor[identity]():
			noteMembers(set, "identity ", who)
		}
	}
}

// The members of the vectors have the meanings of the page.
func TestPayloadVectorsMean(t *testing.T) {
	of := map[string]PayloadVector{}
	for _, v := range ReadPayloadVectors(t) {
		of[v.Name] = v
	}
	decode := func(name string, into any) {
		t.Helper()
		if err := payloadDecoding.Unmarshal(of[name].Bytes(t, "payload"), into); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	same := func(what string, got, want any) {
		t.Helper()
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s is\n%+v, want\n%+v", what, got, want)
		}
	}
	var machine registration
	decode("ok-client-machine", &machine)
	same("a machine", machine, registration{AuthMethod: authBasic, Name: "Nightly build", Subject: "ci", Scope: "mcp:read"})

	var public client
	decode("ok-client-public", &public.registration)
	public.id = of["ok-client-public"].Value
	same("the context of its refresh tokens", refreshContext(public), string(of["ok-refresh-of-a-public-client"].Bytes(t, "context")))

	var code authorizationCode
	decode("ok-code-redeemed-of-a-person", &code)
	const born = 1_790_000_000
	needs := provider.Needs{Email: true, Name: true, GroupsClaim: "groups", Groups: []string{"admins"}, AllGroups: true}
	same("a person", *code.Identity, identity{
		Subject: "248289761001", RefreshToken: "8xLOxBtZp8.8xLOxBtZp8-8xLOxBtZp8_8xLOxBtZp8", CheckedAt: born - 60,
		Email: "jane@example.com", HostedDomain: "example.com", Name: "Jane Doe", Groups: []string{"admins", "staff"},
		Needs: needs.Marks(), UnreadSince: born - 30, Unsaid: "mcp:write", ACR: "phr", AuthTime: born - 90,
	})
	var request loginInProgress
	decode("ok-flow", &request)
	same("the rest of its code", code, authorizationCode{
		RedirectURI: "https://app.example/callback", Challenge: request.Challenge, Scope: "mcp:read mcp:write", Resource: "https://mcp.example/wiki",
		Seed: request.Seed, Identity: code.Identity, Mark: code.Mark, KeyRequired: true,
	})
	same("the state at the provider", request.Seed.State(), string(of["ok-flow"].Bytes(t, "context")))
	var redeem authorizationCode
	decode("ok-code-to-redeem", &redeem)
	mark := codeKey(&tenant{id: sealing.TenantID(of["ok-flow"].Bytes(t, "tenant"))}, string(redeem.UpstreamCode))
	same("the mark", code.Mark, mark[:])

	var g grant
	decode("ok-refresh-with-everything", &g)
	same("a refresh token", g, grant{
		Identity: *code.Identity, Scope: "mcp:read mcp:write", Resource: "https://mcp.example/wiki", Login: g.Login, Born: born - 86400,
		KeyRequired: true, Step: 70000, Client: g.Client,
	})
	var acting grant
	decode("ok-refresh-of-who-is-acted-for", &acting)
	forAPI := provider.UpstreamToken{Scopes: []string{"drive:read"}, Audience: "https://api.example.com"}
	same("what the MCP server gets", acting.Identity.person().Upstream, provider.AccessToken{Text: "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln", Ends: born + 1800, Mark: forAPI.Mark()})
	var key bearerKey
	decode("ok-bearer", &key)
	same("a bearer key", key, bearerKey{ID: key.ID, Subject: "ci", Scope: "mcp:read", Expires: born + 86400})
}

// Every text that is accepted from a provider can be packed, and comes back.
func TestPackedTextsHoldWhatProvidersMaySend(t *testing.T) {
	if longest := max(provider.MaxValue, sealing.MaxUpstreamToken); packed.MaxLength != longest {
		t.Errorf("%d characters can be packed, %d are accepted", packed.MaxLength, longest)
	}
}

// docs/sealed-values.md says what is refused of a payload, and what is not looked at. The payloads
// are those of a bearer key; what is cut or filled up can only come from a holder of the master.
func TestPayloadsAreReadAsThePageSays(t *testing.T) {
	const id, subject, expires = "0150000102030405060708090a0b0c0d0e0f", "026161", "0401"
	for _, c := range []struct {
		name, payload string
		id            string // hex; empty: refused
	}{
		{"as it is written", "a3" + id + subject + expires, "000102030405060708090a0b0c0d0e0f"},
		{"in another order", "a3" + subject + expires + id, "000102030405060708090a0b0c0d0e0f"},
		{"a number in a longer form", "a3" + id + subject + "041801", "000102030405060708090a0b0c0d0e0f"},
		{"bytes that are too long", "a3" + "0151000102030405060708090a0b0c0d0e0f10" + subject + expires, "000102030405060708090a0b0c0d0e0f"},
		{"bytes that are too short", "a3" + "01420001" + subject + expires, "00010000000000000000000000000000"},
		{"an array in place of bytes", "a3" + "01820001" + subject + expires, "00010000000000000000000000000000"},
		{"null in place of a member", "a3" + id + subject + "04f6", "000102030405060708090a0b0c0d0e0f"},
		{"members left out", "a0", "00000000000000000000000000000000"},
		{"null in place of the map", "f6", "00000000000000000000000000000000"},
		{"a text in place of bytes", "a3" + "0161" + "61" + subject + expires, ""},
		{"bytes in place of a text", "a3" + id + "024161" + expires, ""},
		{"a text that is not UTF-8", "a3" + id + "0261ff" + expires, ""},
		{"a fraction in place of an integer", "a3" + id + subject + "04f93c00", ""},
		{"an integer of more than 64 bits", "a3" + id + subject + "04c249010000000000000000", ""},
		{"a number written as a text", "a3" + id + subject + "613401", ""},
	} {
		payload, err := hex.DecodeString(c.payload)
		if err != nil {
			t.Fatal(err)
		}
		var key bearerKey
		if err = payloadDecoding.Unmarshal(payload, &key); (err != nil) != (c.id == "") {
			t.Errorf("%s: error %v", c.name, err)
		} else if got := hex.EncodeToString(key.ID[:]); err == nil && got != c.id {
			t.Errorf("%s: id %s, want %s", c.name, got, c.id)
		}
	}
}

// Another implementation beside this one must give a key the same name (RFC 8037 appendix A.3).
func TestKeyIDIsAPieceOfTheThumbprint(t *testing.T) {
	key, err := base64.RawURLEncoding.DecodeString("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")
	if err != nil {
		t.Fatal(err)
	}
	if got := keyID(key); got != "kPrK_qmxVWaYVA9w" {
		t.Errorf("kid %s", got)
	}
}
