// Command gen writes the vectors of docs/sealed-values.md: of values, keys and payloads.
//
// It is a second implementation, written from that page: it imports nothing of the package it
// checks. Nonces are fixed, so that the same files come out each time; a real sealer draws them at
// random. Each refused vector is opened here before it is written, and must fail for the reason
// that its comment gives and for no other: a vector that fails by accident proves nothing.
package main

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"log"
	"math/big"
	"os"
	"path/filepath"
	"strings"
)

const skew = 300

type facts struct {
	purpose      string
	period, life uint32
}

var kinds = map[string]facts{
	"c": {"client", 30 * 86400, 0},
	"k": {"consent", 86400, 900},
	"f": {"flow", 86400, 900},
	"m": {"remembered", 7 * 86400, 30 * 86400},
	"a": {"code", 86400, 60},
	"r": {"refresh", 7 * 86400, 0},
	"s": {"secret", 30 * 86400, 0},
	"b": {"bearer", 30 * 86400, 0},
}

func lp(parts ...string) string {
	var b []byte
	for _, p := range parts {
		b = binary.BigEndian.AppendUint16(b, uint16(len(p)))
		b = append(b, p...)
	}
	return string(b)
}

func u32(n uint32) string { return string(binary.BigEndian.AppendUint32(nil, n)) }

type master struct{ secret, prk []byte }

func newMaster(name string) master {
	secret := sha256.Sum256([]byte("mcpbouncer test vector, master " + name))
	prk, err := hkdf.Extract(sha256.New, secret[:], []byte("mcpbouncer/v1/extract"))
	check(err)
	return master{secret[:], prk}
}

func (m master) String() string { return base64.StdEncoding.EncodeToString(m.secret) }

func (m master) expand(info string, size int) []byte {
	key, err := hkdf.Expand(sha256.New, m.prk, info, size)
	check(err)
	return key
}

func (m master) id() []byte { return m.expand(lp("mcpbouncer/v1/master-id"), 3) }

func (m master) sealInfo(kind, tenant string, period uint32) string {
	return lp("mcpbouncer/v1/seal", kinds[kind].purpose, tenant) + u32(period)
}

// value is a value before it is sealed, and what its opener asks for.
type value struct {
	sealer  master
	ring    []master
	kind    string
	tenant  string
	context string
	sealed  uint32
	now     uint32
	payload string
	suite   byte
	nonce   [12]byte
}

func (v value) gcm(m master, kind string, issuedAt uint32) cipher.AEAD {
	block, err := aes.NewCipher(m.expand(m.sealInfo(kind, v.tenant, issuedAt/kinds[kind].period), 32))
	check(err)
	aead, err := cipher.NewGCM(block)
	check(err)
	return aead
}

func (v value) aad(header []byte, kind string) []byte {
	return []byte("mcpbouncer/v1/value" + string(header) + lp(kinds[kind].purpose, v.tenant, v.context))
}

// raw returns the sealed value before base64: header, nonce, ciphertext, tag.
func (v value) raw() []byte {
	header := append([]byte{v.suite}, v.sealer.id()...)
	header = append(header, u32(v.sealed)...)
	out := append(header[:8:8], v.nonce[:]...)
	return v.gcm(v.sealer, v.kind, v.sealed).Seal(out, v.nonce[:], []byte(v.payload), v.aad(header, v.kind))
}

func (v value) String() string { return spell(v.kind, v.raw()) }

func spell(kind string, raw []byte) string {
	return "mb" + kind + "1_" + base64.RawURLEncoding.EncodeToString(raw)
}

