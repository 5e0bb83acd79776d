package e2e

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
)

var providersToRun = flag.String("providers", "oidc-provider,lemonldap", "the real providers that TestWholeProviders logs in at: all, or some of "+strings.Join(providerNames(), ","))

// wholeProviders are the providers that can be had, with what each needs in words.
var wholeProviders = []struct {
	name    string
	start   func(t rig.T, logs *rig.Logs, redirect string) *rig.RealProvider
	setting string // for docs/providers.md
}{
	{"oidc-provider", rig.StartPlainOIDCProvider, ""},
	{"hydra", rig.StartHydra, ""},
	{"gitea", rig.StartGitea, ""},
	{"lemonldap", rig.StartLemonLDAP, ""},
	{"glewlwyd", rig.StartGlewlwyd, ""},
	{"django-oauth-toolkit", rig.StartDjango, ""},
	{"doorkeeper", rig.StartDoorkeeper, ""},
	{"better-auth", rig.StartBetterAuth, ""},
}

func providerNames() (all []string) {
	for _, p := range wholeProviders {
		all = append(all, p.name)
	}
	return all
}

// TestWholeProviders takes real providers through what may happen to a login. The tables of docs/providers.md are what came of it.
//
//	go test -run TestWholeProviders -providers all . -update
func TestWholeProviders(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	rows := map[string]map[string]string{} // by provider and situation
	names := strings.Split(*providersToRun, ",")
	t.Run("at", func(t *testing.T) {
		for _, p := range wholeProviders {
			if *providersToRun != "all" && !slices.Contains(names, p.name) {
				continue
			}
			t.Run(p.name, func(t *testing.T) {
				t.Parallel()
				b := newBench(t, p.start)
				row := map[string]string{}
				for _, situation := range situations {
					t.Run(situation.name, func(t *testing.T) {
						defer func(outer *testing.T) { b.T = outer }(b.T)
						b.T = t
						b.reset()
						b.begin()
						row[situation.name] = situation.run(b)
						t.Logf("%s: %s: %s", b.p.Name, situation.name, row[situation.name])
						if testing.Verbose() {
							t.Logf("%s", b.evidence())
						}
					})
				}
				mu.Lock()
				defer mu.Unlock()
				rows[b.p.Name] = row
			})
		}
	})
	if dump := os.Getenv("PROVIDERS_DUMP"); dump != "" {
		var all strings.Builder
		for name, row := range rows {
			for _, s := range situations {
				fmt.Fprintf(&all, "%s\t%s\t%s\n", name, s.name, row[s.name])
			}
		}
		_ = os.WriteFile(dump, []byte(all.String()), 0o644)
	}
	_ = filepath.Join
}
