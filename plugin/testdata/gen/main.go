// Command gen writes the vector files of plugin/testdata, always the same ones:
//
//	go run ./plugin/testdata/gen plugin/testdata docs/hop.md
//
// ../README.md describes the files. The program shares no code with the plugin, so that the two
// check each other.
package main

import (
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"log"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

const (
	issuer   = "https://mcp.localhost/wiki"
	audience = "wiki"
	clock    = 1_800_000_000
)

var b64 = base64.RawURLEncoding

func main() {
	log.SetFlags(0)
	if len(os.Args) != 3 {
		log.Fatal("usage: gen DIRECTORY PAGE-OF-THE-HOP")
	}
	writeTokens(filepath.Join(os.Args[1], "tokens"))
	writeHops(filepath.Join(os.Args[1], "hop"), membersOf(os.Args[2]))
	writeReasons(filepath.Join(os.Args[1], "reason"))
	writeScopeRules(filepath.Join(os.Args[1], "scoperules"))
	writeUpstreamTokens(filepath.Join(os.Args[1], "upstreamtoken"))
	writeWorkloadRules(filepath.Join(os.Args[1], "workloadrules"))
}

func write(dir, name string, lines ...string) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		log.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".txt"), []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
		log.Fatal(err)
	}
}

// stream returns deterministic bytes: SHA-256 of label and counter.
func stream(label string, n int) []byte {
	var out []byte
	for i := 0; len(out) < n; i++ {
		block := sha256.Sum256(fmt.Appendf(nil, "mcpbouncer test vectors %s %d", label, i))
		out = append(out, block[:]...)
	}
	return out[:n]
}

// rsaKey searches its primes upwards from fixed bytes, because rsa.GenerateKey gives another key
// each time.
func rsaKey(label string, bits int) *rsa.PrivateKey {
	e := big.NewInt(65537)
	prime := func(label string) *big.Int {
		p := new(big.Int).SetBytes(stream(label, bits/16))
		p.SetBit(p, bits/2-1, 1).SetBit(p, bits/2-2, 1).SetBit(p, 0, 1)
		for {
			order := new(big.Int).Sub(p, big.NewInt(1))
			if p.ProbablyPrime(20) && new(big.Int).GCD(nil, nil, order, e).IsInt64() && new(big.Int).Mod(order, e).Sign() != 0 {
				return p
			}
			p.Add(p, big.NewInt(2))
		}
	}
	p, q := prime(label+" p"), prime(label+" q")
	one := big.NewInt(1)
	phi := new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
	return &rsa.PrivateKey{
		PublicKey: rsa.PublicKey{N: new(big.Int).Mul(p, q), E: 65537},
		D:         new(big.Int).ModInverse(e, phi),
		Primes:    []*big.Int{p, q},
	}
}

func rsaSign(key *rsa.PrivateKey, text string) []byte {
	// The padding of RFC 8017 §9.2 is written by hand, because crypto/rsa does not sign with 1024
	// bits, and one vector needs that.
	hash := sha256.Sum256([]byte(text))
	info := append([]byte("\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20"), hash[:]...)
	size := (key.N.BitLen() + 7) / 8
	block := append([]byte{0, 1}, []byte(strings.Repeat("\xff", size-len(info)-3))...)
	block = append(append(block, 0), info...)
	return new(big.Int).Exp(new(big.Int).SetBytes(block), key.D, key.N).FillBytes(make([]byte, size))
}

// signer signs a JWS signing input.
type signer func(text string) []byte

