package e2e

import (
	"flag"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
)

// providersOfEachRun has Hydra only with -tags big: it takes a minute and a half to build.
var providersOfEachRun = map[bool]string{false: "oidc-provider", true: "oidc-provider,hydra"}

var providersToRun = flag.String("providers", providersOfEachRun[bigToo], "the providers of providers.sh that are used: all, or some of "+strings.Join(providerNames(), ","))

// runsProvider is for those that every run of the tests does not install.
func runsProvider(name string) bool {
	return *providersToRun == "all" || slices.Contains(strings.Split(*providersToRun, ","), name)
}

// wholeProviders are the providers that can be had.
var wholeProviders = []struct {
	name  string
	start func(t rig.T, logs *rig.Logs, redirect string) *rig.RealProvider
}{
	{"better-auth", rig.StartBetterAuth},
	{"django-oauth-toolkit", rig.StartDjango},
	{"doorkeeper", rig.StartDoorkeeper},
	{"gitea", rig.StartGitea},
	{giteaByOAuth, rig.StartGiteaByOAuth},
	{"glewlwyd", rig.StartGlewlwyd},
	{"hydra", rig.StartHydra},
	{"lemonldap", rig.StartLemonLDAP},
	{"oidc-provider", rig.StartPlainOIDCProvider},
}

// giteaByOAuth is the only one that is used without OpenID Connect.
const giteaByOAuth = "gitea-oauth2"

func providerNames() (all []string) {
	for _, p := range wholeProviders {
		all = append(all, p.name)
	}
	return all
}

// TestWholeProviders takes real providers through what may happen to a login. The tables of
// docs/providers.md are what came of it. `make test` runs one of them, with BIG=1 two, `make
// nightly` all, and `make providers` writes the tables:
//
//	go test -run TestWholeProviders -providers all . -update
func TestWholeProviders(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	rows := map[string]map[string]string{} // by provider and situation
	t.Run("at", func(t *testing.T) {
		for _, p := range wholeProviders {
			if !runsProvider(p.name) {
				continue
			}
			t.Run(p.name, func(t *testing.T) {
				t.Parallel()
				b := newBench(t, p.start)
				row := map[string]string{"setting": settings(b.p.Setting, b.p.Advice)}
				for _, situation := range situations {
					t.Run(situation.name, func(t *testing.T) {
						defer func(outer *testing.T) { b.T = outer }(b.T)
						b.T = t
						b.reset()
						b.begin()
						row[situation.name] = situation.run(b)
						t.Logf("%s: %s", b.p.Name, row[situation.name])
						if t.Failed() || testing.Verbose() {
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
	if !t.Failed() {
		compareProviders(t, rows)
	}
}

// settings returns the cell of the labels that a provider needs, and of what was read about its own
// settings.
func settings(labels map[string]string, read string) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		all = append(all, "`"+name+": "+labels[name]+"`")
	}
	if read != "" {
		all = append(all, "*"+read+"*")
	}
	return strings.Join(all, "; ")
}

// providerTables are the tables of docs/providers.md: a heading and a situation for each column.
var providerTables = [][][2]string{
	{
		{"login", "login"}, {"refresh token by default", "refresh token by default"}, {"rotation", "refresh"}, {"a used refresh token again", "a stolen refresh token, at another replica"},
		{"revocation by the client", "revocation"}, {"offboarding", "the person is removed"}, {"groups", "groups"}, {"e-mail", "e-mail"},
		{"client authentication: a secret with `+ / =`", "a secret with + / ="}, {"a client for `client_secret_post` alone", "a client for client_secret_post alone"}, {"setting needed", "setting"},
	},
	{
		{"10 refreshes at once", "ten refreshes at once"}, {"its answer is lost", "the provider's answer is lost"}, {"2 replicas at once", "two replicas at once"},
		{"a code twice", "a code used twice, at another replica"}, {"an older refresh token after the owner revoked", "a stolen refresh token after its owner revoked"}, {"it starts again", "the provider starts again"},
		{"its key set is yesterday's", "its key set is yesterday's for a moment"}, {"its keys are rotated", "its keys are rotated"},
		{"its issuer with a wrong slash", "the issuer with a wrong slash"}, {"a scope that it does not know", "a scope that it does not know"},
	},
}

// compareProviders compares the rows of docs/providers.md with what the providers did, or writes
// them. Rows of providers that did not run stay.
func compareProviders(t *testing.T, rows map[string]map[string]string) {
	t.Helper()
	for i, columns := range providerTables {
		part := pagePart{
			filepath.Join(rig.Root(), "docs", "providers.md"),
			fmt.Sprintf("<!-- begin of table %d, which %s writes -->\n", i+1, t.Name()), fmt.Sprintf("<!-- end of table %d -->\n", i+1),
		}
		old := part.read(t)
		is := map[string]string{} // by provider
		for line := range strings.Lines(old) {
			if cells := strings.Split(line, " | "); len(cells) > 1 && strings.HasPrefix(line, "| ") {
				is[strings.TrimPrefix(cells[0], "| ")] = line
			}
		}
		table := "| provider |"
		for _, column := range columns {
			table += " " + column[0] + " |"
		}
		table += "\n|---|" + strings.Repeat("---|", len(columns)) + "\n"
		delete(is, "provider")
		was := maps.Clone(is)
		for provider, row := range rows {
			line := "| " + provider + " |"
			for _, column := range columns {
				cell := row[column[1]]
				if cell == "" {
					cell = "–"
				}
				line += " " + cell + " |"
			}
			is[provider] = line + "\n"
			if was[provider] != is[provider] && !*update {
				t.Errorf("docs/providers.md is stale: make providers. It says\n%s%s did\n%s", was[provider], provider, is[provider])
			}
		}
		for _, provider := range slices.Sorted(maps.Keys(is)) {
			table += is[provider]
		}
		if *update && table != old {
			part.write(t, table)
		}
	}
}
