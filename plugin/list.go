//go:build go1.21

package plugin

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/mcpbouncer/mcpbouncer/plugin/mcp"
)

// This is the grammar of every label that is a list, and of every label that is a list of rules.
//
//	list    elements between the label's separators; an empty one means nothing
//	rules   NAME=SCOPES between semicolons, SCOPES between spaces; neither may be empty
//
// An element that holds a separator of another list, or a rule that holds a second "=", has
// swallowed its neighbour. "delete_page=wiki:write, *=wiki:read", with a comma in place of the
// semicolon, would guard a tool that does not exist, and leave delete_page to everybody. So each
// kind of element has its set of characters. An element that can only be a slip is refused with the
// name of the label. So is an element that can match nobody and nothing. issuer/internal/scoperule
// has the same grammar for scopeRules; testdata/scoperules keeps the two together.

// These are the separators of lists. A blank stands for any white space.
const (
	bySpaces         = " "
	byCommasOrSpaces = ", "
	byCommas         = ","
	bySemicolons     = ";"
	// This is for parameters of a URL, which may be written as they stand there.
	bySemicolonsOrAnd = ";&"
)

// elementsOf splits a list at any of the separators, and drops empty elements. It leaves the
// characters to native calls: a function that is called for each of them is slow in Yaegi.
func elementsOf(text, separators string) []string {
	first := separators[:1]
	blanks := strings.Contains(separators, " ")
	if blanks {
		first = " "
	}
	for _, other := range strings.Split(separators, "") {
		if other != first {
			text = strings.ReplaceAll(text, other, first)
		}
	}
	if blanks {
		return strings.Fields(text)
	}
	list := []string{}
	for _, part := range strings.Split(text, first) {
		part = strings.TrimSpace(part)
		if part != "" {
			list = append(list, part)
		}
	}
	return list
}

// isOnlySeparators finds a list that two empty variables have left. It would open what was meant to
// be shut.
func isOnlySeparators(text string) bool {
	return strings.TrimSpace(text) != "" && len(elementsOf(text, ",; ")) == 0
}

// parseList reads a label that is a list. fault says what is wrong with an element; "" means
// nothing.
func parseList(label, text, separators string, fault func(string) string) ([]string, error) {
	if text == "" { // as most labels, which need no variables then: see known.go
		return nil, nil
	}
	return readList(label, text, separators, fault)
}

func readList(label, text, separators string, fault func(string) string) ([]string, error) {
	list := elementsOf(text, separators)
	for _, element := range list {
		why := fault(element)
		if strings.Contains(element, "${") {
			why = "this names a variable that nobody has replaced by its value"
		}
		if why != "" {
			return nil, fmt.Errorf("label %s: %q: %s", label, element, why)
		}
	}
	return list, nil
}

// nameRule is one rule: NAME=SCOPES.
type nameRule struct {
	text   string // as it stands in the label
	name   string
	scopes []string // at least one
}

// parseNameRules reads a label that is a list of rules. The last "=" of a rule divides it, since
// scopes hold none. fault decides whether a name may hold others.
func parseNameRules(label, text string, fault func(string) string) ([]nameRule, error) {
	rules := []nameRule{}
	seen := map[string]bool{}
	for _, rule := range elementsOf(text, bySemicolons) {
		at := strings.LastIndex(rule, "=")
		if at < 0 {
			return nil, fmt.Errorf("label %s: %q is not a rule: write NAME=SCOPES, and semicolons between rules", label, rule)
		}
		name := strings.TrimSpace(rule[:at])
		scopes, err := parseList(label, rule[at+1:], bySpaces, ruleScopeFault)
		if err == nil && len(scopes) == 0 { // an empty variable must open nothing
			err = fmt.Errorf("label %s: %q: name scopes after the =, separated by spaces", label, rule)
		}
		if err != nil {
			return nil, err
		}
		why := fault(name)
		switch {
		case strings.Contains(name, "${"):
			return nil, fmt.Errorf("label %s: %q: this names a variable that nobody has replaced by its value", label, rule)
		case why != "":
			return nil, fmt.Errorf("label %s: %q: %s", label, rule, why)
		case seen[name]:
			return nil, fmt.Errorf("label %s: two rules for %q: put their scopes into one", label, name)
		}
		seen[name] = true
		rules = append(rules, nameRule{text: rule, name: name, scopes: scopes})
	}
	return rules, nil
}