func writeTokens(dir string) {
	edKey := ed25519.NewKeyFromSeed(stream("ed25519", 32))
	otherKey := ed25519.NewKeyFromSeed(stream("other ed25519", 32))
	bigKey, smallKey := rsaKey("rsa", 2048), rsaKey("small rsa", 1024)
	ed := func(text string) []byte { return ed25519.Sign(edKey, []byte(text)) }
	other := func(text string) []byte { return ed25519.Sign(otherKey, []byte(text)) }
	rs := func(text string) []byte { return rsaSign(bigKey, text) }
	small := func(text string) []byte { return rsaSign(smallKey, text) }
	none := func(string) []byte { return nil }
	if err := rsa.VerifyPKCS1v15(&bigKey.PublicKey, crypto.SHA256, hashOf("x"), rs("x")); err != nil {
		log.Fatal(err)
	}
	n := func(k *rsa.PrivateKey) string { return b64.EncodeToString(k.N.Bytes()) }
	jwks := fmt.Sprintf(`{"keys":[{"kty":"OKP","crv":"Ed25519","use":"sig","alg":"EdDSA","kid":"ed","x":"%s"},`+
		`{"kty":"RSA","use":"sig","alg":"RS256","kid":"rs","n":"%s","e":"AQAB"},`+
		`{"kty":"RSA","use":"sig","alg":"RS256","kid":"small","n":"%s","e":"AQAB"},`+
		`{"kty":"OKP","crv":"Ed25519","use":"enc","alg":"EdDSA","kid":"enc","x":"%[1]s"}]}`,
		b64.EncodeToString(edKey.Public().(ed25519.PublicKey)), n(bigKey), n(smallKey))

	header := `{"alg":"EdDSA","kid":"ed","typ":"at+jwt"}`
	claims := `{"iss":"https://mcp.localhost/wiki","sub":"user-1","aud":["wiki","https://mcp.localhost/wiki"],"exp":1800003600,"iat":1800000000,"nbf":1800000000,"jti":"a1","client_id":"client-1","scope":"openid mcp"}`
	with := func(text, old, new string) string {
		if !strings.Contains(text, old) {
			log.Fatalf("%q holds no %q", text, old)
		}
		return strings.Replace(text, old, new, 1)
	}
	compact := func(header, claims string, sign signer) string {
		text := b64.EncodeToString([]byte(header)) + "." + b64.EncodeToString([]byte(claims))
		return text + "." + b64.EncodeToString(sign(text))
	}
	file := func(name, expect, token string) {
		write(dir, name, "expect: "+expect, "iss: "+issuer, "audience: "+audience, fmt.Sprint("now: ", clock), "jwks: "+jwks, "", token)
	}
	head := func(name, expect, old, new string) { file(name, expect, compact(with(header, old, new), claims, ed)) }
	claim := func(name, expect, old, new string) { file(name, expect, compact(header, with(claims, old, new), ed)) }

	valid := compact(header, claims, ed)
	file("valid-eddsa", "ok", valid)
	file("valid-rs256", "ok", compact(`{"alg":"RS256","kid":"rs","typ":"at+jwt"}`, claims, rs))
	claim("valid-audience-string", "ok", `["wiki","https://mcp.localhost/wiki"]`, `"wiki"`)
	claim("valid-no-scope", "ok", `,"scope":"openid mcp"`, ``)
	claim("valid-no-nbf", "ok", `"nbf":1800000000,`, ``)
	claim("valid-expired-within-skew", "ok", `"exp":1800003600`, `"exp":1799999941`)
	claim("valid-issued-ahead-within-skew", "ok", `"iat":1800000000,"nbf":1800000000`, `"iat":1800000300,"nbf":1800000300`)
	claim("valid-fractional-date", "ok", `"exp":1800003600`, `"exp":1800003600.5`)

	head("type-jwt", "errType", `at+jwt`, `JWT`)
	head("type-other-case", "errType", `at+jwt`, `AT+JWT`)
	head("type-missing", "errType", `,"typ":"at+jwt"`, ``)
	head("type-other-name", "errType", `"typ"`, `"TYP"`)
	file("algorithm-none", "errAlgorithm", compact(with(header, "EdDSA", "none"), claims, none))
	file("algorithm-none-other-case", "errAlgorithm", compact(with(header, "EdDSA", "nOnE"), claims, none))
	head("algorithm-hs256", "errAlgorithm", `EdDSA`, `HS256`)
	head("algorithm-es256", "errAlgorithm", `EdDSA`, `ES256`)
	head("algorithm-other-case", "errAlgorithm", `EdDSA`, `eddsa`)
	head("algorithm-missing", "errAlgorithm", `"alg":"EdDSA",`, ``)
	head("algorithm-number", "errMalformed", `"EdDSA"`, `7`)
	head("algorithm-of-another-key", "errAlgorithm", `"EdDSA"`, `"RS256"`)
	head("algorithm-twice", "errAlgorithm", `"alg":"EdDSA"`, `"alg":"EdDSA","alg":"none"`)
	file("algorithm-of-the-rsa-key", "errAlgorithm", compact(with(header, `"ed"`, `"rs"`), claims, ed))
	for _, name := range []string{"crit", "b64", "jwk", "jku", "x5u", "x5c", "zip", "cty", "Alg"} {
		head("header-"+name, "errHeader", `"typ"`, `"`+name+`":"EdDSA","typ"`)
	}
	head("header-crit-array", "errMalformed", `"typ"`, `"crit":["b64"],"typ"`)
	head("header-jwk-object", "errMalformed", `"typ"`, `"jwk":{"kty":"OKP"},"typ"`)
	head("kid-unknown", "errKeyUnknown", `"ed"`, `"other"`)
	head("kid-missing", "errKeyUnknown", `"kid":"ed",`, ``)
	head("kid-traversal", "errKeyUnknown", `"ed"`, `"../../dev/null"`)
	head("kid-too-long", "errKeyUnknown", `"ed"`, `"`+strings.Repeat("e", 65)+`"`)
	head("kid-number", "errMalformed", `"ed"`, `1`)
	head("kid-of-an-encryption-key", "errKeyUnknown", `"ed"`, `"enc"`)
	file("kid-of-a-1024-bit-key", "errKeyUnknown", compact(`{"alg":"RS256","kid":"small","typ":"at+jwt"}`, claims, small))

	claim("issuer-other-tenant", "errIssuer", `"https://mcp.localhost/wiki","sub"`, `"https://mcp.localhost/world","sub"`)
	claim("issuer-trailing-slash", "errIssuer", `/wiki","sub"`, `/wiki/","sub"`)
	claim("issuer-other-case", "errIssuer", `"https://mcp.localhost/wiki","sub"`, `"https://MCP.localhost/wiki","sub"`)
	claim("issuer-missing", "errIssuer", `"iss":"https://mcp.localhost/wiki",`, ``)
	claim("audience-of-another-resource", "errAudience", `["wiki","https://mcp.localhost/wiki"]`, `["world"]`)
	claim("audience-prefix", "errAudience", `["wiki","https://mcp.localhost/wiki"]`, `"wiki2"`)
	claim("audience-empty", "errAudience", `["wiki","https://mcp.localhost/wiki"]`, `[]`)
	claim("audience-missing", "errAudience", `"aud":["wiki","https://mcp.localhost/wiki"],`, ``)
	claim("audience-object", "errAudience", `["wiki","https://mcp.localhost/wiki"]`, `{"wiki":"wiki"}`)
	claim("expired", "errExpired", `"exp":1800003600`, `"exp":1799999940`)
	claim("expiry-missing", "errMalformed", `"exp":1800003600,`, ``)
	claim("expiry-string", "errMalformed", `"exp":1800003600`, `"exp":"1800003600"`)
	claim("expiry-absurd", "errMalformed", `"exp":1800003600`, `"exp":1e300`)
	claim("issued-in-the-future", "errNotYetValid", `"iat":1800000000`, `"iat":1800000301`)
	claim("issued-missing", "errMalformed", `"iat":1800000000,`, ``)
	claim("not-before-in-the-future", "errNotYetValid", `"nbf":1800000000`, `"nbf":1800000301`)
	claim("not-before-string", "errMalformed", `"nbf":1800000000`, `"nbf":"now"`)
	claim("subject-empty", "errSubject", `"user-1"`, `""`)
	claim("subject-missing", "errSubject", `"sub":"user-1",`, ``)
	claim("subject-number", "errMalformed", `"user-1"`, `1`)
	claim("client-missing", "errClient", `,"client_id":"client-1"`, ``)
	claim("scope-array", "errMalformed", `"openid mcp"`, `["openid","mcp"]`)
	claim("scope-with-a-line-break", "errMalformed", `"openid mcp"`, `"openid\r\u0000X-Mcp-Sub: root"`)

	file("signature-of-another-key", "errSignature", compact(header, claims, other))
	file("signature-empty", "errSignature", valid[:strings.LastIndex(valid, ".")+1])
	file("signature-truncated", "errSignature", valid[:len(valid)-2])
	file("claims-changed", "errSignature", swapClaims(valid, with(claims, "user-1", "user-2")))
	file("header-changed", "errSignature", b64.EncodeToString([]byte(with(header, "{", "{ ")))+valid[strings.Index(valid, "."):])
	file("signature-rs256-other-claims", "errSignature", swapClaims(compact(`{"alg":"RS256","kid":"rs","typ":"at+jwt"}`, claims, rs), with(claims, "user-1", "user-2")))

	file("two-segments", "errMalformed", valid[:strings.LastIndex(valid, ".")])
	file("four-segments", "errMalformed", valid+".AA")
	file("five-segments-as-a-jwe", "errMalformed", valid+".AA.AA")
	file("padding", "errMalformed", valid+"==")
	file("standard-base64", "errMalformed", valid[:strings.LastIndex(valid, ".")+1]+"+/"+valid[strings.LastIndex(valid, ".")+3:])
	file("trailing-bits", "errMalformed", lastBit(valid))
	file("blank-inside", "errMalformed", valid[:20]+" "+valid[20:])
	file("header-not-an-object", "errMalformed", compact(`["at+jwt"]`, claims, ed))
	file("header-null", "errType", compact(`null`, claims, ed))
	file("claims-not-json", "errMalformed", compact(header, `iss`, ed))
	file("claims-with-trailing-data", "errMalformed", compact(header, claims+`{}`, ed))
}

