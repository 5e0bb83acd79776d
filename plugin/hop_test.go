//go:build go1.21

package plugin

import (
	"bytes"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestHopHeaderIsReusedFor20Seconds(t *testing.T) {
	start(t)
	s := &hopSealer{payload: []byte(`{}`)}
	first, err := s.header(1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		at   int64
		same bool
	}{
		{"at once", 1000, true}, {"after 19 seconds", 1019, true}, {"after 20 seconds", 1020, false},
	} {
		value, err := s.header(c.at)
		if err != nil || (value == first) != c.same {
			t.Errorf("%s: same %v, want %v (%v)", c.name, value == first, c.same, err)
		}
	}
	latest, _ := s.header(1021)
	// the clock went back: the sidecar would call the old header one from the future
	earlier, _ := s.header(900)
	if latest == earlier {
		t.Error("a header from the future is reused")
	}
}

func TestHopKeyFiles(t *testing.T) {
	start(t)
	key := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{9}, 32))
	file := filepath.Join(t.TempDir(), "hop.key")
	for _, c := range []struct {
		name string
		text string
		want string // in the error; empty: accepted
	}{
		{"base64", key, ""},
		{"base64 and line break", key + "\n", ""},
		{"a line of keygen", "BOUNCER_HOP_KEY=" + key + "\r\n", ""},
		{"all lines of keygen", "BOUNCER_ENCRYPTION_KEY=AAAA\nBOUNCER_HOP_KEY=" + key + "\n", ""},
		{"empty", "", "32 bytes in base64"},
		{"31 bytes", base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{9}, 31)), "32 bytes in base64"},
		{"not base64", "hunter2", "32 bytes in base64"},
		{"only another line", "BOUNCER_ENCRYPTION_KEY=" + key, "32 bytes in base64"},
	} {
		if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := readHopKey(file)
		if c.want == "" && err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), file)) {
			t.Errorf("%s: %v", c.name, err)
		}
		if err != nil && (strings.Contains(err.Error(), key) || strings.Contains(err.Error(), "hunter2")) {
			t.Errorf("%s: the content of the file is in the error", c.name)
		}
	}
}

func TestNewHopKeyInTheFileNeedsNoRestart(t *testing.T) {
	start(t)
	file := filepath.Join(t.TempDir(), "hop.key")
	sidecar := startSidecar(t)
	config := wikiConfig(sidecar.server.URL)
	config.HopKeyFile = file
	h, _ := guard(t, config)
	if rec := ask(h, "GET", wikiURL+"/oauth/x"); rec.Code != 503 {
		t.Errorf("without a file: status %d", rec.Code)
	}
	for i := byte(1); i < 3; i++ {
		clock.Add(hopReuse)
		key := bytes.Repeat([]byte{i}, 32)
		if err := os.WriteFile(file, []byte(base64.StdEncoding.EncodeToString(key)), 0o600); err != nil {
			t.Fatal(err)
		}
		rec := ask(h, "GET", wikiURL+"/oauth/x")
		if rec.Code != 200 {
			t.Fatalf("key %d: status %d", i, rec.Code)
		}
		if _, err := openHop(key, clock.Load(), sidecar.lastRequest().Header.Get(hopHeader)); err != nil {
			t.Errorf("key %d: %v", i, err)
		}
	}
}

func TestMissingHopKeyNamesTheVariable(t *testing.T) {
	log := start(t)
	os.Unsetenv(hopVariable)
	defer os.Setenv(hopVariable, testHopKey)
	h, _ := guard(t, wikiConfig("http://127.0.0.1:1"))
	rec := ask(h, "GET", wikiURL+"/oauth/x")
	if rec.Code != 503 || !strings.Contains(log.String(), "BOUNCER_HOP_KEY") || !strings.Contains(log.String(), "keygen") {
		t.Errorf("status %d, log %q", rec.Code, log)
	}
}
