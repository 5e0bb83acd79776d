package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"log"
	"slices"
	"strconv"
	"strings"
)

// The payloads are as docs/sealed-values.md describes them. The writer and the reader know only as
// much of CBOR (RFC 8949) as stands there.

// member is a number and what it holds: string, data, int, true, nil, []string or []member.
type member struct {
	number int
	holds  any
}

// data is a byte string.
type data string

func head(major byte, n uint64) []byte {
	switch {
	case n < 24:
		return []byte{major<<5 | byte(n)}
	case n < 1<<8:
		return []byte{major<<5 | 24, byte(n)}
	case n < 1<<16:
		return binary.BigEndian.AppendUint16([]byte{major<<5 | 25}, uint16(n))
	case n < 1<<32:
		return binary.BigEndian.AppendUint32([]byte{major<<5 | 26}, uint32(n))
	}
	return binary.BigEndian.AppendUint64([]byte{major<<5 | 27}, n)
}

func cbor(holds any) []byte {
	switch v := holds.(type) {
	case nil:
		return []byte{0xf6}
	case bool:
		if !v {
			log.Fatal("a false member is left out")
		}
		return []byte{0xf5}
	case int:
		return head(0, uint64(v))
	case string:
		return append(head(3, uint64(len(v))), v...)
	case data:
		return append(head(2, uint64(len(v))), v...)
	case []string:
		out := head(4, uint64(len(v)))
		for _, text := range v {
			out = append(out, cbor(text)...)
		}
		return out
	case []member:
		out := head(5, uint64(len(v)))
		for i, m := range v {
			if i > 0 && v[i-1].number >= m.number {
				log.Fatalf("member %d after %d", m.number, v[i-1].number)
			}
			out = append(append(out, cbor(m.number)...), cbor(m.holds)...)
		}
		return out
	}
	log.Fatalf("%T", holds)
	return nil
}

var errPayload = errors.New("not a payload")

// read is the reverse of cbor. It also returns the bytes that are left.
func read(b []byte) (holds any, rest []byte, err error) {
	if len(b) == 0 {
		return nil, nil, errPayload
	}
	major, low := b[0]>>5, b[0]&31
	switch b[0] {
	case 0xf5:
		return true, b[1:], nil
	case 0xf6:
		return nil, b[1:], nil
	}
	b = b[1:]
	n := uint64(low)
	if low >= 24 {
		if low > 27 || len(b) < 1<<(low-24) { // 31: an indefinite length
			return nil, nil, errPayload
		}
		size := 1 << (low - 24)
		n = 0
		for _, c := range b[:size] {
			n = n<<8 | uint64(c)
		}
		b = b[size:]
	}
	switch major {
	case 0:
		return int(n), b, nil
	case 2, 3:
		if n > uint64(len(b)) {
			return nil, nil, errPayload
		}
		if major == 2 {
			return data(b[:n]), b[n:], nil
		}
		return string(b[:n]), b[n:], nil
	case 4:
		if n > 64 {
			return nil, nil, errPayload
		}
		texts := []string{}
		for range n {
			if holds, b, err = read(b); err != nil {
				return nil, nil, err
			}
			text, ok := holds.(string)
			if !ok {
				return nil, nil, errPayload
			}
			texts = append(texts, text)
		}
		return texts, b, nil
	case 5:
		if n > 24 {
			return nil, nil, errPayload
		}
		members := []member{}
		for range n {
			var number any
			if number, b, err = read(b); err != nil {
				return nil, nil, err
			}
			if holds, b, err = read(b); err != nil {
				return nil, nil, err
			}
			i, ok := number.(int)
			if !ok || slices.ContainsFunc(members, func(m member) bool { return m.number == i }) {
				return nil, nil, errPayload
			}
			members = append(members, member{i, holds})
		}
		return members, b, nil
	}
	return nil, nil, errPayload // a negative number, a tag, or another simple value
}

