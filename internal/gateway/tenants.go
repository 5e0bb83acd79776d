// Package gateway puts the plugin's own code in front of MCP servers where there is no Traefik that
// loads it: as a reverse proxy of its own (gateway.go), and as the answer to another proxy that
// asks whether a request may pass (forwardauth.go). Who may pass is decided by package plugin and
// nobody else. Here is what Traefik does for it: which tenant a request is for, and which headers
// of a stranger count.
//
// Tenants come from a file (docs/gateway.md) that is read again when it changes.
package gateway

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/mcpbouncer/mcpbouncer/plugin"
)

// Use is what the tenants of a file are for.
type Use int

const (
	// Proxying is `mcpbouncer gateway`: each tenant has a backend.
	Proxying Use = iota
	// Answering is the sidecar that other proxies ask at /forward-auth/NAME. It sees no bodies, and
	// no answers of MCP servers.
	Answering
)

// Tenant is one entry of the tenants file: an MCP server under one public URL.
type Tenant struct {
	Name string
	// Labels are the plugin's, without the address of the sidecar.
	Labels *plugin.Config
	// Backend is where the MCP server is; nil where other proxies ask.
	Backend *url.URL
	// StripPrefix is whether the MCP server sees paths without that of the public URL.
	StripPrefix bool

	host   string // of the public URL, in small letters and without the default port
	scheme string
	prefix string   // path of the public URL, without a slash at its end
	own    []string // names of identity headers that a label has chosen, folded
}

const maxFile = 1 << 20 // bytes

// ReadFile reads a tenants file as it is.
func ReadFile(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("BOUNCER_TENANTS: %w", err)
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("BOUNCER_TENANTS: %w", err)
	}
	if len(content) > maxFile {
		return nil, fmt.Errorf("BOUNCER_TENANTS: %s is larger than %d bytes", file, maxFile)
	}
	return content, nil
}

// tenantName is what may stand in the path of /forward-auth/NAME.
var tenantName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`)

// ParseTenants checks the content of a tenants file. Its errors name file, line, tenant, label,
// cause and remedy, and never a secret. sidecar is the URL of the sidecar of this process.
func ParseTenants(file string, content []byte, sidecar string, use Use) ([]*Tenant, error) {
	nodes, err := readTenants(content)
	if err != nil {
		return nil, fmt.Errorf("BOUNCER_TENANTS: %s: %w", file, err)
	}
	if len(nodes) == 0 {
		return nil, fmt.Errorf("BOUNCER_TENANTS: %s holds no tenant: write at least one below the word tenants", file)
	}
	var all []*Tenant
	byURL := map[string]string{} // :: public URL → tenant
	for _, name := range slices.Sorted(maps.Keys(nodes)) {
		node := nodes[name]
		entries, err := tableOf(&node, "write its labels below its name, indented")
		if err != nil {
			return nil, fmt.Errorf("BOUNCER_TENANTS: %s: tenant %q: %w", file, name, err)
		}
		t, line, err := newTenant(name, entries, node.Line, sidecar, use)
		if err != nil {
			return nil, fmt.Errorf("BOUNCER_TENANTS: %s, line %d: tenant %q: %w", file, line, name, err)
		}
		public := t.host + t.prefix
		if other := byURL[public]; other != "" {
			return nil, fmt.Errorf("BOUNCER_TENANTS: %s, line %d: tenant %q: label publicURL: the tenant %q has it too: give each its own", file, line, name, other)
		}
		byURL[public] = name
		all = append(all, t)
	}
	return all, nil
}

// readTenants finds the table of each tenant.
func readTenants(content []byte) (map[string]yaml.Node, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	var document yaml.Node
	if err := decoder.Decode(&document); errors.Is(err, io.EOF) { // an empty file
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("%w: write it as docs/gateway.md shows, indented by spaces and not by tabs", err)
	}
	if err := decoder.Decode(new(any)); !errors.Is(err, io.EOF) { // would be passed over
		return nil, errors.New("it holds more than one document: write all tenants into the first")
	}
	top, err := tableOf(document.Content[0], "begin the file with the word tenants, and write the names of tenants below it")
	if err != nil {
		return nil, err
	}
	for _, word := range slices.Sorted(maps.Keys(top)) {
		if word != "tenants" { // would be passed over
			return nil, fmt.Errorf("line %d: what stands below %q means nothing: write all tenants below the word tenants", top[word].Line, word)
		}
	}
	tenants := top["tenants"]
	return tableOf(&tenants, "write the name of each tenant here, and its labels below that")
}

// tableOf is the table that stands at a node, and empty for nothing. remedy says what to write in
// place of anything else.
func tableOf(node *yaml.Node, remedy string) (map[string]yaml.Node, error) {
	table := node
	if table.Kind == yaml.AliasNode {
		table = table.Alias
	}
	if table.Kind != yaml.MappingNode && table.Kind != 0 && table.Tag != "!!null" {
		return nil, fmt.Errorf("line %d: %s", node.Line, remedy)
	}
	var entries map[string]yaml.Node
	err := table.Decode(&entries)
	if wrong, ok := errors.AsType[*yaml.TypeError](err); ok { // a key that is there twice
		err = errors.New(strings.Join(wrong.Errors, "; "))
	}
	return entries, err
}

// labelInError is the label that an error of the plugin names.
var labelInError = regexp.MustCompile(`labels? "?([A-Za-z]+)`)

