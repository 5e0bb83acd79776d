//go:build go1.21

package plugin

import (
	"encoding/json"
	"fmt"
	"reflect"
	"sort"
	"strconv"
	"strings"
	"testing"
)

// putLabel sets a label by its name.
func putLabel(t testing.TB, c *Config, label string, value any) {
	t.Helper()
	fields := reflect.ValueOf(c).Elem()
	for i := 0; i < fields.NumField(); i++ {
		if fields.Type().Field(i).Tag.Get("json") == label {
			fields.Field(i).Set(reflect.ValueOf(value))
			return
		}
	}
	t.Fatalf("%q is no label", label)
}

// Each of these lists was once accepted, or refused without naming label and element. The first one
// opened a tool to everybody.
func TestListsRefuseWhatCanOnlyBeASlip(t *testing.T) {
	for _, c := range []struct{ name, label, value, element, want string }{
		{"a comma where a semicolon belongs", "toolScopes", "delete_page=wiki:write, *=wiki:read", "wiki:write,", "second ="},
		{"the same without a blank", "toolScopes", "delete_page=wiki:write,*=wiki:read", "delete_page=wiki:write,*", "second ="},
		{"a blank where a semicolon belongs", "toolScopes", "delete_page=wiki:write *=wiki:read", "", "second ="},
		{"a line break where a semicolon belongs", "toolScopes", "delete_page=wiki:write\nedit=wiki:write", "", "second ="},
		{"a second =", "toolScopes", "delete_page=wiki:write=wiki:admin", "", "second ="},
		{"two tools in one rule", "toolScopes", "delete_page, edit_page=wiki:write", "", "one name a rule"},
		{"two tools with a blank", "toolScopes", "delete_page edit_page=wiki:write", "", "one name a rule"},
		{"two tools with a bar", "toolScopes", "delete_page|edit_page=wiki:write", "", "one name a rule"},
		{"a tool in quotes", "toolScopes", "'delete_page'=wiki:write", "", "one name a rule"},
		{"a regular expression", "toolScopes", "^delete_page$=wiki:write", "", "one name a rule"},
		{"a tool without a scope between others", "toolScopes", "a=x; delete_page= ; *=wiki:read", "delete_page=", "name scopes after the ="},
		{"an empty variable as name", "toolScopes", "a=x; =wiki:read", "=wiki:read", "before the = stands a name"},
		{"a variable that nobody replaced", "toolScopes", "${TOOL}=wiki:read", "${TOOL}=wiki:read", "variable"},
		{"the same tool twice", "toolScopes", "a=x; a=y", "a", "two rules"},
		{"scopes with a comma", "toolScopes", "a=x,y", "x,y", "not a scope"},
		{"a star as scope", "toolScopes", "a=*", "*", "does not stand for all"},
		{"a method among the tools", "toolScopes", "tools/call=wiki:use", "tools/call=wiki:use", "belongs into methodScopes"},
		{"an invisible blank", "toolScopes", "delete\u200bpage=wiki:write", "", "one name a rule"},
		{"two tools with a full-width comma", "toolScopes", "delete_page，edit_page=wiki:write", "", "one name a rule"},
		{"a tool in an editor's quotes", "toolScopes", "“delete_page”=wiki:write", "", "one name a rule"},
		{"a tool with an editor's dash", "toolScopes", "delete–page=wiki:write", "", "one name a rule"},
		{"a full-width star", "toolScopes", "delete_＊=wiki:write", "", "one name a rule"},
		{"a tool among the methods", "methodScopes", "delete_page=wiki:write", "delete_page=wiki:write", "belong into toolScopes"},
		{"methods with a comma", "methodScopes", "tools/call=wiki:use, prompts/get=wiki:read", "", "second ="},
		{"two methods in one rule", "methodScopes", "tools/call,prompts/get=wiki:read", "", "one name a rule"},
		{"prompts with a comma", "promptScopes", "review=a,*=b", "", "second ="},
		{"resources with a comma", "resourceScopes", "file:///secret/*=wiki:admin, *=wiki:read", "", "second ="},
		{"resources with a comma and no blank", "resourceScopes", "file:///secret=wiki:admin,*=wiki:read", "", "= only behind a ?"},
		{"two resources in one rule", "resourceScopes", "file:///a,file:///b=wiki:admin", "", "could be two rules"},
		{"a resource and the star in one rule", "resourceScopes", "file:///a,*=wiki:admin", "", "could be two rules"},
		{"a query that swallows the star", "resourceScopes", "db://q?a=wiki:admin,*=wiki:read", "", "could be two rules"},
		{"a query that swallows a resource", "resourceScopes", "db://q?a=wiki:admin,db://r=wiki:read", "", "could be two rules"},
		{"a resource without a scheme", "resourceScopes", "public/*=wiki:read", "", "begins with its scheme"},
		{"a resource in a spelling that no request may have", "resourceScopes", "file:///a/../b=wiki:read", "", "plain form"},
		{"a beginning that no request may have: beyond ASCII", "resourceScopes", "file:///grün*=wiki:admin", "", "plain form"},
		{"a beginning that no request may have: two slashes", "resourceScopes", "file:///a//b*=wiki:admin", "", "plain form"},
		{"a beginning that no request may have: the scheme's own port", "resourceScopes", "https://wiki.example:443/*=wiki:admin", "", "plain form"},
		{"a beginning that no request may have: localhost of a file", "resourceScopes", "file://localhost/secret/*=wiki:admin", "", "plain form"},
		{"a beginning that no request may have: a file with one slash", "resourceScopes", "file:/secret/*=wiki:admin", "", "plain form"},
		{"a beginning that no request may have: encoded without need", "resourceScopes", "file:///%73ecret/*=wiki:admin", "", "plain form"},
		{"a resource with a blank", "resourceScopes", "file:///a b=wiki:read", "", "no blanks"},

		{"a group rule with a comma", "scopeRules", "group:admins=wiki:admin, *=wiki:read", "", "second ="},
		{"a group rule with a comma and no blank", "scopeRules", "group:admins=wiki:admin,group:staff=wiki:read", "", "second ="},
		{"a group rule with a blank", "scopeRules", "group:admins=wiki:admin group:staff=wiki:read", "", "second ="},
		{"two groups in one rule", "scopeRules", "group:admins,staff=wiki:read", "", "a comma"},
		{"two groups with a blank", "scopeRules", "group:admins group:staff=wiki:read", "", "one WHO a rule"},
		{"a distinguished name that swallows a rule", "scopeRules", "group:cn=admins,ou=wiki=wiki:admin, *=wiki:read", "", ""},
		{"a distinguished name that swallows another", "scopeRules", "group:cn=a,ou=b=wiki:admin,group:cn=c,ou=d=wiki:read", "", "second ="},
		{"a name of a group with an attribute that is none", "scopeRules", "group:admins=wiki:admin editors=wiki:write", "", "second ="},
		{"every group", "scopeRules", "group:*=wiki:read", "", "cannot hold *"},
		{"a domain with @", "scopeRules", "domain:@example.com=wiki:read", "", "not a domain"},
		{"an address without @", "scopeRules", "email:admin=wiki:read", "", "not an e-mail address"},
		{"subjects with a comma", "scopeRules", "sub:a,sub:b=wiki:read", "", "not a subject"},
		{"the same group twice", "scopeRules", "group:a=x; group:a=y", "group:a", "two rules"},
		{"a semicolon inside a list of rules that holds nothing to the right", "scopeRules", "group:a=x;group:b", "group:b", "not a rule"},

		{"addresses with a semicolon", "allowedEmails", "a@example.com; b@example.com", "a@example.com;", "not an e-mail address"},
		{"an address with a semicolon behind", "allowedEmails", "a@example.com;", "a@example.com;", "not an e-mail address"},
		{"an address without @", "allowedEmails", "a@example.com, bexample.com", "bexample.com", "not an e-mail address"},
		{"an address with two @", "allowedEmails", "a@b@example.com", "a@b@example.com", "not an e-mail address"},
		{"a domain among addresses", "allowedEmails", "@example.com", "@example.com", "allowedDomains"},
		{"a star", "allowedEmails", "*@example.com", "*@example.com", "not an e-mail address"},
		{"an address in angle brackets", "allowedEmails", "<a@example.com>", "<a@example.com>", "not an e-mail address"},
		{"an address with a dot behind", "allowedEmails", "a@example.com.", "a@example.com.", "not an e-mail address"},
		{"a variable that nobody replaced", "allowedEmails", "${EMAILS}", "${EMAILS}", "variable"},
		{"a domain with @", "allowedDomains", "@example.com", "@example.com", "not a domain"},
		{"a domain with a star", "allowedDomains", "*.example.com", "*.example.com", "not a domain"},
		{"a domain with a scheme", "allowedDomains", "https://example.com", "https://example.com", "not a domain"},
		{"a domain with a semicolon", "allowedDomains", "example.com;example.org", "example.com;example.org", "not a domain"},
		{"a domain with a dot behind", "allowedDomains", "example.com.", "example.com.", "not a domain"},
		{"a domain with a dot before", "allowedDomains", ".example.com", ".example.com", "not a domain"},
		{"a number among domains", "allowedDomains", "1.5, example.com", "1.5", "not a domain"},
		{"groups with a semicolon", "allowedGroups", "admins; staff", "admins; staff", "not a group's name"},
		{"a distinguished name in a list with commas", "allowedGroups", "cn=admins,ou=wiki", "cn=admins", "distinguished name"},
		{"every group", "allowedGroups", "*", "*", "cannot hold *"},
		{"a beginning of groups", "allowedGroups", "wiki-*", "wiki-*", "cannot hold *"},
		{"subjects with a semicolon", "allowedSubjects", "1;2", "1;2", "not a subject"},
		{"every subject", "allowedSubjects", "*", "*", "not a subject"},
		{"a rule among subjects", "allowedSubjects", "sub:a=wiki:read", "sub:a=wiki:read", "not a subject"},
		{"scopes with a comma", "scopes", "openid,email", "openid,email", "commas"},
		{"scopes with a comma and a blank", "scopes", "openid, email", "openid,", "commas"},
		{"required scopes with a semicolon", "requiredScopes", "a;b", "a;b", "semicolons"},
		{"a star", "requiredScopes", "*", "*", "does not stand for all"},
		{"advertised scopes with a comma", "scopesSupported", "a,b", "a,b", "commas"},
		{"paths with a semicolon", "mcpPaths", "/mcp;/sse", "/mcp;/sse", "separated by commas"},
		{"a path with a query", "mcpPaths", "/mcp?x=1", "/mcp?x=1", "not a path"},
		{"redirect URIs with a semicolon", "privateRedirectURIs", "myapp://a;other://b", "myapp://a;other://b", "give addresses"},
		{"parameters with a blank between them", "providerParameters", "prompt=consent access_type=offline", "", "put a semicolon between two"},
		{"parameters with a comma", "providerParameters", "prompt=consent,access_type=offline", "", "put a semicolon between two"},
		{"a parameter without =", "providerParameters", "consent", "consent", "write NAME=VALUE"},
		{"a parameter without a name", "providerParameters", "a=b; =consent", "=consent", "the name of a parameter"},
		{"a parameter of the sidecar's", "providerParameters", "prompt=consent&client_id=other", "client_id=other", "the sidecar's own to say"},
		{"and in capitals", "providerParameters", "Redirect_URI=https://evil.example", "", "the sidecar's own to say: remove it"},
		{"a name in capitals, which no provider knows", "providerParameters", "hd=example.com; Prompt=consent", "Prompt=consent", "write prompt in small letters"},
		{"a request object", "providerParameters", "request_uri=https://evil.example", "", "the sidecar's own to say: remove it"},
		{"scopes", "providerParameters", "scope=openid email", "", "the label scopes"},
		{"a value that is encoded", "providerParameters", "resource=https%3A%2F%2Fapi.example", "", "write the value as it is"},
		{"nobody may be asked", "providerParameters", "prompt=none", "prompt=none", "nobody could sign in"},
		{"a variable that nobody replaced", "providerParameters", "hd=${DOMAIN}", "", "variable"},
		{"a line break in a value", "providerParameters", "hd=a\nb", "", "cannot be seen"},
		{"identity headers with a semicolon", "identityHeaders", "email;name", "email;name", "is none of"},
		{"identity headers with a second =", "identityHeaders", "email=X-User=name", "email=X-User=name", "letters, digits and hyphens"},
	} {
		config := wikiConfig("http://127.0.0.1:1")
		putLabel(t, config, c.label, c.value)
		_, err := parseConfig(config)
		if err == nil || !strings.HasPrefix(err.Error(), "label "+c.label+": ") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s, %s %q: %v, want %q", c.name, c.label, c.value, err, c.want)
			continue
		}
		if c.element != "" && !strings.Contains(err.Error(), strconv.Quote(c.element)) && !strings.Contains(err.Error(), strconv.Quote(c.value)) {
			t.Errorf("%s, %s: %v does not quote %q", c.name, c.label, err, c.element)
		}
	}
}

