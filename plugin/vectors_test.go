//go:build go1.21

package plugin

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"testing"
)

// vector is one file of testdata: its header lines, and the last line as "subject".
type vector map[string]string

// loadVectors fails on an empty folder, an unknown or repeated header line and a missing one: a
// test that reads nothing would always pass.
func loadVectors(t *testing.T, folder string, names ...string) map[string]vector {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", folder, "*.txt"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no vectors in testdata/%s: %v", folder, err)
	}
	sort.Strings(names)
	all := map[string]vector{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		head, subject, found := strings.Cut(string(text), "\n\n")
		v := vector{"subject": strings.TrimSuffix(subject, "\n")}
		seen := []string{}
		for _, line := range strings.Split(head, "\n") {
			name, value, _ := strings.Cut(line, ": ")
			v[name] = value
			seen = append(seen, name)
		}
		sort.Strings(seen)
		if !found || strings.Join(seen, " ") != strings.Join(names, " ") {
			t.Fatalf("%s: header lines %v, want %v", file, seen, names)
		}
		all[strings.TrimSuffix(filepath.Base(file), ".txt")] = v
	}
	return all
}

func vectorErrors() map[string]error {
	return map[string]error{
		"errMalformed": errMalformed, "errType": errType, "errHeader": errHeader, "errAlgorithm": errAlgorithm, "errIssuer": errIssuer,
		"errAudience": errAudience, "errExpired": errExpired, "errNotYetValid": errNotYetValid, "errSubject": errSubject, "errClient": errClient,
		"errKeyUnknown": errKeyUnknown, "errSignature": errSignature,
	}
}

func verify(text string, v vector, at int64, keys map[string]*verifyKey) (*identity, error) {
	token, err := readAccessToken(text, v["iss"], v["audience"], at)
	if err != nil {
		return nil, err
	}
	key := keys[token.kid]
	if key == nil {
		return nil, errKeyUnknown
	}
	return token.identity, checkSignature(token, key)
}

func TestTokenVectors(t *testing.T) {
	wanted := map[string]int{}
	for name, v := range loadVectors(t, "tokens", "expect", "iss", "audience", "now", "jwks") {
		keys, err := parseKeys([]byte(v["jwks"]))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		at, _ := strconv.ParseInt(v["now"], 10, 64)
		id, err := verify(v["subject"], v, at, keys)
		wanted[v["expect"]]++
		if v["expect"] == "ok" {
			if err != nil || id.subject != "user-1" {
				t.Errorf("%s: refused: %v", name, err)
			}
			continue
		}
		want := vectorErrors()[v["expect"]]
		if want == nil {
			t.Fatalf("%s: expects the unknown error %s", name, v["expect"])
		}
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
	}
	for name := range vectorErrors() {
		if wanted[name] == 0 {
			t.Errorf("no vector expects %s", name)
		}
	}
	if wanted["ok"] == 0 {
		t.Error("no vector is valid")
	}
}

// Every other character of a token changed, and every truncation of it, is refused.
func TestTokenThatWasChangedIsNotAccepted(t *testing.T) {
	v := loadVectors(t, "tokens", "expect", "iss", "audience", "now", "jwks")["valid-eddsa"]
	keys, _ := parseKeys([]byte(v["jwks"]))
	at, _ := strconv.ParseInt(v["now"], 10, 64)
	token := v["subject"]
	for i := 0; i < len(token); i++ {
		flipped := token[:i] + string(token[i]^1) + token[i+1:]
		if _, err := verify(flipped, v, at, keys); err == nil {
			t.Errorf("accepted with character %d changed", i)
		}
		if _, err := verify(token[:i], v, at, keys); err == nil {
			t.Errorf("accepted after %d characters", i)
		}
	}
}

// markOf returns the mark that an answer to this header bears (docs/hop.md).
func markOf(key []byte, hop string) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("mcpbouncer/v1/hop-mark" + hop))
	sum := mac.Sum(nil)
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