// tables are the numbers and types of the page, by kind. A capital letter marks what is always
// there: t text, b bytes, n integer, f flag, p packed, l array, i identity.
var tables = map[string]map[int]string{
	"c": {1: "L", 2: "N", 3: "t", 4: "t", 5: "t", 6: "b", 7: "f", 8: "f"},
	"k": {1: "B", 2: "T", 3: "t", 4: "B", 5: "t", 6: "T", 10: "f", 12: "b", 13: "t", 14: "t", 15: "t", 16: "n", 17: "n", 18: "t", 19: "n", 20: "t"},
	"f": {1: "B", 2: "T", 3: "t", 4: "B", 5: "t", 6: "T", 7: "B", 10: "f", 12: "b", 13: "t", 14: "t", 15: "t", 16: "n", 17: "n", 18: "t", 19: "n", 20: "t"},
	"m": {1: "T", 2: "t", 3: "T", 4: "T", 5: "N", 6: "t"},
	"a": {2: "T", 4: "B", 5: "t", 6: "T", 7: "B", 8: "P", 9: "i", 10: "f", 11: "b", 12: "b", 20: "t"},
	"r": {1: "I", 2: "t", 3: "T", 4: "B", 5: "N", 6: "f", 7: "n", 8: "b", 9: "b"},
	"b": {1: "B", 2: "T", 3: "t", 4: "N"},
	"i": {1: "T", 2: "P", 3: "N", 4: "t", 5: "t", 6: "t", 7: "l", 8: "b", 9: "n", 10: "t", 11: "f", 12: "p", 13: "n", 14: "b", 15: "t", 16: "n"},
}

// conforms says whether a payload has the members of its table, each of its type.
func conforms(kind string, payload []byte) error {
	holds, rest, err := read(payload)
	if err != nil || len(rest) > 0 {
		return errPayload
	}
	return conformsTo(tables[kind], holds)
}

func conformsTo(table map[int]string, holds any) error {
	members, ok := holds.([]member)
	if !ok {
		return errPayload
	}
	for number, of := range table {
		if of == strings.ToUpper(of) && !slices.ContainsFunc(members, func(m member) bool { return m.number == number }) {
			return fmt.Errorf("%w: no member %d", errPayload, number)
		}
	}
	for _, m := range members {
		switch v := m.holds.(type) {
		case nil:
			ok = table[m.number] == "L"
		case string:
			ok = strings.ContainsAny(table[m.number], "TtPp")
		case data:
			ok = strings.ContainsAny(table[m.number], "BbPp")
			if strings.EqualFold(table[m.number], "P") {
				_, err := unpack(string(v))
				ok = err == nil
			}
		case int:
			ok = strings.ContainsAny(table[m.number], "Nn")
		case bool:
			ok = table[m.number] == "f"
		case []string:
			ok = strings.ContainsAny(table[m.number], "Ll")
		case []member:
			ok = strings.ContainsAny(table[m.number], "Ii") && conformsTo(tables["i"], v) == nil
		}
		if !ok || table[m.number] == "" {
			return fmt.Errorf("%w: member %d", errPayload, m.number)
		}
	}
	return nil
}

const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

// packed returns a text in the shorter of its two forms.
func packed(text string) any {
	if p := pack(text); len(p) < len(text) {
		return data(p)
	}
	return text
}

func pack(text string) (out string) {
	inside := true
	for text != "" {
		n := 0
		for n < len(text) && strings.Contains(alphabet, text[n:n+1]) == inside {
			n++
		}
		out += string(binary.AppendUvarint(nil, uint64(n)))
		if inside {
			var bits strings.Builder
			for _, c := range []byte(text[:n]) {
				fmt.Fprintf(&bits, "%06b", strings.IndexByte(alphabet, c))
			}
			all := bits.String() + strings.Repeat("0", (8-bits.Len()%8)%8)
			for ; all != ""; all = all[8:] {
				c := 0
				for _, bit := range all[:8] {
					c = c<<1 | int(bit-'0')
				}
				out += string([]byte{byte(c)})
			}
		} else {
			out += text[:n]
		}
		text, inside = text[n:], !inside
	}
	return out
}

