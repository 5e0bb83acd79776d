package lint

import (
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/mcpbouncer/mcpbouncer/internal/report"
	"github.com/mcpbouncer/mcpbouncer/issuer/lazyregexp"
	"github.com/mcpbouncer/mcpbouncer/plugin"
)

// label is a field of plugin.Config.
type label struct {
	name, form string
	field      int
}

// labels are the plugin's, by their names in small letters.
var labels = func() map[string]label {
	all := map[string]label{}
	t := reflect.TypeFor[plugin.Config]()
	for i := range t.NumField() {
		if name := t.Field(i).Tag.Get("json"); name != "-" {
			all[strings.ToLower(name)] = label{name, t.Field(i).Tag.Get("form"), i}
		}
	}
	return all
}()

func labelNames() []string {
	names := []string{}
	for _, key := range sortedKeys(labels) {
		names = append(names, labels[key].name)
	}
	return names
}

func (c *checker) pluginName(m *middleware) {
	name, isPlugin := strings.CutPrefix(m.kind, "plugin.")
	right := "mcpbouncer"
	names, modules := c.pluginNames()
	if len(names) > 0 {
		right = names[0]
	}
	if _, loaded := modules[strings.ToLower(name)]; loaded || !isPlugin || strings.EqualFold(name, right) || nearest(name, []string{right}) == "" {
		return
	}
	at := m.place
	if m.plugin.file != "" {
		at = m.plugin
	}
	c.found(at, finding{check: "plugin", expected: "plugin." + right, seen: "plugin." + name, fault: report.Label, breaks: []string{report.EveryClient},
		remedy: write(c.corrected(at, name, right), "write "+right+" in each label of "+m.title()), page: "docs/labels.md"})
}

// stand are values for labels that must be set, in place of those that variables hide.
var stand = map[string]any{"resource": "unset", "providerissuer": "https://unset.invalid", "clientid": "unset", "clientsecret": "env:UNSET_CLIENT_SECRET", "sidecarurl": "http://unset.invalid"}

// labelsOf asks the plugin's parser. It tells its first error only, so the label of that error is
// taken out, and the parser is asked again.
func (c *checker) labelsOf(t *tenant) {
	set := map[string]any{}
	for _, key := range sortedKeys(t.options) {
		v := t.options[key]
		name, _, _ := strings.Cut(strings.SplitN(key, ".", 2)[0], "[")
		if _, known := labels[name]; !known {
			spelt := t.spelt[key]
			near := nearest(spelt, labelNames())
			remedy := "remove it or correct its spelling"
			if near != "" {
				remedy = write(c.corrected(v.place, spelt, near), "write "+near)
			}
			c.found(v.place, finding{check: "labels", expected: "labels that exist", seen: "unknown label " + spelt + ": the route answers 503",
				fault: report.Label, breaks: []string{report.EveryClient}, remedy: remedy, page: "docs/configuration.md"})
			continue
		}
		switch {
		case key != name: // of an indexed label only the plugin sees the whole
		case !v.unknown:
			set[name] = v.typed
		case stand[name] != nil:
			set[name] = stand[name]
		}
	}
	said, elsewhere := map[string]bool{}, []string{}
	defer func() { c.elsewhere(t, elsewhere) }()
	for range 2 * len(labels) {
		err := plugin.Check(configOf(set))
		if err == nil {
			return
		}
		name := culprit(err.Error())
		if said[err.Error()] { // what stands in for the label is refused as well
			if set[name] == nil {
				return
			}
			delete(set, name)
			continue
		}
		said[err.Error()] = true
		v, seen := t.options[name]
		if !seen {
			v.place = t.place
		}
		remedy := "correct the label in the way that is said here"
		if line := c.otherSeparator(set, name, v); line != "" {
			remedy = "write " + line
		} else if !seen {
			remedy = "add the label"
		}
		if !seen && t.partial() {
			elsewhere = append(elsewhere, labels[name].name)
		} else {
			c.found(v.place, finding{check: "labels", expected: "labels that the plugin takes", seen: err.Error() + ": the route answers 503", fault: report.Label,
				breaks: []string{report.EveryClient}, remedy: remedy, page: "docs/labels.md"})
		}
		switch {
		case name == "" || set[name] == nil && seen:
			return // the parser would say the same again
		case stand[name] != nil:
			if reflect.DeepEqual(set[name], stand[name]) {
				return
			}
			set[name] = stand[name]
		case seen:
			delete(set, name)
		default:
			return
		}
	}
}

func configOf(set map[string]any) *plugin.Config {
	config := plugin.CreateConfig()
	fields := reflect.ValueOf(config).Elem()
	for name, v := range set {
		if v != nil {
			fields.Field(labels[name].field).Set(reflect.ValueOf(v))
		}
	}
	return config
}

var labelInError = lazyregexp.Regexp{Text: `(?:label|labels) ([A-Za-z]+)`}

