//go:build go1.21

package plugin

import (
	"strings"
	"testing"
)

// The sidecar is told what it has to ask of the provider, and not which header the token goes into.
func TestUpstreamTokenLabelIsWrittenForTheSidecar(t *testing.T) {
	for _, c := range []struct{ label, header, told string }{
		{"", "", `[]`},
		{" \n", "", `[]`},
		{"header=X-Upstream-Access-Token", "X-Upstream-Access-Token", `["scopes="]`},
		{"header = x-github-token ;", "X-Github-Token", `["scopes="]`},
		{"scopes=repo  read:org", "X-Upstream-Access-Token", `["scopes=repo read:org"]`},
		{";exchange=https://api.example.com/?a=b", "X-Upstream-Access-Token", `["scopes=","exchange=https://api.example.com/?a=b"]`},
		{"exchange=orders; scopes=a; header=X-Orders-Token", "X-Orders-Token", `["scopes=a","exchange=orders"]`},
	} {
		config := wikiConfig("http://sidecar.localhost")
		config.UpstreamToken = c.label
		s, members, err := parseLabels(config)
		if err != nil {
			t.Fatalf("%q: %v", c.label, err)
		}
		header := ""
		if s.upstream != nil {
			header = s.upstream.header
		}
		told := ""
		for _, m := range members {
			if m.name == "upstreamToken" {
				told = m.value
			}
		}
		if header != c.header || told != c.told {
			t.Errorf("%q: header %q, the sidecar is told %s", c.label, header, told)
		}
		if sent := encodeMembers(members); strings.Contains(sent, "upstreamToken") != (c.header != "") {
			t.Errorf("%q: the payload is %s", c.label, sent)
		}
	}
}