func unpack(packed string) (text string, err error) {
	inside := true
	for rest := packed; rest != ""; inside = !inside {
		n, size := binary.Uvarint([]byte(rest))
		if size <= 0 || n > 1<<16 {
			return "", errPayload
		}
		rest = rest[size:]
		width := int(n)
		if inside {
			width = (6*int(n) + 7) / 8
		}
		if width > len(rest) {
			return "", errPayload
		}
		if inside {
			var bits strings.Builder
			for _, c := range []byte(rest[:width]) {
				fmt.Fprintf(&bits, "%08b", c)
			}
			for i := range int(n) {
				place := 0
				for _, bit := range bits.String()[6*i : 6*i+6] {
					place = place<<1 | int(bit-'0')
				}
				text += alphabet[place : place+1]
			}
		} else {
			text += rest[:width]
		}
		rest = rest[width:]
	}
	if pack(text) != packed {
		return "", errPayload
	}
	return text, nil
}

// diagnostic returns a payload in the notation of RFC 8949 §8.
func diagnostic(holds any) string {
	switch v := holds.(type) {
	case nil:
		return "null"
	case string:
		return strconv.QuoteToASCII(v)
	case data:
		return "h'" + hexOf(v) + "'"
	case []string:
		texts := []string{}
		for _, text := range v {
			texts = append(texts, diagnostic(text))
		}
		return "[" + strings.Join(texts, ", ") + "]"
	case []member:
		members := []string{}
		for _, m := range v {
			members = append(members, fmt.Sprintf("%d: %s", m.number, diagnostic(m.holds)))
		}
		return "{" + strings.Join(members, ", ") + "}"
	}
	return fmt.Sprint(holds)
}

// needMark returns the mark of a need.
func needMark(need ...string) string {
	return string(hash(string(cbor(need)))[:4])
}

