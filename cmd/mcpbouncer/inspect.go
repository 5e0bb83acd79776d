//go:build !onlyserve

package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/mcpbouncer/mcpbouncer/issuer"
	"github.com/mcpbouncer/mcpbouncer/issuer/lazyregexp"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

const aboutInspect = `Explains an access token, a sealed value (mb…), a hop header, or a deny document (its text, or the
name of its file). Without VALUE, or with -, the value is read from standard input, where no shell
history keeps it. The master secret in BOUNCER_ENCRYPTION_KEY or BOUNCER_ENCRYPTION_KEY_FILE opens
sealed values and checks signatures, for the server of these labels. Status 0: nothing was found
that refuses it; 1: it is refused; 2: it could not be explained.
`

const (
	exitRefused     = 1
	exitUnexplained = 2
)

// inspection is what was asked for.
type inspection struct {
	*tenantFlags
	beside   issuer.Beside
	required string
	asJSON   bool

	config *issuer.Config // Ring is nil without a master secret
	hopKey string
	now    time.Time
}

// explanation is what is said of a value.
type explanation struct {
	What    string `json:"what"`
	Verdict string `json:"verdict"`
	// Refused is why, the first in the words that the client gets.
	Refused []string `json:"refused,omitempty"`
	// Unchecked is what may refuse it all the same.
	Unchecked []string `json:"not_checked,omitempty"`
	// Until is when it is over.
	Until time.Time     `json:"good_until,omitzero"`
	Facts []issuer.Fact `json:"facts"`
	// Why it could not be explained.
	Why []string `json:"unexplained,omitempty"`
}

const (
	good        = "good"
	refused     = "refused"
	unexplained = "unexplained"
)

// maxInspected is the length of the longest input: a deny document has at most 1 MiB.
const maxInspected = 1<<20 + 1

func runInspect(args []string, in io.Reader, out io.Writer, now time.Time) error {
	i := &inspection{tenantFlags: newTenantFlags("inspect"), now: now}
	words, help, err := i.flags(args, out)
	if help || err != nil {
		return unexplainedBy(err)
	}
	if err := i.environment(); err != nil {
		return unexplainedBy(err)
	}
	value, err := i.input(words, in)
	if err != nil {
		return unexplainedBy(err)
	}
	r := i.explain(value)
	r.finish()
	if err := r.write(out, i.asJSON, now); err != nil {
		return unexplainedBy(err)
	}
	switch r.Verdict {
	case refused:
		return &exit{status: exitRefused}
	case unexplained:
		return &exit{status: exitUnexplained}
	}
	return nil
}

func unexplainedBy(err error) error {
	if err == nil {
		return nil
	}
	return &exit{exitUnexplained, "inspect: " + withoutSecrets(err.Error())}
}

// flags takes flags before and behind the value.
func (i *inspection) flags(args []string, out io.Writer) (words []string, help bool, err error) {
	i.StringVar(&i.beside.ClientID, "client", "", "`client_id` that a code or refresh token was given to")
	i.StringVar(&i.beside.Consent, "cookie", "", "`value` of the browser's cookie mcpb-consent-…, for a consent value")
	i.StringVar(&i.beside.State, "state", "", "`state` of the request to the provider, for a login in progress")
	i.StringVar(&i.required, "required-scopes", "", "the `label` requiredScopes, separated by blanks")
	var private list
	i.Var(&private, "private-redirect-uri", "one of the `label` privateRedirectURIs; repeat for several")
	i.BoolVar(&i.asJSON, "json", false, "write JSON, for programs")
	for len(args) > 0 {
		if err := i.Parse(args); errors.Is(err, flag.ErrHelp) {
			fmt.Fprintf(out, "usage: mcpbouncer inspect [FLAGS] [VALUE | FILE | -]\n\n%s\n", aboutInspect)
			i.SetOutput(out)
			i.PrintDefaults()
			return nil, true, nil
		} else if err != nil {
			return nil, false, err
		}
		if args = i.Args(); len(args) > 0 {
			words, args = append(words, args[0]), args[1:]
		}
	}
	i.beside.PrivateRedirectURIs = private
	i.tenant.PublicURL = strings.TrimRight(i.tenant.PublicURL, "/")
	i.tenant.Audience = cmp.Or(i.tenant.Audience, i.tenant.Resource)
	// the cookie of an answered page has the answer behind the id
	i.beside.Consent, _, _ = strings.Cut(i.beside.Consent, ".")
	return words, false, nil
}