// scopeFault says what is wrong with a scope: RFC 6749 §3.3 without comma and semicolon, which
// separate scopes elsewhere. Required scopes are also quoted in a header, and this check keeps the
// quotes closed.
func scopeFault(scope string) string {
	if strings.Trim(scope, scopeChars) != "" || strings.ContainsAny(scope, ",;") {
		return "not a scope: separate scopes by spaces; they cannot hold commas, semicolons, quotes, backslashes or non-ASCII"
	}
	return ""
}

// comparedScopeFault is scopeFault for scopes that are compared with those of access tokens.
func comparedScopeFault(scope string) string {
	switch {
	case scope == "*":
		return "not a scope: scopes are compared as they are, and * does not stand for all"
	case scope == "offline_access":
		return "no right at a server, and no access token has it: name it in scopes"
	}
	return scopeFault(scope)
}

// ruleScopeFault is scopeFault for the right side of a rule. Each label decides about
// offline_access itself.
func ruleScopeFault(scope string) string {
	if scope == "offline_access" {
		return ""
	}
	return comparedScopeFault(scope)
}

// notInNames are refused in names of tools, prompts and methods: the other separators, quotes, and
// characters of other pattern languages. A tool whose name has one of them is guarded by the
// beginning of its name.
const notInNames = "!\"#$%&'()+,;<=>?[\\]^`{|}~"

// patternFault says what is wrong with the name of a rule by tool, prompt, method or resource.
func patternFault(label, pattern string) string {
	name := strings.TrimSuffix(pattern, "*")
	switch {
	case strings.Contains(name, "=") && (label != "resourceScopes" || hasBlank(name)):
		return "there is a second =: put a semicolon between two rules"
	case pattern == "" || strings.Contains(name, "*") || len(pattern) > maxPattern || !mcp.IsPlainName(pattern):
		return fmt.Sprintf("before the = stands a name, or the beginning of names and one *, of at most %d characters", maxPattern)
	case label == "resourceScopes":
		return uriFault(pattern, name)
	case strings.ContainsAny(name, notInNames) || hasBlank(name) || hasLookAlike(name):
		return "a name holds no blanks, quotes or separators: one name a rule, and semicolons between rules; what has such a name nevertheless is guarded by the beginning of it and a *"
	case label == "methodScopes" && strings.HasPrefix(pattern, "notifications/"):
		return "notifications need no scope"
	case label == "methodScopes" && name == pattern && !strings.Contains(name, "/") && !mcp.IsKnownMethod(name):
		return "methods of MCP have a / in their names, as in tools/call, and names of tools belong into toolScopes; a method that has none nevertheless is written with a * behind it"
	case label != "methodScopes" && (strings.HasPrefix(name, "tools/") || strings.HasPrefix(name, "prompts/") || strings.HasPrefix(name, "resources/")):
		return "this is a method's name: it belongs into methodScopes"
	}
	return ""
}

var (
	// uriPattern matches the beginning of a URI up to its colon, or the beginning of a scheme and a
	// star.
	uriPattern = regexp.MustCompile(`^[a-z][a-z0-9+.-]*(:|\*$)`)

	// secondURI matches a comma before the beginning of another URI, or before the star that was
	// taken off.
	secondURI = regexp.MustCompile(`,([A-Za-z][A-Za-z0-9+.-]*:|$)`)
)