func hashOf(text string) []byte {
	h := sha256.Sum256([]byte(text))
	return h[:]
}

func swapClaims(token, claims string) string {
	parts := strings.Split(token, ".")
	return parts[0] + "." + b64.EncodeToString([]byte(claims)) + "." + parts[2]
}

// lastBit changes the unused bits of the last character, which 64 bytes of signature leave.
func lastBit(token string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	i := strings.IndexByte(alphabet, token[len(token)-1])
	return token[:len(token)-1] + string(alphabet[i^1])
}

// hopKey is derived from a master secret, as docs/sealed-values.md says.
func hopKey(master []byte) []byte {
	prk, err := hkdf.Extract(sha256.New, master, []byte("mcpbouncer/v1/extract"))
	if err != nil {
		log.Fatal(err)
	}
	const label = "mcpbouncer/v1/hop"
	key, err := hkdf.Expand(sha256.New, prk, string(binary.BigEndian.AppendUint16(nil, uint16(len(label))))+label, 32)
	if err != nil {
		log.Fatal(err)
	}
	return key
}

// pageMember is a row of the table of members in docs/hop.md, its default and its example as JSON.
type pageMember struct{ name, standard, example string }

var memberRow = regexp.MustCompile("(?m)^\\| `(\\w+)` \\| [a-z0-9 -]+ \\| ([^|]+) \\| `([^|]+)` \\| [^|]+ \\|$")

// membersOf reads the table. The page is the specification: no code of the sidecar or the plugin is
// seen here.
func membersOf(page string) []pageMember {
	text, err := os.ReadFile(page)
	if err != nil {
		log.Fatal(err)
	}
	var members []pageMember
	for _, row := range memberRow.FindAllStringSubmatch(string(text), -1) {
		members = append(members, pageMember{row[1], strings.Trim(row[2], "`"), row[3]})
	}
	if len(members) < 27 || members[0].name != "v" {
		log.Fatalf("%s lists %d members", page, len(members))
	}
	return members
}

// object writes the members as an object.
func object(members []pageMember, value func(pageMember) string) string {
	var pairs []string
	for _, m := range members {
		pairs = append(pairs, `"`+m.name+`":`+value(m))
	}
	return "{" + strings.Join(pairs, ",") + "}"
}