// environment reads the variables. Neither the master secret nor the hop key must be there.
func (i *inspection) environment() error {
	e, err := readEnvironment()
	if err != nil {
		return err
	}
	if e.EncryptionKey != "" || e.EncryptionKeyFile != "" {
		if e, err = loadEnvironment(); err != nil {
			return err
		}
	}
	config := e.issuerConfig(nil)
	config.RefreshIdleTTL = cmp.Or(time.Duration(e.RefreshIdleTTL), config.RefreshTokenTTL)
	i.config = &config
	i.hopKey, err = e.secretVariable("BOUNCER_HOP_KEY")
	i.hopKey = strings.TrimPrefix(i.hopKey, "BOUNCER_HOP_KEY=")
	return err
}

// input is the value: from the command line, a file or standard input.
func (i *inspection) input(words []string, in io.Reader) (string, error) {
	if len(words) > 1 {
		return "", fmt.Errorf("%d values given: give one at a time", len(words))
	}
	text := ""
	if len(words) == 1 && words[0] != "-" {
		text = words[0]
		if f, err := os.Open(text); err == nil && !looksLikeValue(text) {
			defer f.Close()
			in = f
		} else {
			in = strings.NewReader(text)
		}
	}
	content, err := io.ReadAll(io.LimitReader(in, maxInspected))
	if err != nil {
		return "", err
	}
	text = strings.TrimSpace(strings.TrimPrefix(string(content), "\ufeff"))
	switch {
	case len(content) >= maxInspected:
		return "", fmt.Errorf("the input has more than %d bytes: nothing that is explained here is so long", maxInspected-1)
	case text == "":
		return "", errors.New("nothing to explain: give the value on standard input or as an argument")
	case isDocument(text):
		// lines are counted from the beginning
		return strings.TrimSuffix(string(content), "\n"), nil
	}
	text = bare(text)
	if lines := strings.Count(text, "\n") + 1; lines > 1 {
		return "", fmt.Errorf("%d lines given: give one value at a time; if this is one that was wrapped, join its lines", lines)
	}
	return text, nil
}

var headerNames = lazyregexp.Regexp{Text: `(?i)^(authorization:\s*|x-mcpb-hop:\s*|x-mcpb-reason:\s*|bearer\s+|dpop\s+|(__host-)?mcpb-(flow|remembered)-[A-Za-z0-9_-]+=)`}

// bare takes off what is copied along with a value: a header's or cookie's name, the scheme,
// quotes.
func bare(text string) string {
	for {
		before := text
		text = strings.TrimSpace(strings.Trim(headerNames.Get().ReplaceAllString(text, ""), `"'`))
		if text == before {
			return text
		}
	}
}

var (
	valueForm  = lazyregexp.Regexp{Text: `^mb[a-z][0-9]_`}
	secretForm = lazyregexp.Regexp{Text: `mb[a-z][0-9]_[A-Za-z0-9_-]{8,}|eyJ[A-Za-z0-9_-]{8,}(\.[A-Za-z0-9_-]*){0,4}`}
)

func isDocument(text string) bool {
	return strings.HasPrefix(text, "{") || strings.HasPrefix(text, "[")
}

func looksLikeValue(text string) bool {
	text = bare(text)
	return valueForm.Get().MatchString(text) || isDocument(text) || strings.Count(text, ".") >= 2 && strings.HasPrefix(text, "ey")
}

// explain finds out what a value is by what it looks like. What it is is decided when it opens.
func (i *inspection) explain(value string) *explanation {
	switch {
	case strings.HasPrefix(strings.TrimSpace(value), "{") || strings.HasPrefix(strings.TrimSpace(value), "["):
		return i.denyDocument(value)
	case strings.HasPrefix(value, "mbh1_"):
		return i.hopHeader(value)
	case strings.HasPrefix(value, "mbe1_"):
		return &explanation{What: "reason of a refusal (X-Mcpb-Reason)", Verdict: unexplained, Why: []string{"only the plugin that sent the hop header can read it: Traefik's log says it in words"}}
	case valueForm.Get().MatchString(value):
		return i.sealedValue(value)
	case strings.Count(value, ".") == 4:
		return &explanation{What: "encrypted token (JWE)", Verdict: unexplained, Why: []string{"this is not a token of MCPBouncer: its access tokens are signed and have three parts"}}
	case strings.Contains(value, "."):
		if r := i.accessToken(value); r != nil {
			return r
		}
	}
	return &explanation{What: "unknown", Verdict: unexplained, Why: []string{guess(value)}}
}

var plainID = lazyregexp.Regexp{Text: `^[A-Za-z0-9_-]+$`}