func TestHopVectorsAtThePlugin(t *testing.T) {
	accepted := 0
	for name, v := range loadVectors(t, "hop", "expect", "reason", "mark", "master", "key", "now", "payload") {
		key, err := base64.StdEncoding.DecodeString(v["key"])
		if err != nil {
			t.Fatal(err)
		}
		at, _ := strconv.ParseInt(v["now"], 10, 64)
		value := strings.ReplaceAll(v["subject"], `\r\n`, "\r\n")
		payload, err := openHop(key, at, value)
		if v["expect"] == "refused" {
			if err == nil {
				t.Errorf("%s: opened", name)
			}
			continue
		}
		if v["expect"] != "ok" || err != nil || payload != v["payload"] {
			t.Errorf("%s: %v, payload %s", name, err, payload)
			continue
		}
		accepted++
		blob, _ := base64.RawURLEncoding.DecodeString(value[5:])
		again, err := sealHop(key, 1800000000, blob[8:20], []byte(v["payload"]))
		if err != nil || again != value {
			t.Errorf("%s: sealed again as %s, %v", name, again, err)
		}
		os.Setenv(hopVariable, v["key"])
		ticket, err := newTicket("", at, []byte(v["payload"]))
		os.Setenv(hopVariable, testHopKey)
		if err != nil || ticket.mark != markOf(key, ticket.value) || markOf(key, value) != v["mark"] {
			t.Errorf("%s: mark %s of a new header, %s of this one, want %s", name, ticket.mark, markOf(key, value), v["mark"])
		}
	}
	if accepted == 0 {
		t.Error("no vector is valid")
	}
}

// The reason for which the sidecar refuses a header opens for the plugin that sent it, and for no
// other header.
func TestReasonVectors(t *testing.T) {
	opened := 0
	for name, v := range loadVectors(t, "reason", "reason", "key", "hop") {
		key, err := base64.StdEncoding.DecodeString(v["key"])
		if err != nil {
			t.Fatal(err)
		}
		reason, ok := openReason(&hopTicket{value: v["hop"], key: key}, v["subject"])
		if v["reason"] == "none" {
			if ok {
				t.Errorf("%s: opened as %q", name, reason)
			}
			continue
		}
		opened++
		if !ok || reason != v["reason"] {
			t.Errorf("%s: %q, %v", name, reason, ok)
		}
	}
	if opened < 6 {
		t.Errorf("%d vectors open", opened)
	}
}

var errHopTest = errors.New("not a hop header")

// openHop opens a header as docs/hop.md demands of the sidecar. The plugin itself never opens a
// header.
func openHop(key []byte, at int64, value string) (string, error) {
	if !strings.HasPrefix(value, "mbh1_") || len(value) > 8192 {
		return "", errHopTest
	}
	blob, err := base64.RawURLEncoding.Strict().DecodeString(value[5:])
	if err != nil || base64.RawURLEncoding.EncodeToString(blob) != value[5:] || len(blob) < 36 {
		return "", errHopTest
	}
	id := sha256.Sum256(append([]byte("mcpbouncer/v1/hop-key-id"), key...))
	issued := int64(binary.BigEndian.Uint32(blob[4:8]))
	if blob[0] != 1 || !bytes.Equal(blob[1:4], id[:3]) || at < issued-300 || at > issued+360 {
		return "", errHopTest
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return "", err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return "", err
	}
	payload, err := aead.Open(nil, blob[8:20], blob[20:], append([]byte("mcpbouncer/v1/hop"), blob[:8]...))
	if err != nil {
		return "", errHopTest
	}
	decoded, err := decodePayload(payload)
	if err != nil {
		return "", err
	}
	// The members that were read do not change when they are encoded and read again: the plugin
	// would send the same.
	again, err := decodePayload([]byte(rewritten(decoded)))
	if err != nil || rewritten(again) != rewritten(decoded) {
		return "", errHopTest
	}
	return string(payload), nil
}

// told returns every member that the sidecar reads in a header under the tests' key, also those at
// their default.
func told(value string) (string, error) {
	payload, err := openHop(bytes.Repeat([]byte{7}, 32), clock.Load(), value)
	if err != nil {
		return "", err
	}
	p, err := decodePayload([]byte(payload))
	if err != nil {
		return "", err
	}
	members := []string{}
	for _, m := range p {
		members = append(members, `"`+m.name+`":`+m.value)
	}
	return "{" + strings.Join(members, ",") + "}", nil
}