// uriFault says what is wrong with the name of a rule by resource. Only the query of a URI may hold
// "=". A comma is refused where it could stand before another rule.
func uriFault(pattern, name string) string {
	path, query, _ := strings.Cut(name, "?")
	_, value, _ := strings.Cut(query, "=")
	switch {
	case hasBlank(name) || strings.ContainsAny(name, "\"<>\\^`{|}") || strings.Contains(path, "="):
		return "a URI holds no blanks, quotes, backslashes or braces, and = only behind a ?: put a semicolon between two rules"
	case secondURI.MatchString(name) || name != pattern && strings.Contains(value, ","):
		return "this could be two rules: put a semicolon between them, or end the URI before the comma by a *"
	case pattern != "*" && !uriPattern.MatchString(pattern):
		return "a URI begins with its scheme in small letters, as in file:///public/*"
	case name == pattern && !mcp.IsPlainURI(name) || name != pattern && !beginsPlainURI(name):
		return "no request with this spelling is let through, so that the rule would never hold: write the URI in its plain form"
	}
	return ""
}

// cutEncoding matches percent-encoding at the end of a pattern, where it may be cut in two.
var cutEncoding = regexp.MustCompile(`(%[0-9A-Fa-f]{0,2})+$`)

// beginsPlainURI says whether a URI in plain form can begin with a name. A rule for any other
// beginning would guard nothing.
func beginsPlainURI(name string) bool {
	if !strings.Contains(name, ":") {
		return true
	}
	name = cutEncoding.ReplaceAllString(name, "")
	return mcp.IsPlainURI(name+"x") || mcp.IsPlainURI(name+"/x") || mcp.IsPlainURI(name+"//x")
}

// whoFault says what is wrong with the WHO of a scope rule.
func whoFault(who string) string {
	kind, name, named := strings.Cut(who, ":") // names of groups hold colons too
	switch {
	case who == "*":
		return ""
	case !named || strings.TrimSpace(name) == "":
		return "write WHO=SCOPES, with *, group:NAME, domain:NAME, email:ADDRESS or sub:SUBJECT as WHO"
	case kind == "group":
		return groupFault(strings.TrimSpace(name), true)
	case kind == "domain":
		return domainFault(strings.TrimSpace(name))
	case kind == "email":
		return emailFault(strings.TrimSpace(name))
	case kind == "sub":
		return subjectFault(strings.TrimSpace(name), true)
	}
	return "write WHO=SCOPES, with *, group:NAME, domain:NAME, email:ADDRESS or sub:SUBJECT as WHO"
}

// secondWho matches a WHO behind a blank.
var secondWho = regexp.MustCompile(`\s(\*|(group|domain|email|sub):)`)

// groupFault says what is wrong with the name of a group. Names may hold blanks. URNs with one "="
// are names too (AARC-G002), and in a rule so are distinguished names (RFC 4514).
func groupFault(name string, inRule bool) string {
	switch {
	case isURN(name) || inRule && isDistinguishedName(name):
		return ""
	case secondWho.MatchString(name) && !strings.Contains(name, "="):
		return "this names two: one WHO a rule, and semicolons between rules"
	case inRule && strings.ContainsAny(name, "=,"):
		return "there is a second = or a comma, which only distinguished names (cn=admins,ou=wiki) and URNs hold: put a semicolon between two rules"
	case strings.ContainsAny(name, "=,"):
		return "a name with =: a distinguished name cannot stand in this list, since commas separate groups; give its members a scope (scopeRules: group:cn=admins,ou=wiki=SCOPE) and name that in requiredScopes"
	case name == "" || strings.ContainsAny(name, ";*") || hasInvisible(name):
		return "not a group's name: it cannot hold *, semicolons, line breaks or what cannot be seen"
	}
	return ""
}

// subjectFault says what is wrong with a subject. It may end in "=" as base64 does.
func subjectFault(name string, inRule bool) string {
	padded := strings.TrimRight(name, "=")
	switch {
	case isURN(name) || inRule && isDistinguishedName(name):
		return ""
	case padded == "" || len(name)-len(padded) > 2 || strings.ContainsAny(padded, "=,;*") || hasBlank(name):
		return "not a subject: it cannot hold *, blanks or separators, and = only at its end"
	}
	return ""
}

// emailFault says what is wrong with an e-mail address.
func emailFault(address string) string {
	local, domain, _ := strings.Cut(address, "@")
	if local == "" || strings.ContainsAny(local, "*,;:<>()[]\\\"") || hasBlank(local) || domainFault(domain) != "" {
		return "not an e-mail address: write NAME@DOMAIN, without * and without anything behind it; for a whole domain there is allowedDomains"
	}
	return ""
}

