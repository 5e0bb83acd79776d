//go:build !onlyserve

package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"strings"

	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// tenantFlags are those of every command that makes something for one tenant: the labels that its
// id is made of.
type tenantFlags struct {
	*flag.FlagSet
	tenant     sealing.Tenant
	generation uint
}

func newTenantFlags(command string) *tenantFlags {
	f := &tenantFlags{FlagSet: flag.NewFlagSet(command, flag.ContinueOnError)}
	f.SetOutput(io.Discard) // main prints the error; help goes where it was asked for
	f.StringVar(&f.tenant.PublicURL, "public-url", "", "`URL` of the server: the label publicURL, or \"issuer\" of its metadata")
	f.StringVar(&f.tenant.Resource, "resource", "", "the `label` resource")
	f.StringVar(&f.tenant.Audience, "audience", "", "the `label` audience (default: resource)")
	f.StringVar(&f.tenant.UpstreamIssuer, "provider-issuer", "", "the `label` providerIssuer")
	f.StringVar(&f.tenant.UpstreamClientID, "provider-client-id", "", "the `label` clientID")
	f.UintVar(&f.generation, "generation", 0, "the `label` generation")
	return f
}

// parse reads the flags; help says whether it was asked for instead, and given.
func (f *tenantFlags) parse(args []string, out io.Writer, about string) (help bool, err error) {
	if err := f.Parse(args); errors.Is(err, flag.ErrHelp) {
		fmt.Fprintf(out, "usage: mcpbouncer %s FLAGS\n\n%s\n", f.Name(), about)
		f.SetOutput(out)
		f.PrintDefaults()
		return true, nil
	} else if err != nil {
		return false, err
	}
	if f.NArg() > 0 {
		return false, fmt.Errorf("%q is no flag", f.Arg(0))
	}
	return false, nil
}

// demand names all flags that are missing: of the tenant, and of those that are named.
func (f *tenantFlags) demand(more ...string) error {
	var missing []string
	for _, name := range append([]string{"public-url", "resource", "provider-issuer", "provider-client-id"}, more...) {
		if f.Lookup(name).Value.String() == "" {
			missing = append(missing, "--"+name)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("%s missing; what is made is bound to what the labels say", strings.Join(missing, ", "))
	}
	return nil
}

// id returns the tenant's id, as the plugin and the sidecar compute it.
func (f *tenantFlags) id() (sealing.TenantID, error) {
	t := f.tenant
	if t.Audience == "" {
		t.Audience = t.Resource
	}
	if f.generation > math.MaxInt32 { // as the label
		return sealing.TenantID{}, fmt.Errorf("--generation must be at most %d", math.MaxInt32)
	}
	t.Generation = uint32(f.generation)
	// The plugin writes a public URL in one form only. Another form would make another tenant:
	// a client that nobody knows.
	t.PublicURL = strings.TrimRight(t.PublicURL, "/")
	if !sealing.IsPublicURL(t.PublicURL) {
		return sealing.TenantID{}, errors.New("--public-url must be written as in \"issuer\" of the server's metadata: lower-case host, no default port, no query")
	}
	return t.ID(), nil
}