func writeHops(dir string, members []pageMember) {
	// The master is one of those in sealing/testdata/vectors, so that a sidecar can be given it and
	// read the files as they are.
	master := hashOf("mcpbouncer test vector, master new")
	key, otherKey := hopKey(master), hopKey(stream("other hop master", 32))
	nonce := stream("hop nonce", 12)
	payload := `{"v":1,"publicURL":"https://mcp.localhost/wiki","resource":"wiki","providerIssuer":"https://accounts.google.com","clientID":"client.apps.googleusercontent.com","clientSecret":"env:GOOGLE_CLIENT_SECRET","scopes":["openid","email"]}`
	// This is what the plugin of November 2026 sent for the same tenant: no version, and every
	// member.
	without := `{"publicURL":"https://mcp.localhost/wiki","resource":"wiki","audience":"wiki","providerIssuer":"https://accounts.google.com","clientID":"client.apps.googleusercontent.com","clientSecret":"env:GOOGLE_CLIENT_SECRET","scopes":["openid","email"],"requiredScopes":[],"mcpPaths":["/mcp","/sse"],"exchange":"token","generation":0,"displayName":"wiki","logo":"","allowedEmails":[],"allowedDomains":[],"allowedGroups":[],"allowedSubjects":[],"groupsClaim":"groups","scopeRules":[],"scopesSupported":[],"identityClaims":[],"privateRedirectURIs":[],"refresh":"auto","upstreamCheckInterval":3600}`
	seal := func(key []byte, suite byte, at uint32, payload string) []byte {
		id := sha256.Sum256(append([]byte("mcpbouncer/v1/hop-key-id"), key...))
		head := binary.BigEndian.AppendUint32(append([]byte{suite}, id[:3]...), at)
		block, err := aes.NewCipher(key)
		if err != nil {
			log.Fatal(err)
		}
		aead, err := cipher.NewGCM(block)
		if err != nil {
			log.Fatal(err)
		}
		return append(append(head, nonce...), aead.Seal(nil, nonce, []byte(payload), append([]byte("mcpbouncer/v1/hop"), head...))...)
	}
	text := func(blob []byte) string { return "mbh1_" + b64.EncodeToString(blob) }
	mark := func(value string) string {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte("mcpbouncer/v1/hop-mark" + value))
		return b64.EncodeToString(mac.Sum(nil)[:16])
	}
	// reason is what the sidecar tells the plugin when it refuses: "none" if it does not, "key" if
	// the header does not authenticate.
	file := func(name, reason string, now int64, payload, value string) {
		expect, m := "refused", mark(value)
		switch reason {
		case "none":
			expect = "ok"
		case "key":
			m = "none"
		}
		write(dir, name, "expect: "+expect, "reason: "+reason, "mark: "+m, "master: "+base64.StdEncoding.EncodeToString(master), "key: "+base64.StdEncoding.EncodeToString(key), fmt.Sprint("now: ", now), "payload: "+payload, "", value)
	}
	good := seal(key, 1, clock, payload)
	changed := func(i int, mask byte) string {
		blob := append([]byte{}, good...)
		blob[i] ^= mask
		return text(blob)
	}
	refuse := func(name, value string) { file(name, "key", clock, payload, value) }
	change := func(old, new string) string {
		if !strings.Contains(payload, old) {
			log.Fatalf("payload holds no %q", old)
		}
		return strings.Replace(payload, old, new, 1)
	}
	holds := func(name, reason, payload string) {
		file(name, reason, clock, payload, text(seal(key, 1, clock, payload)))
	}
	member := func(name, reason, old, new string) { holds(name, reason, change(old, new)) }

	file("valid", "none", clock, payload, text(good))
	file("valid-almost-too-old", "none", clock+359, payload, text(good))
	file("valid-almost-from-the-future", "none", clock-299, payload, text(good))
	all := []string{`"audience":"wiki"`, `"audience":"wiki-api"`, `"requiredScopes":[]`, `"requiredScopes":["mcp:read","mcp:write"]`,
		`["/mcp","/sse"]`, `["/"]`, `"token"`, `"callback"`, `"generation":0`, `"generation":7`,
		`"displayName":"wiki"`, `"displayName":"Das große Wiki"`, `"logo":""`, `"logo":"data:image/png;base64,iVBORw0KGgo="`,
		`"allowedEmails":[]`, `"allowedEmails":["anna@example.com"]`, `"allowedDomains":[]`, `"allowedDomains":["example.com"]`,
		`"allowedGroups":[]`, `"allowedGroups":["wiki editors"]`, `"allowedSubjects":[]`, `"allowedSubjects":["248289761001"]`,
		`"groupsClaim":"groups"`, `"groupsClaim":"realm_access.roles"`, `"scopeRules":[]`, `"scopeRules":["group:admins=mcp:write mcp:read","*=mcp:read"]`,
		`"scopesSupported":[]`, `"scopesSupported":["mcp:read"]`, `"identityClaims":[]`, `"identityClaims":["email","groups"]`,
		`"privateRedirectURIs":[]`, `"privateRedirectURIs":["myapp://login/callback"]`,
		`"refresh":"auto"`, `"refresh":"session"`, `"upstreamCheckInterval":3600`, `"upstreamCheckInterval":0`,
		`env:GOOGLE_CLIENT_SECRET`, `p\"\\\u003cß`}
	full := strings.NewReplacer(all...).Replace(without)
	for i := 1; i < len(all); i += 2 {
		if !strings.Contains(full, all[i]) {
			log.Fatalf("not every label is set: %s", all[i])
		}
	}
	holds("valid-all-labels", "none", object(members, func(m pageMember) string {
		if m.name == "clientSecret" {
			return `"p\"\\\u003cß"` // what JSON escapes
		}
		return m.example
	}))
	holds("valid-all-defaults-sent", "none", object(members, func(m pageMember) string {
		switch m.standard {
		case "always sent":
			return m.example
		case "the resource":
			return `"wiki"`
		}
		return m.standard
	}))
	holds("valid-labels-of-the-first-version", "none", `{"v":1,`+full[1:])
	holds("valid-without-version", "none", without)
	holds("valid-without-version-all-labels", "none", full)
	holds("valid-defaults-sent", "none", `{"v":1,`+strings.Replace(without[1:], `"token"`, `"auto"`, 1))
	// A plugin without a version means exchange=token when it leaves the member out. Since then it
	// must be stated.
	member("valid-exchange-token", "none", `"scopes":["openid","email"]`, `"scopes":["openid","email"],"exchange":"token"`)
	holds("valid-smallest", "none", change(`,"clientSecret":"env:GOOGLE_CLIENT_SECRET","scopes":["openid","email"]`, ``))
	holds("valid-list-emptied", "none", change(`"scopes":["openid","email"]`, `"scopes":["openid","email"],"mcpPaths":[]`))

	file("too-old", "clock 361", clock+361, payload, text(good))
	file("from-the-future", "clock -301", clock-301, payload, text(good))
	refuse("other-key", text(seal(otherKey, 1, clock, payload)))
	refuse("other-key-under-this-key-id", text(append(append([]byte{}, good[:8]...), seal(otherKey, 1, clock, payload)[8:]...)))
	refuse("other-suite", text(seal(key, 2, clock, payload)))
	refuse("bit-flip-suite", changed(0, 2))
	refuse("bit-flip-key-id", changed(1, 1))
	refuse("bit-flip-issued-at", changed(7, 1))
	refuse("bit-flip-nonce", changed(8, 1))
	refuse("bit-flip-ciphertext", changed(20, 1))
	refuse("bit-flip-tag", changed(len(good)-1, 1))
	refuse("truncated-tag", text(good[:len(good)-1]))
	refuse("truncated-to-header", text(good[:8]))
	refuse("truncated-to-prefix", "mbh1_")
	refuse("extended", text(append(append([]byte{}, good...), 0)))
	refuse("no-prefix", text(good)[5:])
	refuse("other-prefix", "mbc1_"+text(good)[5:])
	refuse("respelled-trailing-bits", lastBit(text(append([]byte{}, good...))))
	refuse("respelled-padding", text(good)+strings.Repeat("=", (4-b64.EncodedLen(len(good))%4)%4+4*boolInt(b64.EncodedLen(len(good))%4 == 0)))
	refuse("respelled-standard-base64", "mbh1_"+base64.RawStdEncoding.EncodeToString(good))
	refuse("respelled-blank", text(good)+" ")
	refuse("respelled-line-break", text(good)[:40]+`\r\n`+text(good)[40:])
	refuse("too-long", text(seal(key, 1, clock, strings.Replace(payload, `"wiki"`, `"`+strings.Repeat("w", 8000)+`"`, 1))))

	member("version-2", "version 1", `"v":1`, `"v":2`)
	member("version-as-text", "version 1", `"v":1`, `"v":"1"`)
	member("version-null", "version 1", `"v":1`, `"v":null`)
	member("version-2-with-an-unknown-member", "version 1", `"v":1`, `"v":2,"admin":true`)
	member("version-repeated", "value", `"v":1`, `"v":1,"v":1`)
	member("member-unknown", "label allowedCountries", `"resource"`, `"allowedCountries":["CH"],"resource"`)
	member("member-unknown-and-empty", "label allowedCountries", `"resource"`, `"allowedCountries":[],"resource"`)
	member("member-unknown-among-others", "label allowedCountries", `"resource"`, `"zone":"a","allowedCountries":["CH"],"generation":"0","resource"`)
	holds("member-unknown-without-version", "label allowedCountries", strings.Replace(without, `"resource"`, `"allowedCountries":["CH"],"resource"`, 1))
	member("member-missing", "value resource", `"resource":"wiki",`, ``)
	member("member-empty", "value resource", `"resource":"wiki"`, `"resource":""`)
	member("member-repeated", "value", `"resource":"wiki"`, `"resource":"world","resource":"wiki"`)
	member("member-in-other-case", "label Resource", `"resource"`, `"Resource"`)
	member("member-of-another-type", "value generation", `"resource"`, `"generation":"0","resource"`)
	member("member-null", "value scopes", `["openid","email"]`, `null`)
	member("trailing-data", "value", `"email"]}`, `"email"]}{}`)
}