// decodePayload reads the payload as docs/hop.md demands it, into the members that the plugin
// writes. Each value must have its member's type.
func decodePayload(payload []byte) ([]hopMember, error) {
	decoder := json.NewDecoder(bytes.NewReader(payload))
	token, err := decoder.Token()
	if err != nil || fmt.Sprint(token) != "{" {
		return nil, errHopTest
	}
	sent := map[string]string{}
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return nil, errHopTest
		}
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil || string(value) == "null" || sent[fmt.Sprint(name)] != "" {
			return nil, errHopTest
		}
		sent[fmt.Sprint(name)] = string(value)
	}
	if _, err := decoder.Token(); err != nil || decoder.More() {
		return nil, errHopTest
	}
	if v, ok := sent["v"]; ok && v != "1" {
		return nil, errHopTest
	}
	delete(sent, "v")
	_, members, err := parseLabels(wikiConfig("http://sidecar.localhost"))
	if err != nil {
		return nil, err
	}
	members, known := append([]hopMember{{"publicURL", `""`, ""}}, members...), 0
	for i, m := range members {
		if m.name == "audience" || m.name == "displayName" {
			m.standard = sent["resource"]
		}
		value, ok := sent[m.name]
		if ok {
			known++
		} else {
			value = m.standard
		}
		if value == "" || kindOf(value) != kindOf(m.value) || value == `""` && m.standard == "" {
			return nil, errHopTest
		}
		var again any
		if err := json.Unmarshal([]byte(value), &again); err != nil {
			return nil, errHopTest
		}
		m.value = value
		members[i] = m
	}
	if known != len(sent) {
		return nil, errHopTest
	}
	return members, nil
}

// rewritten is the payload that the plugin makes of members, of which the first is publicURL.
func rewritten(members []hopMember) string {
	return string(encodePayload(members[0].value, encodeMembers(members[1:])))
}

// kindOf tells texts, lists and numbers apart.
func kindOf(value string) string {
	if strings.Contains(`"[`, value[:1]) {
		return value[:1]
	}
	return "number"
}

// A payload without version means the same as one with it, and the plugin writes neither more nor
// less than what differs from the defaults.
func TestHopPayloadsLeaveOutWhatIsAtItsDefault(t *testing.T) {
	start(t)
	vectors := loadVectors(t, "hop", "expect", "reason", "mark", "master", "key", "now", "payload")
	for _, c := range []struct{ sent, written string }{
		{"valid", "valid"},
		{"valid-all-labels", "valid-all-labels"},
		{"valid-smallest", "valid-smallest"},
		{"valid-list-emptied", "valid-list-emptied"},
		{"valid-without-version", "valid-exchange-token"},
		{"valid-exchange-token", "valid-exchange-token"},
		{"valid-defaults-sent", "valid"},
		{"valid-all-defaults-sent", "valid-smallest"},
		{"valid-labels-of-the-first-version", "valid-labels-of-the-first-version"},
		{"valid-without-version-all-labels", "valid-labels-of-the-first-version"},
	} {
		p, err := decodePayload([]byte(vectors[c.sent]["payload"]))
		if err != nil {
			t.Fatalf("%s: %v", c.sent, err)
		}
		if got := rewritten(p); got != vectors[c.written]["payload"] {
			t.Errorf("%s is written as %s", c.sent, got)
		}
	}
	config := wikiConfig("http://sidecar.localhost")
	s, err := parseConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	// That vector sets each member that docs/hop.md lists. If it lacks a member, the page lacks it.
	all, err := decodePayload([]byte(vectors["valid-all-labels"]["payload"]))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range all {
		if m.value == m.standard {
			t.Errorf("docs/hop.md does not list %s: give tenant in issuer/tenant.go that member", m.name)
		}
	}
	const want = `{"v":1,"publicURL":"https://mcp.localhost/wiki","resource":"wiki","providerIssuer":"https://accounts.google.com","clientID":"client.apps.googleusercontent.com","clientSecret":"secret-of-the-upstream-client"}`
	named, _ := newTenant(s, wikiURL, "wiki@docker")
	if got := string(named.hop.payload); got != want {
		t.Errorf("without any label that has a default: %s", got)
	}
}

// The sidecar's tests seal and open the same values.
func TestUpstreamTokenVectorsAtThePlugin(t *testing.T) {
	faults := map[string]error{"ok": nil, "hop key": errUpstreamKey, "unreadable": errUpstreamSealed}
	count := map[string]int{}
	for name, v := range loadVectors(t, "upstreamtoken", "expect", "key", "publicURL", "jti", "token") {
		key, err := base64.StdEncoding.DecodeString(v["key"])
		if err != nil {
			t.Fatal(err)
		}
		want, known := faults[v["expect"]]
		if !known {
			t.Fatalf("%s: expects %q", name, v["expect"])
		}
		count[v["expect"]]++
		token, err := openClaim(newOpener(key, v["publicURL"]), v["jti"], strings.ReplaceAll(v["subject"], `\r\n`, "\r\n"))
		if err != want || err == nil && token != v["token"] || err != nil && token != "" {
			t.Errorf("%s: %q, %v", name, token, err)
		}
	}
	if count["ok"] < 3 || count["hop key"] < 2 || count["unreadable"] < 15 {
		t.Errorf("vectors %v", count)
	}
}