// open follows the order of checks in docs/sealed-values.md and names the one that failed.
func (v value) open(text string) (payload []byte, reason string) {
	if len(text) > 8192 {
		return nil, "length"
	}
	text, ok := strings.CutPrefix(text, "mb"+v.kind+"1_")
	if !ok {
		return nil, "prefix"
	}
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return nil, "alphabet"
	}
	if base64.RawURLEncoding.EncodeToString(raw) != text {
		return nil, "spelling"
	}
	if len(raw) < 36 {
		return nil, "too short"
	}
	if raw[0] != 1 {
		return nil, "suite"
	}
	at := binary.BigEndian.Uint32(raw[4:])
	if at > v.now+skew {
		return nil, "future"
	}
	if life := kinds[v.kind].life; life > 0 && v.now > at+life+skew {
		return nil, "age"
	}
	for _, m := range v.ring {
		if !bytes.Equal(m.id(), raw[1:4]) {
			continue
		}
		payload, err := v.gcm(m, v.kind, at).Open(nil, raw[8:20], raw[20:], v.aad(raw[:8], v.kind))
		if err != nil {
			return nil, "authentication"
		}
		return payload, ""
	}
	return nil, "master"
}

var (
	dir        = flag.String("dir", "testdata/vectors", "where the vectors go; every .txt file in it is replaced")
	payloadDir = flag.String("payloads", "testdata/payloads", "the same for those of payloads")
)

func main() {
	log.SetFlags(0)
	flag.Parse()
	for _, dir := range []string{*dir, *payloadDir} {
		old, err := filepath.Glob(filepath.Join(dir, "*.txt"))
		check(err)
		for _, name := range old {
			check(os.Remove(name))
		}
	}
	values()
	derivations()
	payloads()
}