// culprit is the label that an error of the plugin names first, in small letters.
func culprit(text string) string {
	for _, found := range labelInError.Get().FindAllStringSubmatch(text, -1) {
		if _, known := labels[strings.ToLower(found[1])]; known {
			return strings.ToLower(found[1])
		}
	}
	return ""
}

// separators are what a list's form names, as one writes it.
var separators = map[string]string{"list by spaces": " ", "list by commas or spaces": ", ", "list by commas": ", ", "list by semicolons": "; ", "list by semicolons or &": "; "}

var otherSeparators = lazyregexp.Regexp{Text: `\s*[,;]\s*`}

// otherSeparator is the corrected line, if the right separator is all that the list needs.
func (c *checker) otherSeparator(set map[string]any, name string, v value) string {
	text, isText := v.typed.(string)
	separator := separators[labels[name].form]
	if !isText || separator == "" {
		return ""
	}
	right := otherSeparators.Get().ReplaceAllString(text, separator)
	if right == text {
		return ""
	}
	was := set[name]
	set[name] = right
	err := plugin.Check(configOf(set))
	set[name] = was
	if err != nil && culprit(err.Error()) == name {
		return ""
	}
	return c.corrected(v.place, text, right)
}

// open are providers where anybody can make an account.
var open = []string{"accounts.google.com", "gitlab.com", "login.microsoftonline.com", "appleid.apple.com", "www.linkedin.com", "github.com"}

// access looks for a tenant that admits whoever can log in at its provider.
func (c *checker) access(t *tenant) {
	for _, rule := range []string{"allowedEmails", "allowedDomains", "allowedGroups", "allowedSubjects"} {
		if v := t.option(rule); v.text != "" || v.unknown || v.typed != nil && v.typed != "" {
			return
		}
	}
	if t.option("requiredScopes").text != "" && t.option("scopeRules").text != "" {
		return
	}
	issuer := t.option("providerIssuer")
	at, err := url.Parse(issuer.text)
	where := issuer.text
	if issuer.unknown {
		where = "the provider, which a variable names,"
	}
	if where == "" {
		where = "the provider"
	}
	f := finding{check: "access", expected: "a rule", seen: "no rule: everybody who can log in at " + where + " may come in", fault: report.Label, note: true,
		remedy: "set allowedEmails, allowedDomains, allowedGroups or allowedSubjects, unless that is meant", page: "docs/access.md"}
	if err == nil && !issuer.unknown {
		for _, host := range open {
			// A tenant of Microsoft's has its id in the path; these three take all accounts.
			everybody := host != "login.microsoftonline.com" || regexp.MustCompile(`^/(common|consumers|organizations)\b`).MatchString(at.Path)
			if strings.EqualFold(at.Hostname(), host) && everybody {
				f.seen, f.note = "no rule, and anybody can have an account at "+host+": EVERYBODY may come in", t.partial()
				f.remedy = "write " + t.written("allowedEmails", `"you@example.com"`) + " beside it, or another access rule"
			}
		}
	}
	for _, parameter := range []string{"hd", "domain_hint"} {
		if strings.Contains("; "+t.option("providerParameters").text, "; "+parameter+"=") {
			f.seen += " (" + parameter + " in providerParameters only asks: a person can take it out of the address)"
		}
	}
	c.found(issuer.place, f)
}

func (c *checker) secret(t *tenant) {
	v := t.option("clientSecret")
	if v.text == "" || v.unknown || strings.HasPrefix(v.text, "mbs1_") {
		return
	}
	name, fromEnv := strings.CutPrefix(v.text, "env:")
	if !fromEnv {
		// The secret is not shown: what lint prints ends in logs of CI.
		c.found(v.place, finding{check: "secret", expected: "env:NAME or a sealed secret", seen: "the client secret in clear, which Traefik's dashboard shows", fault: report.Label,
			remedy: "write " + t.written("clientSecret", `"env:`+strings.ToUpper(regexp.MustCompile(`\W`).ReplaceAllString(t.name, "_"))+`_CLIENT_SECRET"`) + `, set that variable of the sidecar, and make a new secret at the provider`, page: "docs/secrets.md"})
		return
	}
	s := c.sidecarOf(t)
	if s == nil || s.envFile {
		return
	}
	if set, ok := s.env[name]; !ok || set.text == "" && !set.unknown {
		c.found(s.place, finding{check: "secret", expected: "the variable " + name + " in the environment of " + s.name, seen: "it is not there, so that the provider refuses each login", fault: report.Sidecar,
			breaks: []string{report.EveryClient}, remedy: "add to its environment " + s.variable(name, "${"+name+":?}"), page: "docs/secrets.md"})
	}
}