// payloads writes values of one tenant, at one time. The values of one login follow from one
// another: the client asks, its person agrees, and so on.
func payloads() {
	const t = 1_790_000_000
	const (
		publicURL      = "https://mcp.example/wiki"
		callback       = "https://app.example/callback"
		verifier       = "a-code-verifier-of-the-payload-vectors-43-long"
		consentID      = "Yx3nqk0v9s2mT1dLw8uGfA"
		scope          = "mcp:read mcp:write"
		upstreamCode   = "SplxlOBeZQQYbYS6WxSbIA-SplxlOBeZQQYbYS6WxSbIA"
		upstreamToken  = "8xLOxBtZp8.8xLOxBtZp8-8xLOxBtZp8_8xLOxBtZp8"
		upstreamIssuer = "https://accounts.example"
	)
	var (
		m         = newMaster("new")
		tenant    = tenantID(publicURL, "wiki", "wiki", upstreamIssuer, "client-1", 0)
		seed      = data(hash("mcpbouncer test vector, login seed"))
		challenge = data(hash(verifier))
		login     = data(hash("mcpbouncer test vector, login")[:16])
		state     = b64(mac([]byte(seed), "mcpbouncer/v1/login-state")[:16])
	)
	sealed := func(kind, name, context string, payload []byte) value {
		v := value{sealer: m, ring: []master{m}, suite: 1, kind: kind, tenant: tenant, context: context, sealed: t, now: t + 5, payload: string(payload)}
		copy(v.nonce[:], hash("payload "+name))
		return v
	}
	ok := func(kind, name, comment, context string, members ...member) string {
		payload := cbor(members)
		if err := conforms(kind, payload); err != nil {
			log.Fatalf("%s: %v", name, err)
		}
		if holds, _, _ := read(payload); diagnostic(holds) != diagnostic(members) || !bytes.Equal(cbor(holds), payload) {
			log.Fatalf("%s is read as %s", name, diagnostic(holds))
		}
		v := sealed(kind, name, context, payload)
		v.writePayload("ok-"+name, "ok", comment, diagnostic(members))
		return v.String()
	}
	refused := func(kind, name, comment string, payload []byte) {
		if conforms(kind, payload) == nil {
			log.Fatalf("%s conforms", name)
		}
		sealed(kind, name, "", payload).writePayload("refused-"+name, "refused", comment, "")
	}

	// client
	secretClient := ok("c", "client-with-a-secret", "a web application; it authenticates with its secret", "",
		member{1, []string{callback}}, member{2, 1}, member{3, "Test App"})
	public := []string{"http://localhost:33418/", "http://127.0.0.1:33418/callback", "com.example.app:/callback"}
	publicClient := ok("c", "client-public", "a program without secret, with three redirect URIs", "",
		member{1, public}, member{2, 0}, member{3, "Ünïcode program"})
	ok("c", "client-without-a-name", "the optional members are left out", "", member{1, []string{callback}}, member{2, 2})
	ok("c", "client-created", "a client that the operator made", "", member{1, []string{callback}}, member{2, 1}, member{7, true})
	ok("c", "client-dpop-bound", "a program that always proves a key", "", member{1, []string{callback}}, member{2, 0}, member{8, true})
	ok("c", "client-machine", "a machine with a secret: member 1 is null", "",
		member{1, nil}, member{2, 1}, member{3, "Nightly build"}, member{4, "ci"}, member{5, "mcp:read"})
	ok("c", "client-machine-with-a-key", "a machine with a key, which may do nothing by name", "",
		member{1, nil}, member{2, 3}, member{4, "ci"},
		member{6, data(`{"keys":[{"kty":"OKP","kid":"1","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`)})

	// Each of the two clients has a login.
	secretHash, publicHash := data(hash(secretClient)), data(hash(publicClient))
	request := []member{{1, secretHash}, {2, callback}, {3, "client state"}, {4, challenge}, {5, scope}, {6, publicURL}}
	short := []member{{1, secretHash}, {2, callback}, {4, challenge}, {6, publicURL}}
	withKey := member{10, true}
	ok("k", "consent", "context is the id in the consent cookie", consentID, request...)
	ok("k", "consent-of-less", "no state and no scope; the client must prove itself with its key", consentID, append(slices.Clone(short), withKey)...)
	ok("f", "flow", "context is state at the provider", state, append(slices.Clone(request), member{7, seed})...)
	ok("f", "flow-of-less", "no state and no scope; the client must prove itself with its key", state, append(slices.Clone(short), member{7, seed}, withKey)...)

	// The thumbprint of RFC 9449 §6.1.
	thumbprint := data("\xd1\x97\x0e\x08\xe4\x59\x35\x8c\xbe\x0d\x6a\x6a\xab\x7d\x23\x67\x22\x46\x1d\x33\x74\x77\x61\xe0\x94\x15\x77\xba\x28\x2e\x03\x82")
	forKey := member{12, thumbprint}
	ok("k", "consent-for-a-key", "the client sent dpop_jkt", consentID, append(slices.Clone(short), forKey)...)
	ok("f", "flow-for-a-key", "the client sent dpop_jkt", state, append(slices.Clone(short), member{7, seed}, forKey)...)

	wishes := []member{{13, "jane@example.com"}, {14, "login select_account"}, {15, "fr-CA fr"}, {16, 0}, {17, 1}}
	ok("k", "consent-with-wishes", "what the client wishes of the provider; the person goes for another account", consentID, append(slices.Clone(short), wishes...)...)
	ok("f", "flow-with-wishes", "the same at the provider", state, slices.Concat(short, []member{{7, seed}}, wishes)...)

	document := "https://app.example/client.json"
	documentHash := data(hash(document))
	ofDocument := []member{{1, documentHash}, {2, callback}, {4, challenge}, {5, scope}, {6, publicURL}}
	ok("k", "consent-to-remember", "a page on which the person may have their consent remembered", consentID, append(slices.Clone(ofDocument), member{18, document})...)
	ok("k", "consent-remembered", "nobody was asked, and the person who came was refused", consentID, append(slices.Clone(ofDocument), member{17, 1}, member{18, document}, member{19, 2})...)
	ok("f", "flow-to-remember", "the person wants their consent remembered", state, append(slices.Clone(ofDocument), member{7, seed}, member{18, document}, member{19, 1})...)
	ok("f", "flow-remembered", "nobody was asked", state, append(slices.Clone(ofDocument), member{7, seed}, member{18, document}, member{19, 2})...)
	told := b64(hash(lp("mcpbouncer/v1/fingerprint", "scopes=repo\nopenid"))[:12])
	everything := slices.Concat([]member{{10, true}, {12, thumbprint}}, wishes, []member{{18, document}, {19, 1}, {20, told}})
	ok("k", "consent-with-everything", "all members", consentID, slices.Concat(request, everything)...)
	ok("f", "flow-with-everything", "all members", state, slices.Concat(request, []member{{7, seed}}, everything)...)
	ok("m", "remembered", "context is SHA-256 of the client_id", string(documentHash),
		member{1, callback}, member{2, scope}, member{3, publicURL}, member{4, "248289761001"}, member{5, t - 60})
	ok("m", "remembered-of-less", "no scope; the page told of the label upstreamToken", string(documentHash),
		member{1, callback}, member{3, publicURL}, member{4, "248289761001"}, member{5, t - 60}, member{6, told})

	person := []member{
		{1, "248289761001"}, {2, packed(upstreamToken)}, {3, t - 60},
		{4, "jane@example.com"}, {5, "example.com"}, {6, "Jane Doe"}, {7, []string{"admins", "staff"}},
		{8, data(needMark("email") + needMark("name") + needMark("groups", "groups") + needMark("group", "groups", "admins"))},
		{9, t - 30}, {10, "mcp:write"}, {15, "phr"}, {16, t - 90},
	}
	nobody := []member{{1, "248289761001"}, {2, ""}, {3, t - 60}}
	ok("a", "code-to-redeem", "the client's request redeems the provider's code", string(secretHash),
		member{2, callback}, member{4, challenge}, member{5, scope}, member{6, publicURL}, member{7, seed}, member{8, packed(upstreamCode)}, withKey)
	ok("a", "code-short", "a code of the provider that packing would not make shorter is a text", string(secretHash),
		member{2, callback}, member{4, challenge}, member{6, publicURL}, member{7, seed}, member{8, packed("4/0")})
	ok("a", "code-for-a-key", "whoever redeems it must prove the key", string(secretHash),
		member{2, callback}, member{4, challenge}, member{6, publicURL}, member{7, seed}, member{8, packed(upstreamCode)}, forKey)
	ok("a", "code-of-who-is-told", "the page told of the label upstreamToken", string(secretHash),
		member{2, callback}, member{4, challenge}, member{6, publicURL}, member{7, seed}, member{8, packed(upstreamCode)}, member{20, told})
	mark := data(hash(lp("mcpbouncer/v1/replay-mark", "code", tenant, upstreamCode))[:16])
	ok("a", "code-redeemed", "the callback has redeemed the provider's code", string(secretHash),
		member{2, callback}, member{4, challenge}, member{5, scope}, member{6, publicURL}, member{7, seed}, member{8, ""}, member{9, nobody}, member{11, mark})
	ok("a", "code-redeemed-of-a-person", "the same, with all that can be known of a person", string(secretHash),
		member{2, callback}, member{4, challenge}, member{5, scope}, member{6, publicURL}, member{7, seed}, member{8, ""}, member{9, person}, withKey, member{11, mark})

	ok("r", "refresh", "the first of a client with a secret; nothing is known of the person but the subject", string(secretHash),
		member{1, nobody}, member{2, scope}, member{3, publicURL}, member{4, login}, member{5, t - 60})
	meaning := cbor([]member{{1, []string{"com.example.app:/callback", "http://127.0.0.1/callback", "http://localhost/"}}, {2, 0}, {3, "Ünïcode program"}})
	fingerprint := data(hash(lp("mcpbouncer/v1/fingerprint", publicClient))[:12])
	ok("r", "refresh-of-a-public-client", "context is of what the client registered", "registration "+string(hash(string(meaning))),
		member{1, nobody}, member{2, scope}, member{3, publicURL}, member{4, login}, member{5, t - 7200}, member{7, 300}, member{8, fingerprint})
	ok("r", "refresh-of-earlier-builds", "context is SHA-256 of the client_id; without fingerprint, and without scope", string(publicHash),
		member{1, nobody}, member{3, publicURL}, member{4, login}, member{5, t - 60})
	ok("r", "refresh-with-everything", "all members", string(secretHash),
		member{1, person}, member{2, scope}, member{3, publicURL}, member{4, login}, member{5, t - 86400}, member{6, true}, member{7, 70000}, member{8, fingerprint})

	ok("r", "refresh-by-an-access-token", "the provider gave no refresh token, and is asked with its access token, which never expires", string(secretHash),
		member{1, []member{{1, "583231"}, {2, packed(upstreamToken)}, {3, t - 60}, {11, true}}}, member{2, scope}, member{3, publicURL}, member{4, login}, member{5, t - 60})
	ok("r", "refresh-for-a-key", "whoever refreshes must prove the key", "registration "+string(hash(string(meaning))),
		member{1, nobody}, member{3, publicURL}, member{4, login}, member{5, t - 60}, member{8, fingerprint}, member{9, thumbprint})

	acting := append(slices.Clone(nobody), member{12, packed("eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln")}, member{13, t + 1800}, member{14, data(needMark("https://api.example.com", "drive:read"))})
	ok("r", "refresh-of-who-is-acted-for", "the MCP server gets an access token of the provider, which ends half an hour later", string(secretHash),
		member{1, acting}, member{3, publicURL}, member{4, login}, member{5, t - 60})

	id := data(hash("mcpbouncer test vector, bearer key")[:16])
	ok("b", "bearer", "a bearer key that ends after a day", "", member{1, id}, member{2, "ci"}, member{3, "mcp:read"}, member{4, t + 86400})
	ok("b", "bearer-without-scope", "a bearer key that may do nothing by name", "", member{1, id}, member{2, "ci"}, member{4, t + 86400})

	bearer := cbor([]member{{1, id}, {2, "ci"}, {3, "mcp:read"}, {4, t + 86400}})
	refused("b", "unknown-member", "a member 5, which no bearer key has", cbor([]member{{1, id}, {2, "ci"}, {4, t + 86400}, {5, "x"}}))
	refused("b", "repeated-member", "member 2 twice", slices.Concat(head(5, 4), cbor(1), cbor(id), cbor(2), cbor("ci"), cbor(2), cbor("root"), cbor(4), cbor(t+86400)))
	refused("b", "another-type", "the subject is a byte string", cbor([]member{{1, id}, {2, data("ci")}, {4, t + 86400}}))
	refused("b", "bytes-behind", "one byte behind the map", append(slices.Clone(bearer), 0xf6))
	refused("b", "cut", "the last byte is missing", bearer[:len(bearer)-1])
	refused("b", "indefinite-map", "a map of indefinite length", slices.Concat([]byte{0xbf}, bearer[1:], []byte{0xff}))
	refused("b", "tagged", "the time of expiry has tag 1", slices.Concat(bearer[:len(bearer)-6], cbor(4), []byte{0xc1}, cbor(t+86400)))
	refused("b", "an-array", "an array instead of a map", cbor([]string{"ci"}))
	refused("r", "packed-otherwise", "the upstream refresh token is packed, with a last run of no characters",
		cbor([]member{{1, []member{{1, "248289761001"}, {2, data(pack(upstreamToken) + "\x00")}, {3, t}}}, {3, publicURL}, {4, login}, {5, t}}))
	refused("c", "too-many-elements", "65 redirect URIs", cbor([]member{{1, slices.Repeat([]string{"https://app.example/"}, 65)}, {2, 0}}))
}

func (v value) writePayload(name, expect, comment, members string) {
	lines := []string{
		"expect", expect,
		"comment", comment,
		"master", v.sealer.String(),
		"kind", v.kind,
		"tenant", hexOf(v.tenant),
		"context", hexOf(v.context),
		"now", fmt.Sprint(v.now),
		"payload", hexOf(v.payload),
	}
	if expect == "ok" {
		lines = append(lines, "members", members)
	}
	writeFile(*payloadDir, name, headers(lines...)+"\n"+v.String()+"\n")
}