// writeUpstreamTokens writes sealed access tokens of a provider, all for one public URL and jti.
func writeUpstreamTokens(dir string) {
	key, other := hopKey(hashOf("mcpbouncer test vector, master new")), hopKey(stream("other hop master", 32))
	const label, publicURL, jti = "mcpbouncer/v1/upstream-token", "https://mcp.localhost/wiki", "0XfRpyKDu6Xb3S3qQdS6Hw"
	lp := func(texts ...string) string {
		all := ""
		for _, text := range texts {
			all += string(binary.BigEndian.AppendUint16(nil, uint16(len(text)))) + text
		}
		return all
	}
	seal := func(key []byte, message, aad, token string) []byte {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(message))
		block, err := aes.NewCipher(mac.Sum(nil))
		if err != nil {
			log.Fatal(err)
		}
		aead, err := cipher.NewGCM(block)
		if err != nil {
			log.Fatal(err)
		}
		id := hashOf("mcpbouncer/v1/hop-key-id" + string(key))[:3]
		return append(id[:3:3], aead.Seal(nil, make([]byte, 12), []byte(token), []byte(aad))...)
	}
	good := func(token string) []byte { return seal(key, label+lp(publicURL, jti), label, token) }
	file := func(name, expect, token, sealed string) {
		write(dir, name, "expect: "+expect, "key: "+base64.StdEncoding.EncodeToString(key), "publicURL: "+publicURL, "jti: "+jti, "token: "+token, "", sealed)
	}
	const token = "gho_16C7e42F292c6912E7710c838347Ae178B4a"
	file("valid", "ok", token, b64.EncodeToString(good(token)))
	file("valid-one-character", "ok", "a", b64.EncodeToString(good("a")))
	long := strings.Repeat("eyJ0eXAiOiJKV1Qi", 4096/16)
	file("valid-longest", "ok", long, b64.EncodeToString(good(long)))

	refuse := func(name, expect string, sealed []byte) { file(name, expect, "none", b64.EncodeToString(sealed)) }
	refuse("other-key", "hop key", seal(other, label+lp(publicURL, jti), label, token))
	refuse("other-key-under-this-key-id", "unreadable", append(good(token)[:3:3], seal(other, label+lp(publicURL, jti), label, token)[3:]...))
	refuse("other-public-url", "unreadable", seal(key, label+lp("https://mcp.localhost/world", jti), label, token))
	refuse("other-jti", "unreadable", seal(key, label+lp(publicURL, "1XfRpyKDu6Xb3S3qQdS6Hw"), label, token))
	refuse("lengths-moved", "unreadable", seal(key, label+lp(publicURL+jti[:1], jti[1:]), label, token))
	refuse("other-additional-data", "unreadable", seal(key, label+lp(publicURL, jti), "mcpbouncer/v1/hop", token))
	refuse("other-label", "unreadable", seal(key, "mcpbouncer/v1/hop-reason"+lp(publicURL, jti), label, token))
	refuse("too-long", "unreadable", good(long+"a"))
	refuse("truncated", "unreadable", good(token)[:3+16])
	refuse("truncated-to-the-tag", "unreadable", good("")[:3+15])
	refuse("truncated-to-the-key-id", "unreadable", good(token)[:3])
	refuse("extended", "unreadable", append(good(token), 0))
	for i, name := range map[int]string{0: "key-id", 3: "ciphertext", len(good(token)) - 1: "tag"} {
		changed := good(token)
		changed[i] ^= 1
		refuse("bit-flip-"+name, map[bool]string{true: "hop key", false: "unreadable"}[i == 0], changed)
	}
	text := b64.EncodeToString(good(token))
	refuse("token-empty", "unreadable", good(""))
	refuse("token-with-a-line-break", "unreadable", good(token+"\r\nX-Mcp-Sub: root"))
	file("empty", "unreadable", "none", "")
	file("padded", "unreadable", "none", text+"=")
	file("standard-alphabet", "unreadable", "none", text[:20]+"+/"+text[22:])
	file("blank-inside", "unreadable", "none", text[:20]+" "+text[20:])
	file("line-break-inside", "unreadable", "none", text[:20]+`\r\n`+text[20:])
	file("trailing-bits", "unreadable", "none", lastBit(text))
}