// A list that an operator can mean is accepted, and has the obvious meaning.
func TestListsMeanWhatStandsThere(t *testing.T) {
	for _, c := range []struct{ label, value, want string }{
		{"toolScopes", "delete_page=wiki:write; admin_*=wiki:admin wiki:read;*=wiki:read;", "*=wiki:read | admin_*=wiki:admin wiki:read | delete_page=wiki:write"},
		{"toolScopes", "ns.tool-1=a; ns:tool/2=b; löschen=c", "löschen=c | ns.tool-1=a | ns:tool/2=b"},
		{"toolScopes", "a = x  y ; ; b=z", "a=x y | b=z"},
		{"methodScopes", "tools/call=wiki:use; resources/*=wiki:read; initialize=a; *=b", "*=b | initialize=a | resources/*=wiki:read | tools/call=wiki:use"},
		{"resourceScopes", "https://wiki.example/?a=b&c=*=wiki:read; file:///a,b=x; urn:isbn:1=y; db://q?cols=a,b=z; *=wiki:admin", "*=wiki:admin | db://q?cols=a,b=z | file:///a,b=x | https://wiki.example/?a=b&c=*=wiki:read | urn:isbn:1=y"},
		{"resourceScopes", "f*=a; file:*=b; file://*=c; file:///gr%C3%BCn*=d; file:///gr%C3*=e; http://x:*=f; db:*=g; urn:x:*=h; file:///.*=i",
			"db:*=g | f*=a | file:*=b | file://*=c | file:///.*=i | file:///gr%C3%BCn*=d | file:///gr%C3*=e | http://x:*=f | urn:x:*=h"},
		{"promptScopes", "review=wiki:write wiki:read", "review=wiki:write wiki:read"},
		{"scopeRules", "group:cn=admins,ou=wiki=wiki:admin; *=wiki:read", "group:cn=admins,ou=wiki=wiki:admin | *=wiki:read"},
		{"scopeRules", `group:CN=Wiki Admins\, EMEA,OU=Groups,DC=example,DC=com=wiki:admin`, `group:CN=Wiki Admins\, EMEA,OU=Groups,DC=example,DC=com=wiki:admin`},
		{"scopeRules", "group:urn:geant:example.org:group:wiki:role=owner#example.org=wiki:admin", "group:urn:geant:example.org:group:wiki:role=owner#example.org=wiki:admin"},
		{"scopeRules", "group:acme:admins=a; group:Wiki Admins=b; group:/staff=c; domain:example.com=d; email:a.b+c@example.com=e; sub:CgNpZA===f", "group:acme:admins=a | group:Wiki Admins=b | group:/staff=c | domain:example.com=d | email:a.b+c@example.com=e | sub:CgNpZA===f"},
		{"allowedEmails", "a@example.com,,b@example.com c=d@müller.example\n  o'neil@example.com,", "a@example.com | b@example.com | c=d@müller.example | o'neil@example.com"},
		{"allowedDomains", "example.com, xn--mller-kva.example\tlocalhost 1st.example", "example.com | xn--mller-kva.example | localhost | 1st.example"},
		{"allowedGroups", "Wiki Admins, /staff,,acme:admins,group:default/wiki,wiki@example.com,urn:geant:x:role=member#y", "Wiki Admins | /staff | acme:admins | group:default/wiki | wiki@example.com | urn:geant:x:role=member#y"},
		{"allowedSubjects", "auth0|5f7c8ec7 110169484474386276334, 00u1a2b3 CgNpZA== f:1-2:jane 507e21", "auth0|5f7c8ec7 | 110169484474386276334 | 00u1a2b3 | CgNpZA== | f:1-2:jane | 507e21"},
		{"scopes", "openid  email\nhttps://www.googleapis.com/auth/drive patient/Observation.rs?category=http://x|y", "openid | email | https://www.googleapis.com/auth/drive | patient/Observation.rs?category=http://x|y"},
		{"requiredScopes", "wiki:read wiki:write", "wiki:read | wiki:write"},
		{"scopesSupported", "wiki:read", "wiki:read"},
		{"mcpPaths", "/mcp /sse,/a/b", "/mcp | /sse | /a/b"},
		{"privateRedirectURIs", "myapp://login/callback, other:/cb", "myapp://login/callback | other:/cb"},
		{"providerParameters", "prompt=consent", "prompt=consent"},
		{"providerParameters", "prompt=consent&access_type=offline", "prompt=consent | access_type=offline"},
		{"providerParameters", " prompt = login consent ;; acr_values=urn:mace:a urn:b; resource=https://api.example/?x=y; claims={\"id_token\":{\"acr\":null}}; prompt2=", "prompt=login consent | acr_values=urn:mace:a urn:b | resource=https://api.example/?x=y | claims={\"id_token\":{\"acr\":null}} | prompt2="},
		{"identityHeaders", "email=X-User, groups,,name", "email=X-User | groups=X-Mcp-Groups | name=X-Mcp-Name"},
	} {
		config := wikiConfig("http://127.0.0.1:1")
		putLabel(t, config, c.label, c.value)
		s, members, err := parseLabels(config)
		if err != nil {
			t.Errorf("%s %q: %v", c.label, c.value, err)
			continue
		}
		if got := strings.Join(meaning(s, members, config, c.label), " | "); got != c.want {
			t.Errorf("%s %q:\nmeans %s\nwant  %s", c.label, c.value, got, c.want)
		}
	}
}

