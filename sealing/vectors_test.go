package sealing_test

//go:generate go run ./testdata/gen

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/hex"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// vector is one file: header lines, an empty line, and the value or the results.
type vector struct {
	name   string
	header map[string]string
	body   string
}

// A value's vector has exactly these headers, and payload where it opens.
var valueHeaders = []string{"expect", "comment", "masters", "kind", "tenant", "context", "now"}

// derivations are the derivation vectors: inputs in the header, results in the body.
var derivations = map[string]struct{ inputs, results []string }{
	"tenant-id":      {[]string{"public-url", "resource", "audience", "upstream-issuer", "upstream-client-id", "generation"}, []string{"tenant"}},
	"master-id":      {[]string{"masters"}, []string{"prk", "info", "master-id"}},
	"sealing-key":    {[]string{"masters", "kind", "tenant", "period"}, []string{"info", "key"}},
	"signing-key":    {[]string{"masters", "tenant", "rotation", "epoch"}, []string{"info", "seed", "public"}},
	"hop-key":        {[]string{"masters"}, []string{"hop-key", "key-id"}},
	"dpop-nonce-key": {[]string{"masters", "public-url"}, []string{"key"}},
	"upstream-token": {[]string{"masters", "public-url", "jti", "token"}, []string{"key", "sealed"}},
	"client-secret":  {[]string{"masters", "tenant", "client-id"}, []string{"key", "client-secret"}},
	"pseudonym":      {[]string{"masters", "tenant", "subject"}, []string{"key", "pseudonym"}},
	"client-key":     {[]string{"masters", "upstream-issuer", "upstream-client-id"}, []string{"info", "wide", "scalar", "public"}},
	"fingerprint":    {[]string{"client-id"}, []string{"fingerprint"}},
	"replay-mark":    {[]string{"tenant", "use", "value"}, []string{"mark"}},
	"login":          {[]string{"seed"}, []string{"state", "nonce", "code-verifier"}},
}

func loadVectors(files fs.FS) ([]vector, error) {
	names, err := fs.Glob(files, "*.txt")
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("no vectors")
	}
	var vectors []vector
	for _, name := range names {
		text, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, err
		}
		v, err := parseVector(strings.TrimSuffix(name, ".txt"), string(text))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		vectors = append(vectors, v)
	}
	return vectors, nil
}

func parseVector(name, text string) (vector, error) {
	head, body, ok := strings.Cut(text, "\n\n")
	if !ok || !strings.HasSuffix(body, "\n") {
		return vector{}, fmt.Errorf("no empty line after the header, or no line feed at the end")
	}
	header, err := parseLines(head)
	if err != nil {
		return vector{}, err
	}
	v := vector{name, header, strings.TrimSuffix(body, "\n")}

	want := slices.Clone(valueHeaders)
	switch derive, derived := header["derive"]; {
	case derived && derivations[derive].results != nil:
		want = append([]string{"derive", "comment"}, derivations[derive].inputs...)
	case derived:
		return vector{}, fmt.Errorf("unknown derivation %q", derive)
	case header["expect"] == "ok":
		want = append(want, "payload")
	case header["expect"] != "refused":
		return vector{}, fmt.Errorf("expect is neither ok nor refused: %q", header["expect"])
	}
	return v, sameNames(header, want)
}

func parseLines(text string) (map[string]string, error) {
	lines := map[string]string{}
	for line := range strings.SplitSeq(text, "\n") {
		name, value, ok := strings.Cut(line, ":")
		if _, twice := lines[name]; !ok || twice {
			return nil, fmt.Errorf("no colon, or twice: %q", line)
		}
		lines[name] = strings.TrimPrefix(value, " ")
	}
	return lines, nil
}

func sameNames(lines map[string]string, want []string) error {
	got := slices.Sorted(maps.Keys(lines))
	slices.Sort(want)
	if !slices.Equal(got, want) {
		return fmt.Errorf("lines %q, want %q", got, want)
	}
	return nil
}

func TestVectors(t *testing.T) {
	vectors, err := loadVectors(os.DirFS("testdata/vectors"))
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{} // :: what it expects → files
	for _, v := range vectors {
		if v.header["derive"] != "" {
			count[v.header["derive"]]++
			t.Run(v.name, func(t *testing.T) { testDerivation(t, v) })
			continue
		}
		count[v.header["expect"]]++
		t.Run(v.name, func(t *testing.T) {
			r, err := sealing.ParseRing(v.header["masters"])
			if err != nil {
				t.Fatal(err)
			}
			payload, issuedAt, err := r.Open(v.kind(t), v.tenant(t), string(v.hex(t, "context")), v.body, v.unix(t, "now"))
			if v.header["expect"] == "refused" {
				if err != sealing.ErrNotOpened || payload != nil || !issuedAt.IsZero() {
					t.Errorf("payload %x, time %v, error %v, want ErrNotOpened: %s", payload, issuedAt, err, v.header["comment"])
				}
				return
			}
			if err != nil || !bytes.Equal(payload, v.hex(t, "payload")) {
				t.Errorf("payload %x, error %v: %s", payload, err, v.header["comment"])
			}
		})
	}
	for _, kind := range append(slices.Collect(maps.Keys(derivations)), "ok", "refused") {
		if count[kind] == 0 {
			t.Errorf("no vector for %s", kind)
		}
	}
}