func values() {
	var (
		newest, older, stranger = newMaster("new"), newMaster("old"), newMaster("of somebody else")

		wiki  = tenantID("https://mcp.example/wiki", "wiki", "wiki", "https://accounts.example", "client-1", 0)
		world = tenantID("https://mcp.example/world", "world", "world", "https://accounts.example", "client-1", 0)

		clientHash = sha256.Sum256([]byte("https://client.example/metadata.json"))
		otherHash  = sha256.Sum256([]byte("https://other.example/metadata.json"))
	)
	const t = 1_790_000_000

	base := value{
		sealer: newest, ring: []master{newest, older}, suite: 1,
		kind: "a", tenant: wiki, context: string(clientHash[:]),
		sealed: t, now: t + 5, payload: "the payload of an authorization code",
	}
	with := func(change func(*value)) value {
		v := base
		change(&v)
		return v
	}
	year := uint32(365 * 86400)

	ok := func(name, comment string, change func(*value)) {
		v := with(change)
		copy(v.nonce[:], hash(name))
		payload, reason := v.open(v.String())
		if reason != "" || string(payload) != v.payload {
			log.Fatalf("%s does not open: %s", name, reason)
		}
		v.write("ok-"+name, "ok", comment, v.String())
	}
	ok("client", "a client_id", func(v *value) { v.kind, v.context, v.payload = "c", "", "\xa1\x01\x02" })
	ok("consent", "context is the id in the consent cookie", func(v *value) { v.kind, v.context = "k", "Yx3nqk0v9s2mT1dLw8uGfA" })
	ok("flow", "context is the upstream state", func(v *value) { v.kind, v.context = "f", "sBu0ZJ4pQy7cX2eKn5hVdw" })
	ok("remembered", "context is SHA-256 of the client_id", func(v *value) { v.kind = "m" })
	ok("code", "context is SHA-256 of the client_id", func(v *value) {})
	ok("refresh", "context is SHA-256 of the client_id", func(v *value) { v.kind = "r" })
	ok("secret", "tenant is zero, context is LP(issuer) LP(client id)", func(v *value) {
		v.kind, v.tenant, v.payload = "s", strings.Repeat("\x00", 32), "GOCSPX-example"
		v.context = lp("https://accounts.example", "client-1")
	})
	ok("bearer", "a bearer key: context is empty", func(v *value) { v.kind, v.context = "b", "" })
	ok("empty-payload", "36 bytes, 53 characters", func(v *value) { v.payload = "" })
	ok("one-byte", "two characters in the last base64 group", func(v *value) { v.payload = "\xff" })
	ok("two-bytes", "three characters in the last base64 group", func(v *value) { v.payload = "\xff\x00" })
	ok("longest", "8,192 characters, the limit", func(v *value) { v.payload = strings.Repeat("long", 6104/4) })
	ok("empty-context", "a code whose context is empty", func(v *value) { v.context = "" })
	ok("old-master", "sealed by the second master of the ring", func(v *value) { v.sealer = older })
	ok("sealed-before-rotation", "the same ring one step earlier: the sealer is listed second", func(v *value) {
		v.ring = []master{older, newest}
	})
	ok("oldest", "a code at the last second of life + skew", func(v *value) { v.now = v.sealed + 60 + skew })
	ok("from-a-fast-clock", "issued exactly one skew in the future", func(v *value) { v.now = v.sealed - skew })
	ok("client-after-five-years", "a client_id has no life", func(v *value) { v.kind, v.context, v.now = "c", "", v.sealed+5*year })
	ok("last-second-of-period", "opened in the next period: the period is that of issued-at", func(v *value) {
		v.sealed = (t/86400+1)*86400 - 1
		v.now = v.sealed + 10
	})
	ok("first-second-of-period", "opened while the clock is still in the period before", func(v *value) {
		v.sealed = (t/86400 + 1) * 86400
		v.now = v.sealed - 10
	})

	refused := func(name, reason, comment string, open func(*value), text func(v value) string) {
		v := base
		copy(v.nonce[:], hash(name))
		s := text(v)
		if _, got := v.open(s); got != "" && open != nil {
			log.Fatalf("%s is refused (%s) even where it was sealed", name, got)
		}
		if open != nil {
			open(&v)
		}
		if _, got := v.open(s); got != reason {
			log.Fatalf("%s fails at %q, not at %q", name, got, reason)
		}
		v.write("refused-"+name, "refused", comment, s)
	}
	asSealed := func(v value) string { return v.String() }
	flip := func(i int) func(value) string {
		return func(v value) string {
			raw := v.raw()
			raw[(i+len(raw))%len(raw)] ^= 1
			return spell(v.kind, raw)
		}
	}
	respell := func(change func(string) string) func(value) string {
		return func(v value) string { return change(v.String()) }
	}
	const oneBit = "one bit differs in the "

	refused("flip-suite", "suite", oneBit+"suite", nil, flip(0))
	refused("suite-2", "suite", "a suite that does not exist, sealed correctly", nil, func(v value) string { v.suite = 2; return v.String() })
	refused("flip-master-id", "master", oneBit+"master id", nil, flip(3))
	refused("flip-issued-at", "authentication", oneBit+"issued-at: another second of the same period", nil, flip(7))
	refused("flip-nonce", "authentication", oneBit+"nonce", nil, flip(8))
	refused("flip-ciphertext", "authentication", oneBit+"ciphertext", nil, flip(20))
	refused("flip-tag", "authentication", oneBit+"tag", nil, flip(-1))
	refused("truncated-by-a-byte", "authentication", "the last byte is missing", nil, func(v value) string { r := v.raw(); return spell(v.kind, r[:len(r)-1]) })
	refused("truncated-to-the-tag", "too short", "35 bytes: one less than header, nonce and tag", nil, func(v value) string { return spell(v.kind, v.raw()[:35]) })
	refused("truncated-ciphertext", "authentication", "36 bytes, but the ciphertext is cut, not empty", nil, func(v value) string { return spell(v.kind, v.raw()[:36]) })
	refused("prefix-only", "too short", "a prefix and nothing else", nil, respell(func(s string) string { return s[:5] }))
	refused("no-prefix", "prefix", "the prefix is missing", nil, respell(func(s string) string { return s[5:] }))
	refused("prefix-in-capitals", "prefix", "the prefix is in capital letters", nil, respell(func(s string) string { return "MBA1_" + s[5:] }))
	refused("prefix-version-2", "prefix", "a version that does not exist", nil, respell(func(s string) string { return "mba2_" + s[5:] }))
	refused("empty", "prefix", "no characters at all", nil, func(value) string { return "" })
	refused("extended-by-a-byte", "authentication", "one zero byte more", nil, func(v value) string { return spell(v.kind, append(v.raw(), 0)) })
	refused("extended-by-a-character", "alphabet", "one character more: no base64 text has this length", nil, func(v value) string {
		v.payload = v.payload[:33] // 69 bytes, a multiple of three
		return v.String() + "A"
	})
	refused("crlf", "spelling", "CR LF in the middle, which lenient decoders skip", nil, respell(func(s string) string { return s[:40] + "\r\n" + s[40:] }))
	refused("newline-at-the-end", "spelling", "LF at the end", nil, respell(func(s string) string { return s + "\n" }))
	refused("space-at-the-end", "alphabet", "a space at the end", nil, respell(func(s string) string { return s + " " }))
	refused("padded", "alphabet", "base64 padding", nil, func(v value) string {
		v.payload = v.payload[:35] // 71 bytes: one padding character would be right
		return v.String() + "="
	})
	refused("non-canonical", "spelling", "the unused bits of the last character are not zero", nil, func(v value) string {
		v.payload = v.payload[:35]
		s := v.String()
		const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
		last := strings.IndexByte(digits, s[len(s)-1])
		return s[:len(s)-1] + digits[last|1:][:1]
	})
	refused("standard-alphabet", "alphabet", "+ and / in place of - and _", nil, func(v value) string {
		s := strings.NewReplacer("-", "+", "_", "/").Replace(v.String()[5:])
		if !strings.ContainsAny(s, "+/") {
			log.Fatal("standard-alphabet needs another nonce")
		}
		return "mba1_" + s
	})
	refused("other-kind", "prefix", "a code, presented as a refresh token", func(v *value) { v.kind = "r" }, asSealed)
	refused("other-tenant", "authentication", "another tenant", func(v *value) { v.tenant = world }, asSealed)
	refused("other-context", "authentication", "a code of another client_id", func(v *value) { v.context = string(otherHash[:]) }, asSealed)
	refused("empty-context", "authentication", "the context is not given", func(v *value) { v.context = "" }, asSealed)
	refused("too-old", "age", "one second older than life + skew", func(v *value) { v.now = v.sealed + 60 + skew + 1 }, asSealed)
	refused("from-the-future", "future", "issued one second more than the skew in the future", func(v *value) { v.now = v.sealed - skew - 1 }, asSealed)
	refused("unknown-master", "master", "the ring no longer lists the master", func(v *value) { v.ring = []master{older} }, asSealed)
	refused("ring-of-somebody-else", "master", "sealed under a master that was never in the ring", nil, func(v value) string { v.sealer = stranger; return v.String() })
	refused("too-long", "length", "8,193 characters", nil, func(v value) string { v.payload = strings.Repeat("x", 6105); return v.String() })
	refused("jwe", "prefix", "a JWE (the example of RFC 7516, A.1, shortened)", nil, func(value) string {
		return "eyJhbGciOiJSU0EtT0FFUCIsImVuYyI6IkEyNTZHQ00ifQ.OKOawDo13gRp2ojaHV7LFpZcgV7T6DVZKTyKOMTYUmKoTCVJRgckCL9kiMT03JGe.48V1_ALb6US04U3b.5eym8TW_c8SuK0ltJ3rpYIzOeDQz7TALvtu6UG9oMo4vpzs9tX_EFShS8iB7j6ji.XFBoMYUZodetZdvTiFvSkQ"
	})

	// Only the prefix changes the kind here, and the opener asks for the kind that the prefix now
	// claims.
	v := base
	copy(v.nonce[:], hash("relabelled"))
	s := "mbr1_" + v.String()[5:]
	v.kind = "r"
	if _, got := v.open(s); got != "authentication" {
		log.Fatalf("relabelled fails at %q", got)
	}
	v.write("refused-other-kind-relabelled", "refused", "a code whose prefix was changed to that of a refresh token", s)
}

