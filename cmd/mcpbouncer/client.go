//go:build !onlyserve

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer"
)

// client mints pre-registered clients: for those that can neither register nor publish a document,
// and for machines.
func client(args []string, out io.Writer) error {
	if len(args) == 0 || args[0] != "create" {
		return errors.New("client: the command is `client create`; --help lists its flags")
	}
	if err := clientCreate(args[1:], out); err != nil {
		return fmt.Errorf("client create: %w", err)
	}
	return nil
}

func clientCreate(args []string, out io.Writer) error {
	flags := newTenantFlags("client create")
	var metadata issuer.ClientMetadata
	var machine issuer.Machine
	flags.StringVar(&metadata.ClientName, "name", "", "`name` that the consent page shows")
	flags.StringVar(&metadata.TokenEndpointAuthMethod, "auth", "client_secret_basic", "`method`: none, client_secret_basic, client_secret_post;\nfor a machine also private_key_jwt")
	var uris list
	flags.Var(&uris, "redirect-uri", "`URI` that codes go to; repeat for several")
	var private list
	flags.Var(&private, "private-redirect-uri", "one of the `label` privateRedirectURIs, which allows such a URI; repeat for several")
	flags.BoolVar(&metadata.DPoPBound, "dpop-bound", false, "give a person's client no token without a proof of its key (dpop_bound_access_tokens),\nwhere the label dpop is accept")
	grant := flags.String("grant", "authorization_code", "`type`: authorization_code for people's clients, client_credentials for a machine")
	flags.StringVar(&machine.Subject, "subject", "", "`sub` of the machine; choose one that the provider gives to nobody")
	flags.StringVar(&machine.Scope, "scope", "", "`scopes` of the machine, separated by blanks")
	keys := flags.String("jwks", "", "`file` with the machine's public keys (a JWK Set), for private_key_jwt")
	help, err := flags.parse(args, out, "Prints a client_id and secret for one server. Nothing is stored: both follow from BOUNCER_ENCRYPTION_KEY,\nand hold until one of the labels below changes.")
	if help || err != nil {
		return err
	}
	var foreign []string // flags of the other grant
	var required string
	switch *grant {
	case "authorization_code":
		foreign = []string{"subject", "scope", "jwks"}
		required = "redirect-uri"
	case "client_credentials":
		foreign = []string{"redirect-uri", "private-redirect-uri"}
		required = "subject"
	default:
		return errors.New("--grant must be authorization_code or client_credentials")
	}
	if err := flags.demand(required); err != nil {
		return err
	}
	for _, name := range foreign {
		if flags.Lookup(name).Value.String() != "" {
			return fmt.Errorf("--%s does not go with --grant %s", name, *grant)
		}
	}
	if metadata.DPoPBound && *grant == "client_credentials" {
		return errors.New("--dpop-bound does not go with --grant client_credentials: set the label dpop to require")
	}
	tenant, err := flags.id()
	if err != nil {
		return err
	}
	e, err := loadEnvironment()
	if err != nil {
		return err
	}
	if *grant == "client_credentials" {
		var set []byte
		if *keys != "" {
			if set, err = readKeys(*keys); err != nil {
				return err
			}
		}
		info, err := issuer.RegisterMachine(e.ring, tenant, machine, metadata.ClientName, metadata.TokenEndpointAuthMethod, set, time.Now())
		if err != nil {
			return err
		}
		return writeIndented(out, info)
	}
	metadata.RedirectURIs = uris
	info, err := issuer.RegisterClient(e.ring, tenant, private, metadata, time.Now())
	if err != nil {
		return err
	}
	// whoever registers over the network gets what is left; an operator means each
	for _, uri := range uris {
		if !slices.Contains(info.RedirectURIs, uri) {
			return fmt.Errorf("--redirect-uri %q is not acceptable: https, http on a loopback address, a reverse-domain scheme, or what the label privateRedirectURIs and --private-redirect-uri name", uri)
		}
	}
	return writeIndented(out, info)
}

// list is a flag that can be given several times.
type list []string

func (l *list) String() string         { return strings.Join(*l, " ") }
func (l *list) Set(value string) error { *l = append(*l, value); return nil }

func readKeys(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("--jwks: %w", err)
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, 64<<10))
}

func writeIndented(out io.Writer, v any) error {
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false) // a redirect URI with & is copied from here
	return encoder.Encode(v)
}