// guess helps with what has no mark of its own.
func guess(value string) string {
	switch {
	case strings.HasPrefix(value, "https://"):
		return "this is a URL. As a client_id it is that of a client metadata document, which a browser shows"
	case plainID.Get().MatchString(value) && len(value) == 16:
		return "16 characters: a fingerprint of a client_id, a pseudonym or a kid. None can be opened; look for it in the sidecar's log"
	case plainID.Get().MatchString(value) && len(value) == 22:
		return `22 characters: perhaps the id of a login or of a bearer key. It cannot be opened; look for it in the sidecar's log as "family"`
	case plainID.Get().MatchString(value) && len(value) == 43:
		return "43 characters: perhaps a client_secret or a code_verifier. Neither can be opened"
	}
	return fmt.Sprintf("%d bytes that are neither an access token, nor a sealed value (mb…), a hop header, a deny document or the name of a file. A value that was cut at its beginning looks like this", len(value))
}

// finish sets the verdict of what was explained.
func (r *explanation) finish() {
	if r.Verdict == "" {
		r.Verdict = good
	}
	if r.Verdict == good && len(r.Refused) > 0 {
		r.Verdict = refused
	}
	if r.Facts == nil {
		r.Facts = []issuer.Fact{}
	}
	for n, f := range r.Facts {
		r.Facts[n] = issuer.Fact{Name: withoutSecrets(f.Name), Value: withoutSecrets(f.Value), At: f.At.UTC(), Meaning: withoutSecrets(f.Meaning)}
	}
	if r.Until = r.Until.UTC(); r.Until.Year() > 9999 { // JSON has no such time
		r.Until = time.Time{}
	}
	for _, lines := range [][]string{r.Refused, r.Unchecked, r.Why} {
		for l := range lines {
			lines[l] = withoutSecrets(lines[l])
		}
	}
}

// withoutSecrets cuts down whatever looks like a token or a sealed value, wherever it stands: a
// client's name, a claim or a list of the operator may hold one by mistake.
func withoutSecrets(text string) string {
	return secretForm.Get().ReplaceAllStringFunc(text, func(secret string) string {
		return fmt.Sprintf("%s… (%d characters)", secret[:4], len(secret))
	})
}

func (r *explanation) write(out io.Writer, asJSON bool, now time.Time) error {
	if asJSON {
		return writeIndented(out, r)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", r.What)
	width := 0
	for _, f := range r.Facts {
		width = max(width, len(shown(f.Name)))
	}
	for _, f := range r.Facts {
		value := shown(f.Value)
		if !f.At.IsZero() {
			value = dated(f.At, now)
		}
		line := fmt.Sprintf("  %-*s  %s", width, shown(f.Name), value)
		if f.Meaning != "" {
			line += "  - " + shown(f.Meaning)
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	for _, why := range r.Refused {
		fmt.Fprintf(&b, "refused: %s\n", shown(why))
	}
	for _, why := range r.Why {
		fmt.Fprintf(&b, "unexplained: %s\n", shown(why))
	}
	if r.Verdict == good && r.Until.IsZero() {
		b.WriteString("nothing was found that refuses it\n")
	} else if r.Verdict == good {
		fmt.Fprintf(&b, "nothing was found that refuses it until %s\n", dated(r.Until, now))
	}
	for _, what := range r.Unchecked {
		fmt.Fprintf(&b, "not checked: %s\n", shown(what))
	}
	_, err := io.WriteString(out, b.String())
	return err
}

const maxShown = 400 // characters of one value

// shown writes a text for a terminal: strangers have written some of them.
func shown(text string) string {
	if runes := []rune(text); len(runes) > maxShown {
		text = string(runes[:maxShown]) + fmt.Sprintf("… (%d characters)", len(runes))
	}
	if strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }) {
		return strconv.QuoteToGraphic(text)
	}
	return text
}

func dated(at, now time.Time) string {
	return at.UTC().Format(time.RFC3339) + " (" + relative(at, now) + ")"
}

// relative is a time as people say it: "in 12m", "3h ago".
func relative(at, now time.Time) string {
	d := at.Sub(now)
	if d < 0 {
		return lasting(-d) + " ago"
	}
	return "in " + lasting(d)
}

func lasting(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return fmt.Sprintf("%dd", d/(24*time.Hour))
}

// missing are those of the tenant's flags, and of more, that have no value.
func (i *inspection) missing(names ...string) (flags []string) {
	for _, name := range names {
		if i.Lookup(name).Value.String() == "" {
			flags = append(flags, "--"+name)
		}
	}
	return flags
}

var tenantNames = []string{"public-url", "resource", "provider-issuer", "provider-client-id"}

// id is that of the tenant that the flags name; known says whether they name one.
func (i *inspection) id() (id sealing.TenantID, missing []string, err error) {
	if missing = i.missing(tenantNames...); len(missing) > 0 {
		return sealing.TenantID{}, missing, nil
	}
	id, err = i.tenantFlags.id()
	i.beside.Tenant = i.tenant
	i.beside.Tenant.Generation = uint32(i.generation)
	return id, nil, err
}

func (i *inspection) denyDocument(text string) *explanation {
	return explainDeny(text, i.now)
}
