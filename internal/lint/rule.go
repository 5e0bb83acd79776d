package lint

import (
	"errors"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/mcpbouncer/mcpbouncer/issuer/lazyregexp"
)

// answer is what a rule says of a request. Some matchers look at what lint does not know, such as
// a header of a client.
type answer int

const (
	no answer = iota
	perhaps
	yes
)

func (a answer) String() string { return [...]string{"no", "cannot tell", "yes"}[a] }

// request is what lint asks a rule. The host is without a port, and the path as Traefik compares
// it.
type request struct{ host, path, method string }

// rule is a router's rule, as Traefik 3 reads it.
type rule func(request) answer

// maxRule bounds a rule's text, and so the depth of its parentheses.
const maxRule = 4096

// Matches says whether a router's rule takes a request: yes, no, or "cannot tell" where that hangs
// on what the rule alone does not say. An error means that Traefik drops the router. It is for the
// test that asks Traefik the same (deploy/e2e).
func Matches(text, method, host, path string) (string, error) {
	r, err := parseRule(text)
	if err != nil {
		return "", err
	}
	return r(request{host, path, method}).String(), nil
}

func unknowable(request) answer { return perhaps }

// parseRule reads && before ||, as Traefik does. Traefik lets Go's own parser read a rule, so that
// Go's comments, texts and line breaks are a rule's too.
func parseRule(text string) (rule, error) {
	if len(text) > maxRule {
		return unknowable, nil // Traefik has no such bound
	}
	p := &ruleParser{rest: text}
	r, err := p.or(0)
	if err == errTooDeep {
		return unknowable, nil
	}
	if p.ends = false; err == nil && p.blank() != "" {
		err = fmt.Errorf("%q is left over", p.rest)
	}
	return r, err
}

var errTooDeep = errors.New("it is nested too deeply")

type ruleParser struct {
	rest string
	// ends says that a line break here ends the rule, as a statement of Go does: behind a name, a
	// text or a closing parenthesis.
	ends bool
}

// blank goes to what comes next. A line break that ends the rule stays where it is.
func (p *ruleParser) blank() string {
	for p.rest != "" {
		comment, end := strings.HasPrefix(p.rest, "//"), 1
		switch {
		case comment && strings.Contains(p.rest, "\n"):
			end = strings.Index(p.rest, "\n")
		case comment:
			end = len(p.rest)
		case strings.HasPrefix(p.rest, "/*") && strings.Contains(p.rest[2:], "*/"):
			end = 4 + strings.Index(p.rest[2:], "*/")
			if p.ends && strings.Contains(p.rest[:end], "\n") {
				return p.rest
			}
		case p.rest[0] == '\n' && p.ends, !strings.Contains(" \t\r\n", p.rest[:1]):
			return p.rest
		}
		p.rest = p.rest[end:]
	}
	return ""
}

func (p *ruleParser) take(token string) bool {
	rest, ok := strings.CutPrefix(p.blank(), token)
	if ok {
		p.rest, p.ends = rest, token == ")"
	}
	return ok
}

func (p *ruleParser) or(depth int) (rule, error) {
	left, err := p.and(depth)
	for err == nil && p.take("||") {
		var right rule
		first := left
		if right, err = p.and(depth); err == nil {
			left = func(q request) answer { return max(first(q), right(q)) }
		}
	}
	return left, err
}

func (p *ruleParser) and(depth int) (rule, error) {
	left, err := p.unary(depth)
	for err == nil && p.take("&&") {
		var right rule
		first := left
		if right, err = p.unary(depth); err == nil {
			left = func(q request) answer { return min(first(q), right(q)) }
		}
	}
	return left, err
}

func (p *ruleParser) unary(depth int) (rule, error) {
	if depth > 100 {
		return nil, errTooDeep
	}
	if p.take("!") {
		inner, err := p.unary(depth + 1)
		if err != nil {
			return nil, err
		}
		return func(q request) answer { return yes - inner(q) }, nil
	}
	if p.take("(") {
		inner, err := p.or(depth + 1)
		if err == nil && !p.take(")") {
			err = errors.New("a ) is missing")
		}
		return inner, err
	}
	return p.matcher()
}

var matcherName = lazyregexp.Regexp{Text: `^[\pL_][\pL\pN_]*`}