// meaning returns what was read from a list, one text for each element, in the spelling of the
// naive reader below. Rules by name come sorted.
func meaning(s *settings, members []hopMember, config *Config, label string) []string {
	list := []string{}
	for _, m := range members {
		if m.name == label {
			json.Unmarshal([]byte(m.value), &list)
			return list
		}
	}
	if label == "identityHeaders" {
		for _, h := range s.identityHeaders {
			list = append(list, h.claim+"="+h.name)
		}
		return list
	}
	texts, _ := readLabels(config)
	rules, _ := readRules(label, map[string]string{
		"methodScopes": texts.MethodScopes, "toolScopes": texts.ToolScopes,
		"resourceScopes": texts.ResourceScopes, "promptScopes": texts.PromptScopes,
	}[label])
	for _, rule := range rules {
		list = append(list, rule.Name+"="+strings.Join(rule.Scopes, " "))
	}
	sort.Strings(list)
	return list
}

// naive reads a list like somebody who knows only the separators.
func naive(label, text string) []string {
	list := []string{}
	if label == "providerParameters" {
		for _, part := range strings.Split(strings.ReplaceAll(text, "&", ";"), ";") {
			if name, value, _ := strings.Cut(part, "="); strings.TrimSpace(part) != "" {
				list = append(list, strings.TrimSpace(name)+"="+strings.TrimSpace(value))
			}
		}
		return list
	}
	if separators := map[string]string{"allowedGroups": ",", "scopeRules": ";", "toolScopes": ";", "methodScopes": ";", "resourceScopes": ";", "promptScopes": ";"}[label]; separators != "" {
		for _, part := range strings.Split(text, separators) {
			if part = strings.TrimSpace(part); part != "" {
				list = append(list, part)
			}
		}
	} else {
		if !strings.HasSuffix(strings.ToLower(label), "scopes") && label != "scopesSupported" {
			text = strings.ReplaceAll(text, ",", " ")
		}
		list = strings.Fields(text)
	}
	if strings.HasSuffix(label, "Scopes") && label != "requiredScopes" {
		for i, rule := range list {
			parts := strings.Split(rule, "=")
			list[i] = strings.TrimSpace(strings.Join(parts[:len(parts)-1], "=")) + "=" + strings.Join(strings.Fields(parts[len(parts)-1]), " ")
		}
		sort.Strings(list)
	}
	return list
}