// consent looks for what makes the label rememberConsent vain (docs/pages.md).
func (c *checker) consent(t *tenant) {
	v := t.option("rememberConsent")
	if life, err := time.ParseDuration(v.text); err != nil || life <= 0 || v.unknown {
		return
	}
	vain := func(seen, remedy string) {
		c.found(v.place, finding{check: "consent", expected: "a label with an effect", seen: seen + ": consent is asked at each login", fault: report.Label,
			remedy: remedy + ", or delete rememberConsent", page: "docs/pages.md"})
	}
	exchange := t.option("exchange")
	if exchange.text == "token" {
		vain("with exchange=token nobody knows in the browser who logs in", "delete exchange")
	}
	if t.option("registration").text == "created" {
		vain("registration=created lets no application with a metadata document in", "delete registration")
	}
	s := c.sidecarOf(t)
	if s == nil || s.envFile {
		return
	}
	if guard := s.env["BOUNCER_REPLAY_GUARD"]; guard.text == "none" && exchange.text != "token" && exchange.text != "callback" && !exchange.unknown {
		vain("the sidecar has no replay guard (BOUNCER_REPLAY_GUARD=none)", "give it one")
	}
	if documents := s.env["BOUNCER_METADATA_DOCUMENTS"]; documents.text == "false" {
		vain("the sidecar reads no metadata documents (BOUNCER_METADATA_DOCUMENTS=false)", "let it read them")
	}
}

// gitHub looks for what is usual at OpenID providers and is nothing at GitHub: it is no fault of
// form, so that the plugin takes it, and nobody is let in by it (docs/recipes.md).
func (c *checker) gitHub(t *tenant) {
	if t.option("providerType").text != "github" && strings.TrimSuffix(t.option("providerIssuer").text, "/") != "https://github.com" {
		return
	}
	nothing := func(v value, seen, remedy string) {
		c.found(v.place, finding{check: "github", expected: "what GitHub knows", seen: seen, fault: report.Label, remedy: remedy, page: "docs/recipes.md"})
	}
	elements := func(v value, separators string) []string {
		if v.unknown {
			return nil
		}
		return strings.FieldsFunc(v.text, func(r rune) bool { return strings.ContainsRune(separators, r) })
	}
	scopes := t.option("scopes")
	for _, scope := range elements(scopes, " ") {
		if v := strings.TrimSpace(scopes.text); v != "openid" && slices.Contains([]string{"openid", "email", "profile", "offline_access"}, scope) {
			nothing(scopes, "the scope "+scope+" is OpenID's, and what the other labels need is not asked for beside it", "delete scopes: GitHub is asked for what the other labels need")
			break
		}
	}
	subjects := t.option("allowedSubjects")
	for _, subject := range elements(subjects, ", ") {
		if strings.Trim(subject, "0123456789") != "" && t.option("enterpriseIssuers").text == "" {
			nothing(subjects, subject+" is a name, and people of GitHub are their number", "write the number that https://api.github.com/users/"+url.PathEscape(subject)+" calls id")
		}
	}
	groups := t.option("allowedGroups")
	for _, group := range elements(groups, ",") {
		if group = strings.TrimSpace(group); strings.ContainsAny(group, ":@ ") || strings.Count(group, "/") > 1 {
			nothing(groups, group+" is neither an organisation nor a team", "write an organisation as acme, and a team as acme/wiki")
		}
	}
	if upstream := t.option("upstreamToken"); strings.Contains(upstream.text, "exchange") && !upstream.unknown {
		nothing(upstream, "GitHub exchanges no token (RFC 8693)", "take exchange= out: the MCP server gets GitHub's token as it is")
	}
}

// ids looks for an id that may become another person's (docs/providers.md): who gets a name or an
// address after somebody else would get their access too.
func (c *checker) ids(t *tenant) {
	v := t.option("claimNames")
	if v.unknown {
		return
	}
	for _, entry := range strings.FieldsFunc(v.text, func(r rune) bool { return r == ',' || r == ' ' }) {
		claim, isID := strings.CutPrefix(entry, "sub=")
		last := strings.ToLower(claim[strings.LastIndex(claim, ".")+1:])
		if isID && slices.Contains([]string{"name", "username", "user_name", "preferred_username", "login", "nick", "nickname", "email", "mail"}, last) {
			c.found(v.place, finding{check: "ids", expected: "an id that is never given to another person", seen: claim + " is a name or an address, which somebody else may have later, with the access of who had it before",
				fault: report.Label, remedy: "write sub=CLAIM with the claim that is an id there, as sub=id", page: "docs/providers.md"})
		}
	}
}

// sidecarOf is the service of the file that sidecarURL names.
func (c *checker) sidecarOf(t *tenant) *service {
	v := t.option("sidecarURL")
	u, err := url.Parse(v.text)
	if err != nil || v.unknown {
		return nil
	}
	for _, s := range c.services {
		if s.called(u.Hostname()) {
			return s
		}
	}
	return nil
}

// traefik is the service of the file that has Traefik's hop key, or is called so.
func (c *checker) traefik() *service {
	for _, s := range c.services {
		if s.called("traefik") {
			return s
		}
	}
	for _, s := range c.services {
		if _, ok := s.env["BOUNCER_HOP_KEY"]; ok {
			return s
		}
	}
	for _, s := range c.services {
		if s.isTraefik() {
			return s
		}
	}
	return nil
}
