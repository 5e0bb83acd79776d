package redirecturi

import (
	"regexp"
	"testing"
)

func TestPlainHostsHaveNoOtherCharacter(t *testing.T) {
	plain := regexp.MustCompile(`^[A-Za-z0-9._:\[\]-]$`)
	for c := range 256 {
		character := string([]byte{byte(c)})
		if character == "/" || character == "?" || character == "#" { // which end the host
			continue
		}
		if got, want := PlainHost("https://a"+character+"z/path"), plain.MatchString(character); got != want {
			t.Errorf("%q in a host: plain is %v", character, got)
		}
	}
	for uri, want := range map[string]bool{"https://": true, "com.example.app:/callback": true, "https://plain.example/é": true, "https://é.example/plain": false} {
		if PlainHost(uri) != want {
			t.Errorf("%q: plain is %v", uri, !want)
		}
	}
}