// writeReasons writes sealed reasons, all as answers to one header.
func writeReasons(dir string) {
	key, other := hopKey(hashOf("mcpbouncer test vector, master new")), hopKey(stream("other hop master", 32))
	hop := "mbh1_" + b64.EncodeToString(stream("hop header of the reasons", 100))
	seal := func(key []byte, hop, label, reason string) []byte {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte("mcpbouncer/v1/hop-reason" + hop))
		block, err := aes.NewCipher(mac.Sum(nil))
		if err != nil {
			log.Fatal(err)
		}
		aead, err := cipher.NewGCM(block)
		if err != nil {
			log.Fatal(err)
		}
		nonce := stream("reason nonce", 12)
		return append(nonce, aead.Seal(nil, nonce, []byte(reason), []byte(label))...)
	}
	const label = "mcpbouncer/v1/hop-reason"
	good := seal(key, hop, label, "label allowedCountries")
	text := func(blob []byte) string { return "mbe1_" + b64.EncodeToString(blob) }
	file := func(name, reason, value string) {
		write(dir, name, "reason: "+reason, "key: "+base64.StdEncoding.EncodeToString(key), "hop: "+hop, "", value)
	}
	for _, reason := range []string{"clock 600", "clock -600", "version 1", "label allowedCountries", "value exchange", "value"} {
		file("valid-"+strings.ReplaceAll(reason, " ", "-"), reason, text(seal(key, hop, label, reason)))
	}
	file("other-key", "none", text(seal(other, hop, label, "clock 600")))
	file("other-header", "none", text(seal(key, hop+"A", label, "clock 600")))
	file("other-additional-data", "none", text(seal(key, hop, "mcpbouncer/v1/hop", "clock 600")))
	for i, name := range map[int]string{0: "nonce", 12: "ciphertext", len(good) - 1: "tag"} {
		changed := append([]byte{}, good...)
		changed[i] ^= 1
		file("bit-flip-"+name, "none", text(changed))
	}
	file("truncated", "none", text(good[:len(good)-1]))
	file("truncated-to-nonce", "none", text(good[:12]))
	file("truncated-to-prefix", "none", "mbe1_")
	file("no-prefix", "none", text(good)[5:])
	file("too-long", "none", text(seal(key, hop, label, "label "+strings.Repeat("a", 600))))
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// writeScopeRules writes rules of the label scopeRules, which plugin and sidecar must read alike.
func writeScopeRules(dir string) {
	for _, c := range []struct{ file, who, name, scopes, rule string }{
		{"anybody", "*", "-", "wiki:read", "*=wiki:read"},
		{"group", "group", "admins", "wiki:read wiki:write", "group:admins=wiki:read  wiki:write"},
		{"group-with-blanks", "group", "Wiki Admins", "wiki:read", "group: Wiki Admins = wiki:read"},
		{"group-with-colon", "group", "acme:admins", "wiki:read", "group:acme:admins=wiki:read"},
		{"group-path", "group", "/wiki/admins", "wiki:read", "group:/wiki/admins=wiki:read"},
		{"group-distinguished-name", "group", "cn=admins,ou=wiki", "wiki:admin", "group:cn=admins,ou=wiki=wiki:admin"},
		{"group-distinguished-name-escaped", "group", `CN=Sales\, EMEA,OU=Groups,DC=example,DC=com`, "wiki:read", `group:CN=Sales\, EMEA,OU=Groups,DC=example,DC=com=wiki:read`},
		{"group-urn", "group", "urn:geant:example.org:group:wiki:role=owner#example.org", "wiki:admin", "group:urn:geant:example.org:group:wiki:role=owner#example.org=wiki:admin"},
		{"domain", "domain", "example.com", "wiki:read", "domain:example.com=wiki:read"},
		{"domain-beyond-ascii", "domain", "müller.example", "wiki:read", "domain:müller.example=wiki:read"},
		{"email", "email", "a.b+c@example.com", "wiki:read", "email:a.b+c@example.com=wiki:read"},
		{"email-with-equals", "email", "a=b@example.com", "wiki:read", "email:a=b@example.com=wiki:read"},
		{"subject", "sub", "auth0|5f7c8ec7", "wiki:read", "sub:auth0|5f7c8ec7=wiki:read"},
		{"subject-base64", "sub", "CgNpZA==", "wiki:read", "sub:CgNpZA===wiki:read"},
		{"no-equals", "", "", "", "group:admins"},
		{"no-scopes", "", "", "", "group:admins="},
		{"no-who", "", "", "", "=wiki:read"},
		{"no-name", "", "", "", "group:=wiki:read"},
		{"no-kind", "", "", "", "admins=wiki:read"},
		{"another-kind", "", "", "", "team:admins=wiki:read"},
		{"anybody-with-name", "", "", "", "*:x=wiki:read"},
		{"comma-for-semicolon", "", "", "", "group:admins=wiki:admin,group:staff=wiki:read"},
		{"comma-before-anybody", "", "", "", "group:admins=wiki:admin, *=wiki:read"},
		{"blank-for-semicolon", "", "", "", "group:admins=wiki:admin group:staff=wiki:read"},
		{"second-equals", "", "", "", "group:admins=wiki:admin=wiki:read"},
		{"two-groups", "", "", "", "group:admins,staff=wiki:read"},
		{"two-groups-with-blank", "", "", "", "group:admins group:staff=wiki:read"},
		{"distinguished-name-swallows", "", "", "", "group:cn=a,ou=b=wiki:admin,group:cn=c,ou=d=wiki:read"},
		{"distinguished-name-of-no-attribute", "", "", "", "group:admins=wiki:admin editors=wiki:read"},
		{"group-star", "", "", "", "group:*=wiki:read"},
		{"group-line-break", "", "", "", "group:a\tb=wiki:read"},
		{"domain-at", "", "", "", "domain:@example.com=wiki:read"},
		{"domain-star", "", "", "", "domain:*.example.com=wiki:read"},
		{"domain-dot", "", "", "", "domain:example.com.=wiki:read"},
		{"email-without-at", "", "", "", "email:admin=wiki:read"},
		{"email-two-at", "", "", "", "email:a@b@example.com=wiki:read"},
		{"subject-comma", "", "", "", "sub:a,sub:b=wiki:read"},
		{"subject-star", "", "", "", "sub:*=wiki:read"},
		{"scope-comma", "", "", "", "group:a=wiki:read,wiki:write"},
		{"scope-star", "", "", "", "group:a=*"},
		{"scope-quote", "", "", "", `group:a=wiki"read`},
		{"variable", "", "", "", "group:${ADMINS}=wiki:read"},
	} {
		if c.who == "" {
			write(dir, c.file, "expect: refused", "who: -", "name: -", "scopes: -", "", c.rule)
			continue
		}
		write(dir, c.file, "expect: ok", "who: "+c.who, "name: "+c.name, "scopes: "+c.scopes, "", c.rule)
	}
}