// newTenant also returns the line of what its error is about, or of the public URL. first is the
// tenant's own.
func newTenant(name string, entries map[string]yaml.Node, first int, sidecar string, use Use) (*Tenant, int, error) {
	fail := func(label string, err error) (*Tenant, int, error) {
		if node, written := entries[label]; written {
			return nil, node.Line, err
		}
		return nil, first, err
	}
	if len(name) > 63 || !tenantName.MatchString(name) {
		return fail("", errors.New("give a name of at most 63 letters, digits and -._ that begins with a letter or digit"))
	}
	t := &Tenant{Name: name, Labels: plugin.CreateConfig()}
	for _, key := range slices.Sorted(maps.Keys(entries)) {
		node := entries[key]
		value, err := valueOf(&node)
		if err != nil {
			return fail(key, fmt.Errorf("label %s: %w", key, err))
		}
		if err := t.set(key, value, use); err != nil {
			return fail(key, err)
		}
	}
	t.Labels.SidecarURL = sidecar
	if err := plugin.Check(t.Labels); err != nil {
		label := ""
		if found := labelInError.FindStringSubmatch(err.Error()); found != nil {
			label = found[1]
		}
		return fail(label, err)
	}
	if use == Proxying && t.Backend == nil {
		return fail("", errors.New("backend: say where the MCP server is, for example http://wiki:8000"))
	}
	public, err := url.Parse(textOf(t.Labels.PublicURL))
	if err != nil || public.Host == "" {
		// Without it a client would choose the tenant by its Host header.
		return fail("", errors.New("label publicURL: say under which URL clients reach the MCP server, for example https://mcp.example.com/wiki"))
	}
	t.scheme = public.Scheme
	t.host = strings.TrimSuffix(strings.ToLower(public.Host), defaultPort(public.Scheme))
	t.prefix = strings.TrimRight(public.Path, "/")
	for _, asked := range strings.FieldsFunc(textOf(t.Labels.IdentityHeaders), func(r rune) bool { return r == ',' || r == ' ' }) {
		if _, header, named := strings.Cut(asked, "="); named {
			t.own = append(t.own, fold(header))
		}
	}
	return t, entries["publicURL"].Line, nil
}

