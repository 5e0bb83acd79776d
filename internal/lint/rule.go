package lint

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// answer is what a rule says of a request. Some matchers look at what lint does not know, such as
// a header of a client.
type answer int

const (
	no answer = iota
	perhaps
	yes
)

// request is what lint asks a rule.
type request struct{ host, path, method string }

// rule is a router's rule, as Traefik 3 reads it.
type rule func(request) answer

// maxRule bounds a rule's text, and so the depth of its parentheses.
const maxRule = 4096

// parseRule reads && before ||, as Traefik does.
func parseRule(text string) (rule, error) {
	if len(text) > maxRule {
		return nil, fmt.Errorf("the rule has more than %d characters", maxRule)
	}
	p := &ruleParser{rest: text}
	r, err := p.or(0)
	if err == nil && p.blank() != "" {
		err = fmt.Errorf("%q is left over", p.rest)
	}
	return r, err
}

type ruleParser struct{ rest string }

func (p *ruleParser) blank() string {
	p.rest = strings.TrimSpace(p.rest)
	return p.rest
}

func (p *ruleParser) take(token string) bool {
	rest, ok := strings.CutPrefix(p.blank(), token)
	if ok {
		p.rest = rest
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
		return nil, errors.New("it is nested too deeply")
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

var matcherName = regexp.MustCompile(`^[A-Za-z]+`)

func (p *ruleParser) matcher() (rule, error) {
	name := matcherName.FindString(p.blank())
	if name == "" {
		return nil, fmt.Errorf("a matcher such as Host(`…`) is expected at %q", p.rest)
	}
	p.rest = p.rest[len(name):]
	if !p.take("(") {
		return nil, fmt.Errorf("a ( is missing behind %s", name)
	}
	args := []string{}
	for !p.take(")") {
		if len(args) > 0 && !p.take(",") {
			return nil, fmt.Errorf("a ) is missing behind %s", name)
		}
		quoted, err := strconv.QuotedPrefix(p.blank())
		if err != nil || quoted[0] == '\'' {
			return nil, fmt.Errorf("%s needs its value in backticks", name)
		}
		p.rest = p.rest[len(quoted):]
		arg, err := strconv.Unquote(quoted)
		if err != nil {
			return nil, err
		}
		args = append(args, arg)
	}
	return matcher(name, args)
}

func matcher(name string, args []string) (rule, error) {
	counts := map[string][2]int{"host": {1, 1}, "hostregexp": {1, 1}, "path": {1, 1}, "pathprefix": {1, 1}, "pathregexp": {1, 1},
		"method": {1, 1}, "clientip": {1, 1}, "header": {2, 2}, "headerregexp": {2, 2}, "query": {1, 2}, "queryregexp": {1, 2}}
	small := strings.ToLower(name)
	count, known := counts[small]
	if !known {
		return nil, fmt.Errorf("no matcher of Traefik is called %s", name)
	}
	if len(args) < count[0] || len(args) > count[1] {
		return nil, fmt.Errorf("%s takes another number of values: write %s(`…`) || %s(`…`) for two", name, name, name)
	}
	if small == "path" || small == "pathprefix" {
		if !strings.HasPrefix(args[0], "/") {
			return nil, fmt.Errorf("the path in %s must begin with /", name)
		}
	}
	var expression *regexp.Regexp
	if small == "pathregexp" || small == "hostregexp" {
		var err error
		if expression, err = regexp.Compile(args[0]); err != nil {
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
	switch small {
	case "host":
		host := strings.TrimSuffix(strings.ToLower(args[0]), ".")
		return is(func(q request) bool { return strings.EqualFold(q.host, host) }), nil
	case "hostregexp":
		return is(func(q request) bool { return expression.MatchString(strings.ToLower(q.host)) }), nil
	case "path":
		return is(func(q request) bool { return q.path == args[0] }), nil
	case "pathprefix":
		return is(func(q request) bool { return strings.HasPrefix(q.path, args[0]) }), nil
	case "pathregexp":
		return is(func(q request) bool { return expression.MatchString(q.path) }), nil
	case "method":
		return is(func(q request) bool { return strings.EqualFold(q.method, args[0]) }), nil
	}
	return func(request) answer { return perhaps }, nil
}