// writeWorkloadRules writes rules of the label workloadIssuers, which plugin and sidecar must read
// alike.
func writeWorkloadRules(dir string) {
	for _, c := range []struct{ file, issuer, claims, scopes, rule string }{
		{"beginning", "https://ci.example.com", "sub=repo:acme/wiki:*", "wiki:read", "https://ci.example.com sub=repo:acme/wiki:* => wiki:read"},
		{"blank-in-value", "https://ci.example.com", "workflow=Deploy now", "wiki:read", "https://ci.example.com workflow=Deploy%20now => wiki:read"},
		{"equals-in-value", "https://ci.example.com", "name=a=b", "wiki:read", "https://ci.example.com name=a=b => wiki:read"},
		{"issuer-with-path", "https://oidc.example.com/id/7", "sub=x", "wiki:read", "https://oidc.example.com/id/7 sub=x => wiki:read"},
		{"localhost", "http://localhost:5556", "sub=x", "wiki:read", "http://localhost:5556 sub=x => wiki:read"},
		{"more-blanks", "https://ci.example.com", "sub=x", "wiki:read", "https://ci.example.com   sub=x => wiki:read"},
		{"one-claim", "https://ci.example.com", "repository=acme/wiki", "wiki:read", "https://ci.example.com repository=acme/wiki => wiki:read"},
		{"path", "https://k8s.example.com", "kubernetes.io.namespace=ci", "wiki:read", "https://k8s.example.com kubernetes.io.namespace=ci => wiki:read"},
		{"several-claims", "https://ci.example.com", "repository=acme/wiki environment=prod", "wiki:read wiki:write", "https://ci.example.com repository=acme/wiki environment=prod => wiki:read wiki:write"},
		{"spiffe", "https://spire.example.org", "sub=spiffe://example.org/ci/*", "wiki:read", "https://spire.example.org sub=spiffe://example.org/ci/* => wiki:read"},
		{"shared-issuer", "https://token.actions.githubusercontent.com", "sub=repo:acme/wiki:* environment=prod", "wiki:read", "https://token.actions.githubusercontent.com sub=repo:acme/wiki:* environment=prod => wiki:read"},
		{"shared-issuer-by-number", "https://gitlab.com", "namespace_id=12 ref=main", "wiki:read", "https://gitlab.com namespace_id=12 ref=main => wiki:read"},
		{"shared-issuer-of-everybody", "", "", "", "https://token.actions.githubusercontent.com environment=prod ref=refs/heads/main => wiki:read"},
		{"shared-issuer-of-namesakes", "", "", "", "https://token.actions.githubusercontent.com sub=repo:acme* => wiki:read"},
		{"shared-issuer-of-all-verified", "", "", "", "https://accounts.google.com email_verified=true => wiki:read"},
		{"shared-issuer-with-slash", "", "", "", "https://gitlab.com/ ref=main => wiki:read"},
		{"arrow-without-blanks", "", "", "", "https://ci.example.com sub=x=>wiki:read"},
		{"cut-encoding", "", "", "", "https://ci.example.com workflow=Deploy%2 => wiki:read"},
		{"empty-value", "", "", "", "https://ci.example.com sub= => wiki:read"},
		{"encoded-star", "", "", "", "https://ci.example.com sub=%2A => wiki:read"},
		{"everything", "", "", "", "https://ci.example.com sub=* => wiki:read"},
		{"issuer-with-query", "", "", "", "https://ci.example.com?x=1 sub=x => wiki:read"},
		{"issuer-with-user", "", "", "", "https://a@ci.example.com sub=x => wiki:read"},
		{"no-arrow", "", "", "", "https://ci.example.com sub=x wiki:read"},
		{"no-claim", "", "", "", "https://ci.example.com => wiki:read"},
		{"no-issuer", "", "", "", "sub=x repository=acme/wiki => wiki:read"},
		{"no-name", "", "", "", "https://ci.example.com =x => wiki:read"},
		{"no-scopes", "", "", "", "https://ci.example.com sub=x => "},
		{"offline-access", "", "", "", "https://ci.example.com sub=x => offline_access"},
		{"plain-http", "", "", "", "http://ci.example.com sub=x => wiki:read"},
		{"scope-with-equals", "", "", "", "https://ci.example.com sub=x => wiki=read"},
		{"second-rule-by-comma", "", "", "", "https://ci.example.com sub=x => wiki:read, https://ci.example.com sub=y => wiki:write"},
		{"star-as-scope", "", "", "", "https://ci.example.com sub=x => *"},
		{"star-in-front", "", "", "", "https://ci.example.com sub=*:main => wiki:read"},
		{"star-within", "", "", "", "https://ci.example.com sub=repo:*:main => wiki:read"},
		{"two-stars", "", "", "", "https://ci.example.com sub=** => wiki:read"},
		{"variable", "", "", "", "https://ci.example.com repository=${REPOSITORY} => wiki:read"},
		{"word-without-equals", "", "", "", "https://ci.example.com sub => wiki:read"},
	} {
		if c.issuer == "" {
			write(dir, c.file, "expect: refused", "issuer: -", "claims: -", "scopes: -", "", c.rule)
			continue
		}
		write(dir, c.file, "expect: ok", "issuer: "+c.issuer, "claims: "+c.claims, "scopes: "+c.scopes, "", c.rule)
	}
}