func (v value) write(name, expect, comment, text string) {
	var ring []string
	for _, m := range v.ring {
		ring = append(ring, m.String())
	}
	lines := []string{
		"expect", expect,
		"comment", comment,
		"masters", strings.Join(ring, ","),
		"kind", v.kind,
		"tenant", hex.EncodeToString([]byte(v.tenant)),
		"context", hex.EncodeToString([]byte(v.context)),
		"now", fmt.Sprint(v.now),
	}
	if expect == "ok" {
		lines = append(lines, "payload", hex.EncodeToString([]byte(v.payload)))
	}
	writeFile(*dir, name, headers(lines...)+"\n"+text+"\n")
}

func tenantID(publicURL, resource, audience, upstreamIssuer, upstreamClientID string, generation uint32) string {
	return string(hash(lp(publicURL, resource, audience, upstreamIssuer, upstreamClientID) + u32(generation)))
}

func derivations() {
	m := newMaster("new")
	derive := func(name, comment string, inputs, results []string) {
		writeFile(*dir, "derive-"+name, headers(append([]string{"derive", name, "comment", comment}, inputs...)...)+"\n"+headers(results...))
	}

	fields := []string{"https://mcp.example/wiki", "wiki", "https://mcp.example/wiki/mcp", "https://accounts.example", "client-1"}
	tenant := tenantID(fields[0], fields[1], fields[2], fields[3], fields[4], 7)
	derive("tenant-id", "SHA-256( LP of each field, generation )",
		[]string{"public-url", fields[0], "resource", fields[1], "audience", fields[2], "upstream-issuer", fields[3], "upstream-client-id", fields[4], "generation", "7"},
		[]string{"tenant", hexOf(tenant)})

	derive("master-id", "HKDF-Extract, then 3 bytes of HKDF-Expand",
		[]string{"masters", m.String()},
		[]string{"prk", hexOf(m.prk), "info", hexOf(lp("mcpbouncer/v1/master-id")), "master-id", hexOf(m.id())})

	const period = 1_790_000_000 / 86400
	info := m.sealInfo("a", tenant, period)
	derive("sealing-key", "the AES-256 key of codes of one tenant on one day",
		[]string{"masters", m.String(), "kind", "a", "tenant", hexOf(tenant), "period", fmt.Sprint(period)},
		[]string{"info", hexOf(info), "key", hexOf(m.expand(info, 32))})

	const rotation, epoch = 30 * 86400, 690
	info = lp("mcpbouncer/v1/sign-ed25519", tenant) + u32(rotation) + u32(epoch)
	seed := m.expand(info, 32)
	public := ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey)
	derive("signing-key", "Ed25519 (RFC 8032) seed and public key of one epoch; rotation in seconds",
		[]string{"masters", m.String(), "tenant", hexOf(tenant), "rotation", fmt.Sprint(rotation), "epoch", fmt.Sprint(epoch)},
		[]string{"info", hexOf(info), "seed", hexOf(seed), "public", hexOf(public)})

	hop := m.expand(lp("mcpbouncer/v1/hop"), 32)
	derive("hop-key", "the key as the plugin is given it, and its public id",
		[]string{"masters", m.String()},
		[]string{"hop-key", base64.StdEncoding.EncodeToString(hop), "key-id", hexOf(hash("mcpbouncer/v1/hop-key-id" + string(hop))[:3])})

	const publicURL = "https://mcp.example/wiki"
	derive("dpop-nonce-key", "HMAC-SHA-256 under the hop key, over the label and the public URL",
		[]string{"masters", m.String(), "public-url", publicURL},
		[]string{"key", hexOf(mac(hop, "mcpbouncer/v1/dpop-nonce"+publicURL))})

	const jti, token, label = "0XfRpyKDu6Xb3S3qQdS6Hw", "gho_16C7e42F292c6912E7710c838347Ae178B4a", "mcpbouncer/v1/upstream-token"
	upstream := mac(hop, label+lp(publicURL, jti))
	block, err := aes.NewCipher(upstream)
	check(err)
	gcm, err := cipher.NewGCM(block)
	check(err)
	sealed := append(hash("mcpbouncer/v1/hop-key-id" + string(hop))[:3:3], gcm.Seal(nil, make([]byte, 12), []byte(token), []byte(label))...)
	derive("upstream-token", "the key id of the hop key, then AES-256-GCM under a key of one access token, with a nonce of zeros",
		[]string{"masters", m.String(), "public-url", publicURL, "jti", jti, "token", token},
		[]string{"key", hexOf(upstream), "sealed", b64(sealed)})

	client := value{sealer: m, suite: 1, kind: "c", tenant: tenant, sealed: 1_790_000_000, payload: "\xa1\x01\x02"}
	copy(client.nonce[:], hash("client-secret"))
	key := m.expand(lp("mcpbouncer/v1/client-secret", tenant), 32)
	derive("client-secret", "HMAC-SHA-256 over the client_id as text",
		[]string{"masters", m.String(), "tenant", hexOf(tenant), "client-id", client.String()},
		[]string{"key", hexOf(key), "client-secret", b64(mac(key, client.String()))})

	key = m.expand(lp("mcpbouncer/v1/log-pseudonym", tenant), 32)
	derive("pseudonym", "the first 12 bytes of HMAC-SHA-256 over the subject",
		[]string{"masters", m.String(), "tenant", hexOf(tenant), "subject", "248289761001"},
		[]string{"key", hexOf(key), "pseudonym", b64(mac(key, "248289761001")[:12])})

	derive("fingerprint", "the first 12 bytes of SHA-256( LP(label) LP(client_id) )",
		[]string{"client-id", "https://client.example/metadata.json"},
		[]string{"fingerprint", b64(hash(lp("mcpbouncer/v1/fingerprint", "https://client.example/metadata.json"))[:12])})

	derive("replay-mark", "the first 16 bytes of SHA-256( LP(label, use, tenant id, value) )",
		[]string{"tenant", hexOf(tenant), "use", "code", "value", "an-upstream-code"},
		[]string{"mark", hexOf(hash(lp("mcpbouncer/v1/replay-mark", "code", string(tenant[:]), "an-upstream-code"))[:16])})

	issuer, id := "https://sso.example.com/realms/acme", "mcp bouncer"
	info = lp("mcpbouncer/v1/client-p256", issuer, id)
	wide := m.expand(info, 48)
	// The loop computes the remainder modulo n - 1, plus 1, from the top bit down: it shifts and
	// subtracts, with no number longer than the order. The variable order holds n - 1.
	order, _ := new(big.Int).SetString("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632550", 16)
	rest := new(big.Int)
	for i := range 8 * len(wide) {
		rest.Lsh(rest, 1)
		rest.SetBit(rest, 0, uint(wide[i/8]>>(7-i%8))&1)
		if rest.Cmp(order) >= 0 {
			rest.Sub(rest, order)
		}
	}
	scalar := rest.Add(rest, big.NewInt(1)).FillBytes(make([]byte, 32))
	p256, err := ecdh.P256().NewPrivateKey(scalar)
	check(err)
	derive("client-key", "P-256 key of a client at a provider; public is 04, x, y",
		[]string{"masters", m.String(), "upstream-issuer", issuer, "upstream-client-id", id},
		[]string{"info", hexOf(info), "wide", hexOf(wide), "scalar", hexOf(scalar), "public", hexOf(p256.PublicKey().Bytes())})

	login := hash("mcpbouncer test vector, login seed")
	derive("login", "HMAC-SHA-256 under the seed, over the label; 16, 16 and 32 bytes of it",
		[]string{"seed", hexOf(login)},
		[]string{
			"state", b64(mac(login, "mcpbouncer/v1/login-state")[:16]),
			"nonce", b64(mac(login, "mcpbouncer/v1/login-nonce")[:16]),
			"code-verifier", b64(mac(login, "mcpbouncer/v1/login-pkce")),
		})
}

func mac(key []byte, message string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(message))
	return h.Sum(nil)
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func hash(s string) []byte {
	sum := sha256.Sum256([]byte(s))
	return sum[:]
}

func hexOf[T ~string | ~[]byte](b T) string { return hex.EncodeToString([]byte(b)) }

// headers writes name and value in turns, `name: value` a line.
func headers(pairs ...string) string {
	var b strings.Builder
	for i := 0; i < len(pairs); i += 2 {
		b.WriteString(strings.TrimSuffix(pairs[i]+": "+pairs[i+1], " ") + "\n")
	}
	return b.String()
}

func writeFile(dir, name, text string) {
	f, err := os.OpenFile(filepath.Join(dir, name+".txt"), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	check(err)
	_, err = f.WriteString(text)
	check(errors.Join(err, f.Close()))
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