func testDerivation(t *testing.T, v vector) {
	want, err := parseLines(v.body)
	if err != nil {
		t.Fatal(err)
	}
	if err := sameNames(want, derivations[v.header["derive"]].results); err != nil {
		t.Fatal(err)
	}
	same := func(name, got string) {
		t.Helper()
		if got != want[name] {
			t.Errorf("%s = %s, want %s", name, got, want[name])
		}
	}
	var r *sealing.Ring
	if masters, ok := v.header["masters"]; ok {
		if r, err = sealing.ParseRing(masters); err != nil {
			t.Fatal(err)
		}
	}

	switch v.header["derive"] {
	case "tenant-id":
		id := sealing.Tenant{
			PublicURL:        v.header["public-url"],
			Resource:         v.header["resource"],
			Audience:         v.header["audience"],
			UpstreamIssuer:   v.header["upstream-issuer"],
			UpstreamClientID: v.header["upstream-client-id"],
			Generation:       uint32(v.number(t, "generation")),
		}.ID()
		same("tenant", hex.EncodeToString(id[:]))
	case "master-id":
		same("master-id", r.MasterIDs()[0])
	case "sealing-key":
		// The ring does not show its keys. It proves that it has this one by opening what was
		// sealed under it.
		testSealingKey(t, r, v, want["key"])
	case "signing-key":
		rotation := time.Duration(v.number(t, "rotation")) * time.Second
		at := time.Unix(0, 0).Add(rotation * time.Duration(v.number(t, "epoch")))
		for _, d := range []time.Duration{0, rotation - time.Second} {
			key := r.SigningKey(v.tenant(t), sealing.Schedule{Rotation: rotation}, at.Add(d))
			same("seed", hex.EncodeToString(key.Seed()))
			same("public", hex.EncodeToString(key[32:]))
		}
	case "hop-key":
		same("hop-key", r.HopKey())
		v := sealHop(t, want["hop-key"], now, configuration)
		same("key-id", hex.EncodeToString(raw(t, v)[1:4]))
		if _, err := r.OpenHop(v, now); err != nil {
			t.Error(err)
		}
	case "dpop-nonce-key":
		hop, err := r.OpenHop(sealHop(t, r.HopKey(), now, configuration), now)
		if err != nil {
			t.Fatal(err)
		}
		same("key", hex.EncodeToString(r.DPoPNonceKeys(hop, v.header["public-url"])[0]))
	case "upstream-token":
		hop, err := r.OpenHop(sealHop(t, r.HopKey(), now, configuration), now)
		if err != nil {
			t.Fatal(err)
		}
		same("sealed", hop.SealUpstreamToken(v.header["public-url"], v.header["jti"], v.header["token"]))
	case "client-secret":
		got, err := r.ClientSecret(v.tenant(t), v.header["client-id"])
		if err != nil {
			t.Fatal(err)
		}
		same("client-secret", got)
	case "client-key":
		key := r.ClientKeys(v.header["upstream-issuer"], v.header["upstream-client-id"])[0]
		scalar, err := key.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		public, err := key.PublicKey.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		same("scalar", hex.EncodeToString(scalar))
		same("public", hex.EncodeToString(public))
	case "pseudonym":
		same("pseudonym", r.Pseudonym(v.tenant(t), v.header["subject"]))
	case "fingerprint":
		same("fingerprint", sealing.Fingerprint(v.header["client-id"]))
	case "replay-mark":
		mark := sealing.ReplayMark(v.tenant(t), v.header["use"], v.header["value"])
		same("mark", hex.EncodeToString(mark[:]))
	case "login":
		seed := sealing.LoginSeed(v.hex(t, "seed"))
		same("state", seed.State())
		same("nonce", seed.Nonce())
		same("code-verifier", seed.CodeVerifier())
	default:
		t.Fatal("nothing checks this vector")
	}
}