func (p *ruleParser) matcher() (rule, error) {
	name := matcherName.Get().FindString(p.blank())
	if name == "" {
		return nil, fmt.Errorf("a matcher such as Host(`…`) is expected at %q", p.rest)
	}
	p.rest, p.ends = p.rest[len(name):], true
	if !p.take("(") {
		return nil, fmt.Errorf("a ( is missing behind %s", name)
	}
	args := []string{}
	for !p.take(")") {
		if len(args) > 0 && !p.take(",") {
			return nil, fmt.Errorf("a ) is missing behind %s", name)
		}
		if len(args) > 0 && p.take(")") { // Go takes a comma behind the last one
			break
		}
		quoted, err := strconv.QuotedPrefix(p.blank())
		if err != nil || quoted[0] == '\'' {
			return nil, fmt.Errorf("%s needs its value in backticks", name)
		}
		p.rest, p.ends = p.rest[len(quoted):], true
		arg, err := strconv.Unquote(quoted)
		if err != nil {
			return nil, err
		}
		args = append(args, arg)
	}
	return matcher(name, args)
}

// matchers are Traefik's, with the numbers of values that they take.
var matchers = map[string][]int{"Host": {1}, "HostRegexp": {1}, "Path": {1}, "PathPrefix": {1}, "PathRegexp": {1},
	"Method": {1}, "ClientIP": {1}, "Header": {2}, "HeaderRegexp": {2}, "Query": {1, 2}, "QueryRegexp": {1, 2}}

// spelt is a matcher's name as Traefik writes it. It takes four spellings of each: PathPrefix,
// pathprefix, PATHPREFIX and Pathprefix.
func spelt(name string) (string, error) {
	near := ""
	for known := range matchers {
		small := strings.ToLower(known)
		if slices.Contains([]string{known, small, strings.ToUpper(known), strings.ToUpper(small[:1]) + small[1:]}, name) {
			return known, nil
		}
		if strings.EqualFold(known, name) {
			near = ": write " + known
		}
	}
	return "", fmt.Errorf("no matcher of Traefik is called %s%s", name, near)
}

func matcher(written string, args []string) (rule, error) {
	name, err := spelt(written)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(matchers[name], len(args)) {
		return nil, fmt.Errorf("%s takes another number of values: write %s(`…`) || %s(`…`) for two", name, name, name)
	}
	if slices.Contains(args, "") {
		return nil, fmt.Errorf("a value of %s is empty", name)
	}
	last := args[len(args)-1]
	var expression *regexp.Regexp
	switch {
	case strings.HasPrefix(name, "Host") && (name != "Host" || last != "*") && strings.ContainsFunc(last, func(r rune) bool { return r > 127 }):
		return nil, fmt.Errorf("%s takes ASCII only: write the name as DNS has it (xn--…)", name)
	case (name == "Path" || name == "PathPrefix") && last[0] != '/':
		return nil, fmt.Errorf("the path in %s must begin with /", name)
	case name == "ClientIP" && net.ParseIP(last) == nil:
		if _, _, err := net.ParseCIDR(last); err != nil {
			return nil, fmt.Errorf("%s is no address and no block of addresses", last)
		}
	case strings.HasSuffix(name, "Regexp") && (name != "QueryRegexp" || len(args) == 2):
		if expression, err = regexp.Compile(last); err != nil {
			return nil, err
		}
	}
	is := func(test func(request) bool) rule {
		return func(q request) answer {
			if test(q) {
				return yes
			}
			return no
		}
	}
	switch name {
	case "Host":
		return is(func(q request) bool { return hostIs(strings.ToLower(q.host), strings.ToLower(last)) }), nil
	case "HostRegexp":
		// Traefik asks the expression for the name behind a CNAME as well, which is empty by
		// default. So an expression that takes nothing takes every host.
		return is(func(q request) bool {
			return expression.MatchString(strings.ToLower(q.host)) || expression.MatchString("")
		}), nil
	case "Path":
		return is(func(q request) bool { return q.path == last }), nil
	case "PathPrefix":
		return is(func(q request) bool { return strings.HasPrefix(q.path, last) }), nil
	case "PathRegexp":
		return is(func(q request) bool { return expression.MatchString(q.path) }), nil
	case "Method":
		return is(func(q request) bool { return q.method == strings.ToUpper(last) }), nil
	}
	return unknowable, nil
}

// hostIs compares hosts as Traefik does: * is everything, * in front stands for the first label,
// and a dot at the end of one of the two counts for nothing.
func hostIs(host, expected string) bool {
	same := func(host, expected string) bool {
		if strings.HasPrefix(expected, "*") {
			_, rest, more := strings.Cut(host, ".")
			if host = "*"; more {
				host += "." + rest
			}
		}
		return host == expected
	}
	return expected == "*" || host != "" && (same(host, expected) || same(host, strings.TrimSuffix(expected, ".")) || same(strings.TrimSuffix(host, "."), expected))
}