// isDomainName knows labels of letters and digits, with hyphens and underscores between them. A
// pattern with these classes takes 200 KB of memory.
func isDomainName(name string) bool {
	for _, label := range strings.Split(name, ".") {
		first, _ := utf8.DecodeRuneInString(label)
		last, _ := utf8.DecodeLastRuneInString(label)
		if !unicode.In(first, unicode.L, unicode.N) || !unicode.In(last, unicode.L, unicode.N, unicode.M) || strings.TrimFunc(label, isInLabel) != "" {
			return false
		}
	}
	return true
}

func isInLabel(r rune) bool {
	return r == '-' || r == '_' || unicode.In(r, unicode.L, unicode.N, unicode.M)
}

// domainFault says what is wrong with a domain's name.
func domainFault(name string) string {
	last := name[strings.LastIndex(name, ".")+1:]
	if len(name) > 253 || !isDomainName(name) || strings.Trim(last, "0123456789") == "" {
		return "not a domain: write example.com, without @, *, scheme and path, and without a dot at the end; domains below it count only if they are named too"
	}
	return ""
}

// rdn matches one part of a distinguished name, after escaped characters were taken out. It knows
// only attributes by which groups and people are named: any other would let a swallowed rule pass.
// It is in small letters.
var (
	rdn     = regexp.MustCompile(`^\s*(cn|ou|dc|o|c|l|st|street|uid|gid|gidnumber|uidnumber|name|sn|mail|e|emailaddress|serialnumber|entryuuid|nsuniqueid|ipauniqueid|samaccountname|userprincipalname|[0-9]+(\.[0-9]+)+)=[^=]+$`)
	escaped = regexp.MustCompile(`\\.`)
)

func isDistinguishedName(name string) bool {
	if hasInvisible(name) || strings.ContainsAny(name, ";*") || secondWho.MatchString(name) {
		return false
	}
	for _, part := range strings.Split(escaped.ReplaceAllString(name, "x"), ",") {
		if !rdn.MatchString(strings.ToLower(part)) {
			return false
		}
	}
	return true
}

// isURN finds a URN with one "=", as urn:geant:example.org:group:wiki:role=member#example.org.
func isURN(name string) bool {
	return strings.HasPrefix(strings.ToLower(name), "urn:") && strings.Count(name, "=") == 1 &&
		strings.Trim(name, alphanumeric+"-._~:/?#@!$&'()+%=") == ""
}

var (
	// parameterName matches name-char of RFC 6749, appendix A.
	parameterName = regexp.MustCompile(`^[A-Za-z0-9._-]+$`)
	// secondParameter matches the beginning of another parameter in a value, behind a separator of
	// another list.
	secondParameter = regexp.MustCompile(`[\s,][A-Za-z0-9._-]+\s*=`)
	percentEncoded  = regexp.MustCompile(`%[0-9A-Fa-f]{2}`)
)

// usualParameters are the parameters that operators set, in the spelling of providers (OpenID
// Connect Core §3.1.2.1, RFC 8707, and the documentation of Google, Entra ID, Keycloak and Auth0).
const usualParameters = " prompt acr_values max_age login_hint ui_locales claims_locales display claims resource access_type hd include_granted_scopes domain_hint kc_idp_hint audience organization connection "

// parameterFault says what is wrong with a parameter for the provider.
func parameterFault(parameter string) string {
	at := strings.Index(parameter, "=")
	if at < 0 {
		return "not a parameter: write NAME=VALUE, and semicolons between parameters"
	}
	name := strings.TrimSpace(parameter[:at])
	value := strings.TrimSpace(parameter[at+1:])
	switch {
	case !parameterName.MatchString(name):
		return "the name of a parameter holds letters, digits and ._- only"
	case strings.EqualFold(name, "scope"):
		return "scopes are asked for by the label scopes"
	case strings.Contains(ownParameters, " "+strings.ToLower(name)+" "):
		return "this is the sidecar's own to say: remove it"
	case name != strings.ToLower(name) && strings.Contains(usualParameters, " "+strings.ToLower(name)+" "):
		return "write " + strings.ToLower(name) + " in small letters: providers pass over what they do not know, and know no other spelling"
	case secondParameter.MatchString(parameter[at+1:]):
		return "there is a second parameter in it: put a semicolon between two"
	case percentEncoded.MatchString(value):
		return "write the value as it is: it is encoded on its way"
	case strings.EqualFold(name, "prompt") && strings.Contains(" "+value+" ", " none "):
		return "with prompt=none nobody could sign in at the provider"
	case hasInvisible(value):
		return "the value holds what cannot be seen"
	}
	return ""
}