func testSealingKey(t *testing.T, r *sealing.Ring, v vector, keyHex string) {
	key, err := hex.DecodeString(keyHex)
	if err != nil {
		t.Fatal(err)
	}
	if v.kind(t) != sealing.KindCode {
		t.Fatal("the vector should be that of a code, whose period is a day")
	}
	at := time.Unix(int64(v.number(t, "period"))*86400, 0)
	ours := r.Seal(sealing.KindCode, v.tenant(t), "context", []byte("payload"), at)

	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	b := raw(t, ours)
	tenant := v.tenant(t)
	aad := "mcpbouncer/v1/value" + string(b[:8]) + "\x00\x04code" + "\x00\x20" + string(tenant[:]) + "\x00\x07context"
	payload, err := gcm.Open(nil, b[8:20], b[20:], []byte(aad))
	if err != nil || string(payload) != "payload" {
		t.Errorf("the key of the vector does not open a value of the ring: %q, %v", payload, err)
	}
}

func (v vector) kind(t *testing.T) sealing.Kind {
	t.Helper()
	if len(v.header["kind"]) != 1 {
		t.Fatalf("kind %q", v.header["kind"])
	}
	return sealing.Kind(v.header["kind"][0])
}

func (v vector) hex(t *testing.T, name string) []byte {
	t.Helper()
	b, err := hex.DecodeString(v.header[name])
	if err != nil {
		t.Fatal(name, err)
	}
	return b
}

func (v vector) tenant(t *testing.T) sealing.TenantID {
	t.Helper()
	return sealing.TenantID(v.hex(t, "tenant"))
}

func (v vector) number(t *testing.T, name string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(v.header[name], 10, 64)
	if err != nil {
		t.Fatal(name, err)
	}
	return n
}

func (v vector) unix(t *testing.T, name string) time.Time {
	t.Helper()
	return time.Unix(v.number(t, name), 0)
}

func TestVectorLoaderOfSealingRefuses(t *testing.T) {
	const good = "expect: refused\ncomment: c\nmasters: m\nkind: a\ntenant: 00\ncontext:\nnow: 1\n\nvalue\n"
	derived := "derive: fingerprint\ncomment: c\nclient-id: x\n\nfingerprint: y\n"
	for _, c := range []struct {
		name, file, text, message string
	}{
		{"nothing of a good file", "a.txt", good, ""},
		{"nothing of a good derivation", "a.txt", derived, ""},
		{"a folder without vectors", "a.md", good, "no vectors"},
		{"an unknown header", "a.txt", "colour: red\n" + good, `"colour"`},
		{"a missing header", "a.txt", strings.Replace(good, "now: 1\n", "", 1), `want ["comment" "context" "expect" "kind" "masters" "now" "tenant"]`},
		{"a header that stands twice", "a.txt", "now: 1\n" + good, "twice"},
		{"a header without a colon", "a.txt", "hello\n" + good, "no colon"},
		{"another expectation", "a.txt", strings.Replace(good, "refused", "maybe", 1), "neither ok nor refused"},
		{"an ok without payload", "a.txt", strings.Replace(good, "refused", "ok", 1), `"payload"`},
		{"a refusal with payload", "a.txt", "payload: 00\n" + good, `"payload"`},
		{"no value", "a.txt", strings.TrimSuffix(good, "\nvalue\n"), "no empty line"},
		{"a file cut short", "a.txt", strings.TrimSuffix(good, "\n"), "no line feed at the end"},
		{"an unknown derivation", "a.txt", strings.Replace(derived, "fingerprint", "thumb", 1), `unknown derivation "thumb"`},
		{"a derivation without an input", "a.txt", strings.Replace(derived, "client-id: x\n", "", 1), `want ["client-id" "comment" "derive"]`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := loadVectors(fstest.MapFS{c.file: {Data: []byte(c.text)}})
			if c.message == "" && err != nil || c.message != "" && (err == nil || !strings.Contains(err.Error(), c.message)) {
				t.Errorf("error %v, want %q", err, c.message)
			}
		})
	}
}

// The generator shares no code with the package: if both write the same files, the page describes
// the format.
func TestVectorsAreWhatTheGeneratorWrites(t *testing.T) {
	values, payloads := t.TempDir(), t.TempDir()
	run := exec.Command("go", "run", "./testdata/gen", "-dir", values, "-payloads", payloads)
	run.Env = append(os.Environ(), "CGO_ENABLED=0") // as go vet has compiled it, not once more
	if out, err := run.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for dir, written := range map[string]string{"vectors": values, "payloads": payloads} {
		want, got := readAll(t, written), readAll(t, filepath.Join("testdata", dir))
		for name := range want {
			if got[name] != want[name] {
				t.Errorf("%s/%s is stale: run go generate ./sealing", dir, name)
			}
		}
		if len(got) != len(want) {
			t.Errorf("%s: %d files, the generator writes %d", dir, len(got), len(want))
		}
	}
}

func readAll(t *testing.T, dir string) map[string]string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.txt"))
	if err != nil || len(names) == 0 {
		t.Fatalf("%d files in %s: %v", len(names), dir, err)
	}
	files := map[string]string{}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		files[filepath.Base(name)] = string(text)
	}
	return files
}
