package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// client mints pre-registered clients: for those that can neither register nor publish a document.
func client(args []string, out io.Writer) error {
	if len(args) == 0 || args[0] != "create" {
		return errors.New("client: the command is `client create`; --help lists its flags")
	}
	flags := flag.NewFlagSet("client create", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // main prints the error; help goes where it was asked for
	var tenant sealing.Tenant
	var metadata issuer.ClientMetadata
	flags.StringVar(&tenant.PublicURL, "public-url", "", "`URL` of the server: the label publicURL, or \"issuer\" of its metadata")
	flags.StringVar(&tenant.Resource, "resource", "", "the `label` resource")
	flags.StringVar(&tenant.Audience, "audience", "", "the `label` audience (default: resource)")
	flags.StringVar(&tenant.UpstreamIssuer, "provider-issuer", "", "the `label` providerIssuer")
	flags.StringVar(&tenant.UpstreamClientID, "provider-client-id", "", "the `label` clientID")
	generation := flags.Uint("generation", 0, "the `label` generation")
	flags.StringVar(&metadata.ClientName, "name", "", "`name` that the consent page shows")
	flags.StringVar(&metadata.TokenEndpointAuthMethod, "auth", "client_secret_basic", "`method`: none, client_secret_basic or client_secret_post")
	flags.Func("redirect-uri", "`URI` that codes go to; repeat for several", func(uri string) error {
		metadata.RedirectURIs = append(metadata.RedirectURIs, uri)
		return nil
	})
	if err := flags.Parse(args[1:]); errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(out, "usage: mcpbouncer client create FLAGS\n\nPrints a client_id and secret for one server. Nothing is stored: both follow from BOUNCER_ENCRYPTION_KEY,\nand hold until one of the labels below changes.")
		flags.SetOutput(out)
		flags.PrintDefaults()
		return nil
	} else if err != nil {
		return fmt.Errorf("client create: %w", err)
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("client create: %q is no flag", flags.Arg(0))
	}
	var missing []string
	for _, f := range []struct{ name, value string }{
		{"public-url", tenant.PublicURL}, {"resource", tenant.Resource}, {"provider-issuer", tenant.UpstreamIssuer},
		{"provider-client-id", tenant.UpstreamClientID}, {"redirect-uri", strings.Join(metadata.RedirectURIs, "")},
	} {
		if f.value == "" {
			missing = append(missing, "--"+f.name)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("client create: %s missing; the client_id is bound to what the labels say", strings.Join(missing, ", "))
	}
	if tenant.Audience == "" {
		tenant.Audience = tenant.Resource
	}
	if *generation > math.MaxInt32 { // as the label
		return fmt.Errorf("client create: --generation must be at most %d", math.MaxInt32)
	}
	tenant.Generation = uint32(*generation)
	// The plugin writes it in one form only, and another form would be another tenant's: a client that nobody knows.
	tenant.PublicURL = strings.TrimRight(tenant.PublicURL, "/")
	if u, err := url.Parse(tenant.PublicURL); err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.Host != strings.ToLower(u.Host) ||
		u.Scheme == "https" && u.Port() == "443" || u.Scheme == "http" && u.Port() == "80" || u.User != nil || strings.ContainsAny(tenant.PublicURL, "?#") {
		return errors.New("client create: --public-url must be written as in \"issuer\" of the server's metadata: lower-case host, no default port, no query")
	}
	e, err := loadEnvironment()
	if err != nil {
		return err
	}
	info, err := issuer.RegisterClient(e.ring, tenant.ID(), metadata, time.Now())
	if err != nil {
		return fmt.Errorf("client create: %w", err)
	}
	for _, uri := range metadata.RedirectURIs { // whoever registers over the network gets what is left; an operator means each
		if !slices.Contains(info.RedirectURIs, uri) {
			return fmt.Errorf("client create: --redirect-uri %q is not acceptable: https, http on a loopback address, or a reverse-domain scheme", uri)
		}
	}
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false) // a redirect URI with & is copied from here
	return encoder.Encode(info)
}
