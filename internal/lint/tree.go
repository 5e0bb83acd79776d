package lint

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/mcpbouncer/mcpbouncer/issuer/lazyregexp"
)

// Bounds against a file that means no good. A file of Traefik or Compose is far below each.
const (
	maxFile  = 1 << 20 // bytes
	maxNodes = 100_000 // of all files together, aliases followed
	maxTexts = 8 << 20 // bytes, the same, variables replaced
	maxDepth = 100
)

// place is where something stands.
type place struct {
	file string
	line int
}

// value is one text of a file.
type value struct {
	text string
	// typed is what Traefik's decoder hands on: text, or a list.
	typed any
	// unknown says that the text holds a variable that is not set here, so that nothing is said of
	// its content.
	unknown bool
	place
}

// tree is a YAML document with its merges done and its aliases followed: a mapping, a list or a
// text.
type tree struct {
	keys  []string
	at    map[string]*tree
	items []*tree
	value
	// number says that YAML reads the text as a number, so that its digits may change.
	number bool
	plain  bool  // written without quotes
	keyed  place // of the key
}

// get is what stands at a path.
//
//go:noinline
func (t *tree) get(path ...string) *tree {
	for _, key := range path {
		if t == nil {
			return nil
		}
		t = t.at[key]
	}
	return t
}

// in is what stands at a path of names with dots between them.
func (t *tree) in(path string) *tree { return t.get(strings.Split(path, ".")...) }

// str is its text; empty where there is none.
//
//go:noinline
func (t *tree) str(path string) string {
	if t = t.in(path); t == nil {
		return ""
	}
	return t.text
}

// list are its elements.
//
//go:noinline
func (t *tree) list(path string) []*tree {
	if t = t.in(path); t == nil {
		return nil
	}
	return t.items
}

//go:noinline
func (t *tree) has(key string) bool { return t != nil && t.at[key] != nil }

// texts are the elements of a list, or the text itself.
func (t *tree) texts() []value {
	if t == nil {
		return nil
	}
	if t.items == nil {
		if t.text == "" {
			return nil
		}
		return []value{t.value}
	}
	list := []value{}
	for _, item := range t.items {
		list = append(list, item.value)
	}
	return list
}

// reader makes trees. It counts nodes and texts over all files: an alias costs as much as what it
// stands for, so that aliases of aliases, or of one long text with variables, end the reading and
// not the memory.
type reader struct {
	nodes   int
	texts   int // bytes
	file    string
	replace func(string) (string, bool) // of Compose's variables; nil: the text as it is
}

func (r *reader) read(n *yaml.Node, depth int) (*tree, error) {
	if r.nodes++; r.nodes > maxNodes {
		return nil, fmt.Errorf("line %d: with its aliases, the files hold more than %d values", n.Line, maxNodes)
	}
	if depth > maxDepth {
		return nil, fmt.Errorf("line %d: it is nested more than %d deep", n.Line, maxDepth)
	}
	t := &tree{}
	t.file, t.line = r.file, n.Line
	switch n.Kind {
	case yaml.DocumentNode:
		if len(n.Content) == 1 {
			return r.read(n.Content[0], depth)
		}
	case yaml.AliasNode:
		return r.read(n.Alias, depth+1)
	case yaml.ScalarNode:
		if n.Tag != "!!null" {
			t.text = n.Value
		}
		t.plain = n.Style == 0
		t.number = t.plain && (n.Tag == "!!int" || n.Tag == "!!float")
		if r.replace != nil {
			t.text, t.unknown = r.replace(t.text)
		}
		t.typed = t.text
		if r.texts += len(n.Value) + len(t.text); r.texts > maxTexts {
			return nil, fmt.Errorf("line %d: with its aliases and variables, the files hold more than %d bytes", n.Line, maxTexts)
		}
	case yaml.SequenceNode:
		t.items = []*tree{}
		list := []any{}
		for _, c := range n.Content {
			item, err := r.read(c, depth+1)
			if err != nil {
				return nil, err
			}
			t.unknown = t.unknown || item.unknown
			t.items, list = append(t.items, item), append(list, item.typed)
		}
		t.typed = list
	case yaml.MappingNode:
		return t, r.mapping(t, n, depth)
	}
	return t, nil
}

func (r *reader) mapping(t *tree, n *yaml.Node, depth int) error {
	t.at = map[string]*tree{}
	merged := []*tree{}
	typed := map[string]any{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		child, err := r.read(n.Content[i+1], depth+1)
		if err != nil {
			return err
		}
		if key.Tag == "!!merge" {
			if merged = append(merged, child); child.items != nil {
				merged = append(merged[:len(merged)-1], child.items...)
			}
			continue
		}
		if t.at[key.Value] != nil {
			return fmt.Errorf("line %d: %q stands there twice", key.Line, key.Value)
		}
		child.keyed = place{r.file, key.Line}
		t.keys = append(t.keys, key.Value)
		t.at[key.Value], typed[key.Value] = child, child.typed
	}
	for _, m := range merged {
		for _, key := range m.keys {
			if t.at[key] == nil {
				t.keys = append(t.keys, key)
				t.at[key], typed[key] = m.at[key], m.at[key].typed
			}
		}
	}
	t.typed = typed
	return nil
}

var variable = lazyregexp.Regexp{Text: `\$(\$|\{([A-Za-z_][A-Za-z0-9_]*)(?:(:?[-?+])([^}]*))?\}|([A-Za-z_][A-Za-z0-9_]*))`}

// interpolate replaces variables as Compose does, until what they stand for is longer than a file
// may be. unknown: one of them is set neither here nor by its default.
func interpolate(text string, env map[string]string) (out string, unknown bool) {
	left := maxFile
	out = variable.Get().ReplaceAllStringFunc(text, func(found string) string {
		part := variable.Get().FindStringSubmatch(found)
		if part[1] == "$" {
			return "$"
		}
		name, operator, word := part[2]+part[5], part[3], part[4]
		set, ok := env[name]
		if strings.HasPrefix(operator, ":") {
			ok = ok && set != ""
		}
		switch {
		case strings.HasSuffix(operator, "+"):
			if ok {
				return word
			}
			return ""
		case ok && len(set) <= left:
			left -= len(set)
			return set
		case !ok && strings.HasSuffix(operator, "-"):
			return word
		}
		unknown = true
		return "unset"
	})
	return out, unknown
}

// parseEnv reads a file .env: NAME=VALUE, with or without quotes.
func parseEnv(text string) map[string]string {
	env := map[string]string{}
	for _, line := range strings.Split(text, "\n") {
		name, set, ok := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "export "), "=")
		if !ok || strings.HasPrefix(name, "#") {
			continue
		}
		set = strings.TrimSpace(set)
		if len(set) >= 2 && (set[0] == '"' || set[0] == '\'') && set[len(set)-1] == set[0] {
			set = set[1 : len(set)-1]
		} else if i := strings.Index(set, " #"); i >= 0 {
			set = strings.TrimSpace(set[:i])
		}
		env[strings.TrimSpace(name)] = set
	}
	return env
}