// valueOf is a value as it is written, whatever YAML would make of it: 0123 and a number of twenty
// digits stay what they are.
func valueOf(node *yaml.Node) (any, error) {
	if node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	switch node.Kind {
	case yaml.ScalarNode:
		if node.Tag == "!!null" {
			return nil, nil
		}
		return node.Value, nil
	case yaml.SequenceNode:
		list := []any{}
		for _, element := range node.Content {
			if element.Kind == yaml.AliasNode {
				element = element.Alias
			}
			if element.Kind != yaml.ScalarNode || element.Tag == "!!null" {
				return nil, errors.New("give texts as the elements of the list")
			}
			list = append(list, element.Value)
		}
		return list, nil
	}
	return nil, errors.New("a table cannot stand here: give one text, or a list of texts")
}

// set takes one entry of a tenant. A key that is no label is left to the plugin, which refuses it.
func (t *Tenant) set(key string, value any, use Use) error {
	switch key {
	case "backend", "stripPrefix":
		if use == Answering {
			return fmt.Errorf("%s: it is for `mcpbouncer gateway`: the proxy that asks knows where the MCP server is: remove it", key)
		}
		if key == "backend" {
			return t.setBackend(textOf(value))
		}
		var err error
		if t.StripPrefix, err = strconv.ParseBool(textOf(value)); err != nil {
			return errors.New("stripPrefix: give true or false")
		}
		return nil
	case "sidecarURL", "sidecarAuth", "hopKeyFile":
		return fmt.Errorf("label %s: the sidecar is in this process: remove it", key)
	}
	if reason := cannot[key]; reason != "" && use == Answering && value != nil && !strings.EqualFold(textOf(value), "false") {
		return fmt.Errorf("label %s: a proxy that asks at /forward-auth %s: remove the label, or use `mcpbouncer gateway` or the plugin", key, reason)
	}
	fields := reflect.ValueOf(t.Labels).Elem()
	for i := range fields.NumField() {
		label := fields.Type().Field(i).Tag
		if label.Get("json") != key {
			continue
		}
		// A list whose last line was taken out is empty, and not left out: without allowedEmails
		// everybody would be let in.
		if value == nil && strings.HasPrefix(label.Get("form"), "list ") {
			value = []any{}
		}
		if value != nil {
			fields.Field(i).Set(reflect.ValueOf(value))
		}
		return nil
	}
	if t.Labels.Extra == nil {
		t.Labels.Extra = map[string]any{}
	}
	t.Labels.Extra[key] = value
	return nil
}

const (
	showsNoBody   = "does not show the message"
	showsNoAnswer = "does not show the answer of the MCP server"
)

// cannot says why a label means nothing where a proxy asks: it tells method, URI and headers of a
// request, and nothing else. A rule that would be passed over is refused.
var cannot = map[string]string{
	"methodScopes": showsNoBody, "toolScopes": showsNoBody, "resourceScopes": showsNoBody, "promptScopes": showsNoBody,
	"hideTools": showsNoAnswer, "auditCalls": showsNoBody,
	"cors":      showsNoAnswer,
	"wellKnown": showsNoAnswer + ", which must be made harmless for browsers",
	// Whoever reaches /forward-auth reads what is said there.
	"upstreamToken":        "would be told the provider's token, and so would whoever else asks there with a client's token",
	"backendAuthorization": "would be told the secret, and so would whoever else asks there: let the proxy add the header itself",
}

// setBackend takes http and https URLs with a host, and without what a request brings itself.
func (t *Tenant) setBackend(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return errors.New("backend: give an http(s) URL without user, query and fragment, for example http://wiki:8000")
	}
	t.Backend = u
	return nil
}

// textOf is a value as one text: lists have commas, which every list of labels that is looked at
// here takes.
func textOf(value any) string {
	switch v := value.(type) {
	case string:
		return v
	case []any:
		texts := []string{}
		for _, element := range v {
			texts = append(texts, fmt.Sprint(element))
		}
		return strings.Join(texts, ",")
	}
	return ""
}

func defaultPort(scheme string) string {
	return cmp.Or(map[string]string{"https": ":443"}[scheme], ":80")
}