var listLabels = []string{"scopes", "requiredScopes", "scopesSupported", "mcpPaths", "privateRedirectURIs", "allowedEmails", "allowedDomains",
	"allowedGroups", "allowedSubjects", "scopeRules", "identityHeaders", "methodScopes", "toolScopes", "resourceScopes", "promptScopes", "providerParameters"}

// foreign returns the separators that no element of a list holds.
func foreign(label string) []string {
	switch label {
	case "scopes":
		return []string{",", ";", ", ", "; "}
	case "requiredScopes":
		return []string{",", ";", ", ", "; "}
	case "scopesSupported":
		return []string{",", ";", ", ", "; "}
	case "allowedGroups":
		return []string{";", "; ", "\n"}
	}
	if strings.HasSuffix(label, "Scopes") || label == "scopeRules" || label == "providerParameters" || label == "workloadIssuers" {
		return []string{",", ", ", " ", "\n", "\t"}
	}
	return []string{";", "; "}
}

// An accepted list means what a naive reader finds. Two accepted elements with the separator of
// another list between them are refused, so that none swallows its neighbour. An error names the
// label.
func FuzzLists(f *testing.F) {
	for i, seeds := range [][]string{
		{"openid email", "a,b"}, {"wiki:read", "*"}, {"wiki:read", "offline_access"}, {"/mcp", "/sse"}, {"myapp://a/b", "other:/c"}, {"a@b.example", "c=d@e.example"},
		{"example.com", "1.5"}, {"Wiki Admins", "urn:a:b=c"}, {"CgNpZA==", "a|b"}, {"group:cn=a,ou=b=x", "*=y"}, {"email=X-User", "groups"},
		{"tools/call=a", "resources/*=b"}, {"delete_page=wiki:write", "*=wiki:read"}, {"db://q?a=b,c=x", "file:///a*=y"}, {"review=a b", "*=c"}, {"prompt=consent", "a="},
	} {
		f.Add(byte(i), seeds[0], seeds[1])
		f.Add(byte(i), seeds[1], seeds[0])
	}
	f.Add(byte(9), "group:urn:a:role=b#c=x", "sub:a===y")
	f.Fuzz(func(t *testing.T, which byte, one, other string) {
		label := listLabels[int(which)%len(listLabels)]
		read := func(text string) ([]string, bool) {
			config := wikiConfig("http://127.0.0.1:1")
			config.RequiredScopes = "r"
			putLabel(t, config, label, text)
			s, members, err := parseLabels(config)
			if err != nil {
				if !strings.HasPrefix(err.Error(), "label "+label+": ") && !strings.HasPrefix(err.Error(), "labels scopes and requiredScopes: ") && !strings.HasPrefix(err.Error(), "the labels together") {
					t.Errorf("%s %q: %v", label, text, err)
				}
				return nil, false
			}
			return meaning(s, members, config, label), true
		}
		first, ok := read(one)
		if !ok || strings.TrimSpace(one) == "" || label == "mcpPaths" && len(naive(label, one)) == 0 {
			return
		}
		if label != "identityHeaders" { // its standard names are filled in
			if want := naive(label, one); fmt.Sprint(first) != fmt.Sprint(want) && len(first)+len(want) > 0 {
				t.Errorf("%s %q means %q, to a naive reader %q", label, one, first, want)
			}
		}
		second, ok := read(other)
		if !ok || len(first) == 0 || len(second) == 0 || len(naive(label, one)) == 0 || len(naive(label, other)) == 0 {
			return
		}
		for _, separator := range foreign(label) {
			// The separators at both ends are cut off: with the label's own there, what follows
			// is an element in its own right, and has swallowed nothing.
			ends := ",; \t\r\n"
			if label == "providerParameters" {
				ends += "&"
			}
			joined := strings.TrimRight(strings.TrimSpace(one), ends) + separator + strings.TrimLeft(strings.TrimSpace(other), ends)
			if got, ok := read(joined); ok {
				t.Errorf("%s %q is taken, and means %q", label, joined, got)
			}
		}
	})
}

