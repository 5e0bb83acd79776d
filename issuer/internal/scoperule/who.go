package scoperule

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/mcpbouncer/mcpbouncer/issuer/lazyregexp"
)

// These say what the WHO of a scope rule may hold, as the plugin's list.go does:
// plugin/testdata/scoperules keeps the two together. The plugin names the label and says what to
// do; here it only matters that a rule which swallowed its neighbour gives nothing to anybody,
// whichever plugin sent it.

var (
	// secondWho is a WHO behind a blank.
	secondWho = lazyregexp.Regexp{Text: `\s(\*|(group|domain|email|sub):)`}

	// rdn is one part of a distinguished name (RFC 4514), after escaped characters have been
	// removed. It has only attributes by which groups and people are named, because any other would
	// let a swallowed rule pass. It is in small letters.
	rdn     = lazyregexp.Regexp{Text: `^\s*(cn|ou|dc|o|c|l|st|street|uid|gid|gidnumber|uidnumber|name|sn|mail|e|emailaddress|serialnumber|entryuuid|nsuniqueid|ipauniqueid|samaccountname|userprincipalname|[0-9]+(\.[0-9]+)+)=[^=]+$`}
	escaped = lazyregexp.Regexp{Text: `\\.`}

	// urn is one with a single "=" (AARC-G002), as urn:geant:example.org:group:wiki:role=member.
	urn = lazyregexp.Regexp{Text: `^(?i:urn:)[A-Za-z0-9._~:/?#@!$&'()+%-]*=[A-Za-z0-9._~:/?#@!$&'()+%-]*$`}

	// ruleScope is the grammar of a scope (RFC 6749 §3.3) without the separators of scopes and
	// rules.
	ruleScope = lazyregexp.Regexp{Text: `^[!#-+\--:<>-\[\]-~]+$`}
)

// isWho says whether kind and name can be somebody.
func isWho(kind, name string) bool {
	switch {
	case strings.Contains(name, "${"):
		return false
	case kind == "group":
		return isGroup(name)
	case kind == "domain":
		return isDomain(name)
	case kind == "email":
		local, domain, _ := strings.Cut(name, "@")
		return local != "" && !strings.ContainsAny(local, `*,;:<>()[]\"`) && !hasBlank(local) && isDomain(domain)
	case kind == "sub":
		return isSubject(name)
	}
	return false
}

func isGroup(name string) bool {
	return urn.Get().MatchString(name) || isDistinguishedName(name) ||
		name != "" && !secondWho.Get().MatchString(name) && !strings.ContainsAny(name, "=,;*") && !hasInvisible(name)
}

func isSubject(name string) bool {
	padded := strings.TrimRight(name, "=")
	return urn.Get().MatchString(name) || isDistinguishedName(name) ||
		padded != "" && len(name)-len(padded) <= 2 && !strings.ContainsAny(padded, "=,;*") && !hasBlank(name)
}

func isDomain(name string) bool {
	last := name[strings.LastIndex(name, ".")+1:]
	return len(name) <= 253 && isDomainName(name) && strings.Trim(last, "0123456789") != ""
}

// isDomainName knows labels of letters and digits, with hyphens and underscores between them. A
// pattern with these classes takes 200 KB of memory.
func isDomainName(name string) bool {
	for label := range strings.SplitSeq(name, ".") {
		first, _ := utf8.DecodeRuneInString(label)
		last, _ := utf8.DecodeLastRuneInString(label)
		if !unicode.In(first, unicode.L, unicode.N) || !unicode.In(last, unicode.L, unicode.N, unicode.M) ||
			strings.TrimFunc(label, isInLabel) != "" {
			return false
		}
	}
	return true
}

func isInLabel(r rune) bool {
	return r == '-' || r == '_' || unicode.In(r, unicode.L, unicode.N, unicode.M)
}

func isDistinguishedName(name string) bool {
	parts := strings.Split(escaped.Get().ReplaceAllString(name, "x"), ",")
	return !hasInvisible(name) && !strings.ContainsAny(name, ";*") && !secondWho.Get().MatchString(name) &&
		!slices.ContainsFunc(parts, func(part string) bool { return !rdn.Get().MatchString(strings.ToLower(part)) })
}

// isRuleScope refuses also the star, which stands for itself, and the variable that nobody
// replaced.
func isRuleScope(scope string) bool {
	return ruleScope.Get().MatchString(scope) && scope != "*" && !strings.Contains(scope, "${")
}

// hasBlank finds white space of any kind, and what cannot be seen.
func hasBlank(s string) bool { return strings.Contains(s, " ") || hasInvisible(s) }

// hasInvisible finds all of that but the blank.
func hasInvisible(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool {
		return r != ' ' && unicode.IsSpace(r) || !unicode.IsGraphic(r) || r == unicode.ReplacementChar
	})
}
