package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// client mints pre-registered clients: for those that can neither register nor publish a document.
func client(args []string, out io.Writer) error {
	if len(args) == 0 || args[0] != "create" {
		return errors.New("client: the command is `client create`")
	}
	flags := flag.NewFlagSet("client create", flag.ContinueOnError)
	var tenant sealing.Tenant
	var metadata issuer.ClientMetadata
	flags.StringVar(&tenant.PublicURL, "public-url", "", "the label publicURL")
	flags.StringVar(&tenant.Resource, "resource", "", "the label resource")
	flags.StringVar(&tenant.Audience, "audience", "", "the label audience (default: resource)")
	flags.StringVar(&tenant.UpstreamIssuer, "provider-issuer", "", "the label providerIssuer")
	flags.StringVar(&tenant.UpstreamClientID, "provider-client-id", "", "the label clientID")
	generation := flags.Uint("generation", 0, "the label generation")
	flags.StringVar(&metadata.ClientName, "name", "", "name that the consent page shows")
	flags.StringVar(&metadata.TokenEndpointAuthMethod, "auth", "client_secret_basic", "none, client_secret_basic or client_secret_post")
	flags.Func("redirect-uri", "where codes go; repeat for several", func(uri string) error {
		metadata.RedirectURIs = append(metadata.RedirectURIs, uri)
		return nil
	})
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	if tenant.Audience == "" {
		tenant.Audience = tenant.Resource
	}
	tenant.Generation = uint32(*generation)
	for name, value := range map[string]string{"public-url": tenant.PublicURL, "resource": tenant.Resource, "provider-issuer": tenant.UpstreamIssuer, "provider-client-id": tenant.UpstreamClientID} {
		if value == "" {
			return fmt.Errorf("client create: --%s must be what the labels say: the client_id is bound to them", name)
		}
	}
	tenant.PublicURL = strings.TrimRight(tenant.PublicURL, "/")
	e, err := loadEnvironment()
	if err != nil {
		return err
	}
	info, err := issuer.RegisterClient(e.ring, tenant.ID(), metadata, time.Now())
	if err != nil {
		return fmt.Errorf("client create: %w", err)
	}
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(info)
}