func TestScopeRuleVectorsAtThePlugin(t *testing.T) {
	for name, v := range loadVectors(t, "scoperules", "expect", "who", "name", "scopes") {
		rules, err := parseNameRules("scopeRules", v["subject"], whoFault)
		if v["expect"] == "refused" {
			if err == nil || !strings.HasPrefix(err.Error(), "label scopeRules: ") {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err != nil || len(rules) != 1 || rules[0].text != v["subject"] {
			t.Errorf("%s: %v", name, err)
			continue
		}
		who, whose, named := strings.Cut(rules[0].name, ":")
		if !named {
			whose = "-"
		}
		if who != v["who"] || strings.TrimSpace(whose) != v["name"] || strings.Join(rules[0].scopes, " ") != v["scopes"] {
			t.Errorf("%s: %+v", name, rules[0])
		}
	}
}

func TestWorkloadRuleVectorsAtThePlugin(t *testing.T) {
	for name, v := range loadVectors(t, "workloadrules", "expect", "issuer", "claims", "scopes") {
		rules, err := parseList("workloadIssuers", v["subject"], bySemicolons, workloadFault)
		if v["expect"] == "refused" {
			if err == nil || !strings.HasPrefix(err.Error(), "label workloadIssuers: ") {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err != nil || len(rules) != 1 || rules[0] != v["subject"] {
			t.Errorf("%s: %v %v", name, rules, err)
		}
	}
}

// This joins any two elements that are good alone by every separator of another list.
func TestListElementsDoNotSwallowTheirNeighbours(t *testing.T) {
	tried := 0
	for label, elements := range map[string][]string{
		"scopes":              {"openid", "a=b", "https://www.googleapis.com/auth/drive"},
		"requiredScopes":      {"wiki:read", "a=b"},
		"scopesSupported":     {"wiki:read", "b"},
		"mcpPaths":            {"/mcp", "/a/b"},
		"privateRedirectURIs": {"myapp://a/b", "other:/c"},
		"providerParameters":  {"prompt=consent login", "a=", "resource=https://api.example/?x=y", "b=c=="},
		"allowedEmails":       {"a@example.com", "a=b@example.com"},
		"allowedDomains":      {"example.com", "localhost"},
		"allowedGroups":       {"admins", "Wiki Admins", "urn:a:b=c"},
		"allowedSubjects":     {"abc", "CgNpZA==", "auth0|1"},
		"identityHeaders":     {"email", "name=X-Name"},
		"enterpriseIssuers":   {"https://idp.example.com", "https://a.example/b"},
		"workloadIssuers":     {"https://ci.example.com sub=a* => r", "https://a.example b=c d=e => r w"},
		"allowedClients":      {"https://claude.ai/client.json", "document:claude.ai", "redirect:[::1]", "client:AAAAAAAAAAAAAAAA"},
		"scopeRules":          {"*=a", "group:Wiki Admins=b c", "group:cn=a,ou=b=c", "group:urn:a:b=c#d=e", "domain:example.com=a", "email:a=b@c.example=d", "sub:CgNpZA===x"},
		"methodScopes":        {"*=a", "tools/call=b c", "resources/*=d"},
		"toolScopes":          {"*=a", "delete_page=b c", "admin_*=d"},
		"promptScopes":        {"*=a", "review=b c", "admin_*=d"},
		"resourceScopes":      {"*=a", "file:///a,b=b c", "db://q?a=b,c=d", "db://q?a=b&c=*=d", "file*=e", "urn:x:y*=f"},
	} {
		for i, one := range elements {
			for j, other := range elements {
				for _, separator := range foreign(label) {
					if i == j {
						continue
					}
					config := wikiConfig("http://127.0.0.1:1")
					putLabel(t, config, label, one+separator+other)
					_, err := parseConfig(config)
					if err == nil || !strings.HasPrefix(err.Error(), "label "+label+": ") {
						t.Errorf("%s %q: %v", label, one+separator+other, err)
					}
					tried++
				}
			}
		}
	}
	if tried < 500 {
		t.Errorf("%d pairs were tried", tried)
	}
}
