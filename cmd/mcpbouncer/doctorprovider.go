//go:build !onlyserve

package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mcpbouncer/mcpbouncer/internal/doctor"
	"github.com/mcpbouncer/mcpbouncer/internal/report"
	"github.com/mcpbouncer/mcpbouncer/issuer/provider"
)

const aboutDoctorProvider = `Looks at a provider as the sidecar would use it, and says for each check what was expected,
what was seen, whose fault it is and what to do. Give it what the labels of the tenant say. It logs
nobody in without --login: it reads the discovery document and the keys, sends at most three
authorization requests that nobody finishes, and two made-up codes, the second with a made-up
secret. The provider's log may show these as refused.
Status 0: nothing wrong was found; 1: something was; 2: it could not run.
`

// asksForProvider says whether doctor is to look at a provider, not at an MCP server.
func asksForProvider(args []string) bool {
	return slices.ContainsFunc(args, func(arg string) bool {
		name, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(arg, "-"), "-"), "=")
		return strings.HasPrefix(arg, "-") && name == "provider"
	})
}

func runDoctorProvider(args []string, in io.Reader, out, errs io.Writer) error {
	var o doctor.ProviderOptions
	c := &o.Client
	flags := flag.NewFlagSet("doctor", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	asJSON := flags.Bool("json", false, "write JSON, for programs")
	flags.DurationVar(&o.Timeout, "timeout", 10*time.Second, "how long one authorization request may take")
	ca := flags.String("ca", "", "`FILE` of a private authority's certificate, PEM")
	flags.StringVar(&c.Issuer, "provider", "", "the label providerIssuer: an `URL`")
	flags.StringVar(&c.Type, "provider-type", "oidc", "the label providerType; the next four belong to oauth2")
	flags.StringVar(&c.AuthorizationEndpoint, "authorization-endpoint", "", "the label authorizationEndpoint: an `URL`")
	flags.StringVar(&c.TokenEndpoint, "token-endpoint", "", "the label tokenEndpoint: an `URL`")
	flags.StringVar(&c.UserinfoEndpoint, "userinfo-endpoint", "", "the label userinfoEndpoint: an `URL`")
	names := flags.String("claim-names", "", "the label claimNames")
	flags.StringVar(&c.ID, "client-id", "", "the label clientID")
	flags.StringVar(&c.Secret, "client-secret", "", "the label clientSecret: env:NAME, or a sealed `secret`; none for a public client")
	secretFile := flags.String("client-secret-file", "", "`FILE` with the secret")
	flags.StringVar(&c.Auth, "client-auth", "auto", "the label clientAuth")
	flags.StringVar(&c.RedirectURI, "redirect-uri", "", "the tenant's redirect `URI`: PUBLIC-URL/oauth/callback")
	scopes := flags.String("scopes", "", "the label scopes; of an OpenID provider openid email if it is not given")
	flags.StringVar(&c.Refresh, "refresh", "auto", "the label refresh")
	login := flags.Bool("login", false, "log in, in your browser, three times or more: tokens, claims, what comes twice, refresh, revocation.\nWhere --redirect-uri is not of this computer, paste the address at which the browser ends")
	yes := flags.Bool("yes", false, "do not ask before refresh tokens are presented twice, which may end other logins of this person")
	rules := flags.String("rules", "", "the `labels` whose claims are needed, separated by blanks:\nallowedEmails allowedDomains allowedSubjects allowedGroups groupsClaim=CLAIM name")
	flags.Func("parameter", "one `NAME=VALUE` of the label providerParameters; may be repeated", func(text string) error {
		c.Parameters = append(c.Parameters, text)
		return nil
	})
	err := flags.Parse(args)
	if slices.ContainsFunc(args, asksForHelp) { // also where --provider has taken it for its value
		err = flag.ErrHelp
	}
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(out, "usage: mcpbouncer doctor --provider ISSUER --client-id ID [FLAGS]\n\n"+aboutDoctorProvider+"\n")
		flags.SetOutput(out)
		flags.PrintDefaults()
		return nil
	} else if err != nil {
		return unable("doctor", err)
	}
	switch {
	case flags.NArg() > 0:
		return unable("doctor", errors.New("with --provider no URL of an MCP server: run doctor for each"))
	case c.Issuer == "" || c.ID == "":
		return unable("doctor", errors.New("give both, as the labels have them: mcpbouncer doctor --provider https://id.example.com --client-id mcp"))
	case *login && c.RedirectURI == "":
		return unable("doctor", errors.New("--login needs --redirect-uri: one that is registered for the client, http://127.0.0.1:PORT/PATH or the tenant's"))
	case c.Secret != "" && *secretFile != "":
		return unable("doctor", errors.New("give --client-secret or --client-secret-file, not both"))
	case c.Secret != "" && !strings.HasPrefix(c.Secret, "env:") && !strings.HasPrefix(c.Secret, "mbs1_"):
		// other people of this computer read the arguments of its programs
		return unable("doctor", errors.New("--client-secret takes env:NAME or a sealed secret; for a plain one use --client-secret-file"))
	case !slices.Contains([]string{"auto", "basic", "post", "none", provider.PrivateKeyJWT}, c.Auth):
		return unable("doctor", errors.New("--client-auth is auto, basic, post, none or private_key_jwt"))
	case !slices.Contains([]string{"auto", "upstream", "session"}, c.Refresh):
		return unable("doctor", errors.New("--refresh is auto, upstream or session"))
	}
	if fault := provider.ParametersFault(c.Parameters); fault != "" {
		return unable("doctor", errors.New("--parameter: "+fault))
	}
	c.ClaimNames = strings.FieldsFunc(*names, func(r rune) bool { return r == ',' || r == ' ' })
	if label, why := c.TypeFault(); label != "" {
		return unable("doctor", errors.New("the label "+label+": "+why))
	}
	if c.Scopes = strings.Fields(*scopes); len(c.Scopes) == 0 && c.IsOpenID() {
		c.Scopes = []string{"openid", "email"}
	}
	if c.Needs, err = needsOf(*rules); err != nil {
		return unable("doctor", err)
	}
	c.RuleNeeds = c.Needs
	c.RuleNeeds.Name = false // no rule looks at it
	if o.CA, err = authorities(*ca); err != nil {
		return unable("doctor", err)
	}
	if *secretFile != "" {
		if c.Secret, err = firstLine(*secretFile); err != nil {
			return unable("doctor", err)
		}
	}
	e := &environment{}
	if c.Auth == provider.PrivateKeyJWT || strings.HasPrefix(c.Secret, "mbs1_") {
		if e, err = loadEnvironment(); err != nil {
			return unable("doctor", fmt.Errorf("the client's key and a sealed secret need the sidecar's environment: %w", err))
		}
		o.Ring = e.ring
	}
	o.Getenv = func(name string) string {
		secret, _ := e.secretVariable(name) // the check says that there is none
		return secret
	}
	text, progress := report.NewText(out), report.NewProgress(errs)
	o.Say = progress.Say
	if !*asJSON {
		o.Found = text.Finding
	}
	if *login {
		o.Login = atTerminal(in, errs, *yes)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	return finish(doctor.RunProvider(ctx, o), out, text, *asJSON)
}

// needsOf reads which claims the labels need, as the issuer would.
func needsOf(labels string) (provider.Needs, error) {
	n, groups, claim := provider.Needs{}, false, "groups"
	for _, label := range strings.Fields(labels) {
		name, value, _ := strings.Cut(label, "=")
		switch name {
		case "allowedEmails", "allowedDomains":
			n.Email = true
		case "allowedSubjects": // sub is always there
		case "allowedGroups":
			groups = true
			for group := range strings.SplitSeq(value, ",") {
				if group != "" {
					n.Groups = append(n.Groups, group)
				}
			}
		case "groupsClaim":
			groups, claim = true, value
		case "name":
			n.Name = true
		default:
			return n, fmt.Errorf("--rules: %q is none of allowedEmails, allowedDomains, allowedSubjects, allowedGroups, groupsClaim=CLAIM and name", label)
		}
	}
	if groups {
		if claim == "" {
			return n, errors.New("--rules: groupsClaim=CLAIM")
		}
		n.GroupsClaim = claim
	}
	return n, nil
}

// atTerminal is the person who runs the command. Each line that they write is read once: a read
// that nobody waits for any more takes the next one.
func atTerminal(in io.Reader, errs io.Writer, yes bool) *doctor.ProviderLogin {
	lines := make(chan string)
	failed := make(chan error, 1)
	var begin sync.Once
	read := func(ctx context.Context) (string, error) {
		begin.Do(func() {
			go func() {
				scanner := bufio.NewScanner(in)
				for scanner.Scan() {
					lines <- scanner.Text()
				}
				failed <- cmp.Or(scanner.Err(), io.EOF)
				close(failed)
			}()
		})
		select {
		case line := <-lines:
			return line, nil
		case <-failed:
			return "", errors.New("nobody answers at standard input")
		case <-ctx.Done():
			return "", context.Cause(ctx)
		}
	}
	return &doctor.ProviderLogin{
		Visit: func(why, url string) {
			fmt.Fprintln(errs, "Open this in your browser, if it does not open by itself ("+why+"):\n\n"+report.Printable(url, 1<<14)+"\n")
			openBrowser(url)
		},
		Paste: func(ctx context.Context) (string, error) {
			fmt.Fprintln(errs, "Log in, and paste the address at which the browser ends, also if the page there shows an error:")
			return read(ctx)
		},
		Confirm: func(ctx context.Context, question string) bool {
			if yes {
				return true
			}
			fmt.Fprint(errs, "\n"+question+" [y/N] ")
			answer, _ := read(ctx)
			return strings.HasPrefix(strings.ToLower(strings.TrimSpace(answer)), "y")
		},
	}
}
