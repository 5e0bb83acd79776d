//go:build go1.21

package mcp

import (
	"strings"
	"testing"
)

// A server may ignore the query, the fragment and a slash at the end. So the rule for the URI
// without them counts too.
func TestURIsInOtherFormsAreGuarded(t *testing.T) {
	table := newTable(rules("file:///secret/*=admin; file:///page=write; file:///dir/=dir; https://wiki.example/find=write; https://wiki.example/find?q=a*=read; *=all"))
	for _, c := range []struct{ uri, want string }{
		{"file:///secret/a", "admin"},
		{"file:///secret", "all admin"},
		{"file:///secret?x", "all admin"},
		{"file:///secret#x", "all admin"},
		{"file:///Secret", "all all admin"},
		{"file:///secret/", "admin admin"},
		{"file:///secrets", "all"},
		{"file:///page", "write"},
		{"file:///page?x", "all write"},
		{"file:///page#x", "all write"},
		{"file:///page/", "all write"},
		{"file:///Page/?x", "all all write"},
		{"file:///pages", "all"},
		{"file:///dir", "all dir"},
		{"file:///dir/", "dir"},
		{"file:///dir/?x", "all dir"},
		{"file:///secret;v=1/a", "all admin"},
		{"file:///secret;v=1", "all all admin"},
		{"file:///page;v=1?x", "all all write"},
		{"file:///secret/a;v=1", "admin admin"},
		{"https://wiki.example/find?q=ab;c", "read read"},
		{"https://wiki.example/find?q=ab", "read"},
		{"https://wiki.example/find?q=b", "all write"},
	} {
		if got := strings.Join(neededForURI(table, c.uri), " "); got != c.want {
			t.Errorf("%s needs %q, want %q", c.uri, got, c.want)
		}
	}
}

// Honest clients write URIs plainly. Each of these begins like another resource.
func TestURIsThatAreNotPlain(t *testing.T) {
	for _, uri := range []string{
		"file:///public/..?x", "file:///public/..#x", "file:///public/.?x", "file:///public/..;a/x", "file:///public/;../x", "skill:../x", "skill:..",
		"file:///public/a?..", "file:///public/%00x", "file:///public/%1f", "file:///public/%7f", "file:///public/%252e%252e/x", "file:///public/%", "file:///public/%2",
		"file:///public/%zz", "file:///public/%c0%ae", "file:///public/%ff", "file:////public/x", "file:///public//x", "skill://public//x", "skill:a//b", "skill://public/..",
		"file:/public/x", "file:public/x", "file://localhost/public/x", "file://127.0.0.1/public/x", "https://a@wiki.example/x", "https://wiki.example:443/x",
		"http://wiki.example:80/x", "https://wiki.example:/x", "https://wiki.example./x", "https://wiki%2eexample/x", "HTTPS://wiki.example/x", "https://Wiki.example/x",
		"https://Wiki.example?x", "skill://public/a b", "skill://public/\\x", "skill://public/\u017f", "skill://public/\x7f", "skill", "",
	} {
		if IsPlainURI(uri) {
			t.Errorf("%q is taken", uri)
		}
	}
	for _, uri := range []string{
		"file:///public/a", "file:///public/", "file:///public/..a", "file:///public/a..", "file:///public/...", "file:///public/.a/b", "file:///a?b=../c", "file:///public/a%20b%25%C3%A4?next=https%3A%2F%2Fwiki.example%2Fa..b&v=1.0",
		"skill://admin", "skill://admin/SKILL.md", "skill:admin", "skill:admin/a", "https://wiki.example:8443/a?u=https://b.example//c", "https://wiki.example", "https://wiki.example?a#b", "http://[::1]:8080/a",
		"file://server/share/a", "db://users/{id}", "file:///{+path}", "urn:isbn:0451450523", "mailto:a@wiki.example", "data:text/plain,a", "ui://widget/a.html#b",
	} {
		if !IsPlainURI(uri) {
			t.Errorf("%q is refused", uri)
		}
	}
}