// hasLookAlike finds punctuation beyond ASCII: quotes, dashes and full-width separators that an
// editor or a keyboard put where one of ASCII was meant.
func hasLookAlike(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool {
		return r > 0x7f && unicode.IsPunct(r) || r >= 0xff01 && r <= 0xff5e
	}) >= 0
}

// hasBlank finds white space of any kind, and invisible characters.
func hasBlank(s string) bool { return strings.Contains(s, " ") || hasInvisible(s) }

// hasInvisible finds what hasBlank finds, except the blank: control characters, line breaks,
// invisible and broken characters.
func hasInvisible(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool {
		return r != ' ' && unicode.IsSpace(r) || !unicode.IsGraphic(r) || r == '\ufffd'
	}) >= 0
}

// sharedIssuers speak for everybody's workloads, and anybody can have one there. A rule must say
// whose it means by one of whoseClaims: environment=prod fits a stranger's repository too, and so
// does a beginning without a slash, since acme* is acme-evil. issuer/internal/workloadrule has the
// same lists.
const (
	sharedIssuers = " https://token.actions.githubusercontent.com https://gitlab.com https://accounts.google.com "
	whoseClaims   = " sub repository repository_id repository_owner repository_owner_id job_workflow_ref enterprise enterprise_id project_path project_id namespace_path namespace_id email hd "
)

// saysWhose says whether a claim of a rule tells one owner's workloads from those of others.
func saysWhose(name, value string) bool {
	return strings.Contains(whoseClaims, " "+name+" ") && (!strings.HasSuffix(value, "*") || strings.Contains(value, "/"))
}

// workloadFault says what is wrong with a rule of workloadIssuers. The sidecar reads the same
// grammar (package workloadrule); plugin/testdata/workloadrules holds the two together.
func workloadFault(rule string) string {
	const form = "write ISSUER CLAIM=VALUE => SCOPES, with semicolons between rules"
	at := strings.Index(rule, " => ")
	if at < 0 {
		return "not a rule: " + form
	}
	scopes := strings.Fields(rule[at+len(" => "):])
	words := strings.Fields(rule[:at])
	if len(scopes) == 0 {
		return "no scopes behind the =>: " + form
	}
	for _, scope := range scopes {
		if comparedScopeFault(scope) != "" || strings.Contains(scope, "=") {
			return scope + " is not a scope that a rule can give: they cannot hold =, commas, quotes, backslashes or non-ASCII"
		}
	}
	if len(words) == 0 || assertionIssuerFault(words[0]) != "" {
		return "it does not begin with an issuer, which is an https URL of at most 200 characters: " + form
	}
	if len(words) == 1 {
		return "it names no claim, so every workload of this issuer would come in, also those of others: " + form
	}
	owned := !strings.Contains(sharedIssuers, " "+strings.TrimSuffix(words[0], "/")+" ")
	for _, word := range words[1:] {
		equals := strings.Index(word, "=")
		if equals < 1 {
			return word + " is not CLAIM=VALUE; a blank in a value is written as %20"
		}
		value, err := url.PathUnescape(word[equals+1:])
		if err != nil || strings.Trim(value, "*") == "" || strings.Contains(strings.TrimSuffix(value, "*"), "*") {
			return word + " has no value that says which workloads: write the whole value, or a beginning of it with a * at the end"
		}
		owned = owned || saysWhose(word[:equals], value)
	}
	if !owned {
		return "this issuer speaks for everybody's workloads, and no claim says whose are meant: add one such as sub, repository, repository_owner_id or project_path, whole or with a / before the *"
	}
	return ""
}
