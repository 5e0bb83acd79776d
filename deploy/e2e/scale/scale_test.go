package scale

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/scale.md")

var docs = filepath.Join("..", "..", "..", "docs")

// The tables of docs/scale.md are those of the simulation.
func TestScalePageIsThatOfTheSimulation(t *testing.T) {
	path := filepath.Join(docs, "scale.md")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	needs, breaks, _ := strings.Cut(Tables(), "\n\n")
	page := string(text)
	for name, table := range map[string]string{"needs": strings.TrimSpace(needs), "breaks": strings.TrimSpace(breaks)} {
		begin, end := "<!-- "+name+": go test ./scale -update -->\n", "<!-- end -->"
		before, rest, ok := strings.Cut(page, begin)
		_, after, closed := strings.Cut(rest, end)
		if !ok || !closed {
			t.Fatalf("docs/scale.md has no place for %s", name)
		}
		page = before + begin + table + "\n" + end + after
	}
	if page == string(text) {
		return
	}
	if *update {
		if err := os.WriteFile(path, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Error("docs/scale.md is stale: cd deploy/e2e && go test ./scale -update")
}

// The constants are those that were measured, within a factor of two: figures vary from hour to
// hour. Where one fails after another run of `make bench`, write the new figure into measured.go
// and renew the page.
func TestScaleBeginsWithWhatWasMeasured(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(docs, "benchmarks.json"))
	if err != nil {
		t.Fatal(err)
	}
	var results struct {
		Rows []struct {
			Name   string
			Values map[string]float64
		}
	}
	if err := json.Unmarshal(text, &results); err != nil {
		t.Fatal(err)
	}
	cost := func(name string) float64 {
		for _, row := range results.Rows {
			if row.Name == name {
				return row.Values["cpu_us"]
			}
		}
		t.Errorf("docs/benchmarks.json has no row %q", name)
		return 0
	}
	for _, c := range []struct {
		what             string
		taken, published float64
	}{
		{"traefikBare", traefikBare, cost("traefik/1 KB, bare")},
		{"pluginKnown", pluginKnown, cost("traefik/1 KB, known token") - cost("traefik/1 KB, bare")},
		{"pluginFirst", pluginFirst, cost("traefik/GET, first sight of a token") - cost("traefik/GET, known token")},
		{"sidecarRefresh", sidecarRefresh, cost("sidecar/refresh, guard redis")},
		{"sidecarLogin", sidecarLogin, cost("sidecar/login")},
		{"sidecarRegister", sidecarRegister, cost("sidecar/register")},
		{"sidecarPoll", sidecarPoll, cost("sidecar/keys")},
	} {
		if c.taken > 2*c.published || c.taken < c.published/2 {
			t.Errorf("%s is %v, docs/benchmarks.json has %v", c.what, c.taken, c.published)
		}
	}
	limits, err := os.ReadFile(filepath.Join(docs, "limits.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, said := range []string{
		fmt.Sprintf("two generations of; beyond, a token is verified again | %s |", exactly(tokensKept/2)),
		fmt.Sprintf("logins and codes that a memory guard knows | %s |", exactly(guardLogins)),
		fmt.Sprintf("deny document gets before it is asked for again | %v seconds", denyPeriod),
		fmt.Sprintf("in the plugin at most %d KB, and each token that it remembers %d bytes", tenantBytes>>10, tokenBytes),
	} {
		if !strings.Contains(string(limits), said) {
			t.Errorf("docs/limits.md does not say %q", said)
		}
	}
}

// More people need more of everything, and nobody waits long.
func TestScaleGrowsWithPeople(t *testing.T) {
	last := Plan{Known: 1}
	for _, people := range []int{1000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000} {
		p := For(people, peoplePerTenant, 1)
		if p.Requests <= last.Requests || p.Traefiks < last.Traefiks || p.Sidecars < last.Sidecars || p.GuardDollars <= last.GuardDollars || p.Known > last.Known+0.01 {
			t.Errorf("%d people need less than before: %+v", people, p)
		}
		if p.Wait[0].Most > 10_000 || p.Wait[1].Most > 10_000 {
			t.Errorf("%d people wait for %v µs", people, p.Wait)
		}
		last = p
	}
	if one := For(10_000_000, 10_000_000, 1); one.Known > 0.1 || one.Traefiks <= For(10_000_000, peoplePerTenant, 1).Traefiks {
		t.Errorf("ten million people at one MCP server: %+v", one)
	}
	if checked := For(1_000_000, peoplePerTenant, 0.125); checked.ProviderRequests > 100 || checked.GuardDollars >= For(1_000_000, peoplePerTenant, 1).GuardDollars {
		t.Errorf("the provider is asked once a day: %+v", checked)
	}
}

// A queue of one kind of request behaves as the theory of queues says (M/M/c).
func TestScaleQueueIsThatOfTheTheory(t *testing.T) {
	// Four processors at 60 %: one in 3.5 waits (Erlang C: 0.287), on average 0.625 of a request.
	p := queue(4*0.6*1e6/100, 100)
	if p.Half != 0 || p.Most < 150 || p.Most > 270 {
		t.Errorf("%+v", p) // ln(28.7)·62.5 = 210 µs
	}
}

// exactly writes a number with all its digits.
func exactly(n int) string {
	text := strconv.Itoa(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
