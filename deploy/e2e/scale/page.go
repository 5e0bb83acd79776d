package scale

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

var sizes = []int{10_000, 1_000_000, 100_000_000}

// Tables are those of docs/scale.md.
func Tables() string { return needs(sizes, peoplePerTenant) + "\n" + breaks() }

// Table says what one installation needs.
func Table(people, perTenant int) string { return needs([]int{people}, perTenant) }

func needs(sizes []int, perTenant int) string {
	plans := make([]Plan, len(sizes))
	head, rule := "| in the busiest hour |", "|---|"
	for i, people := range sizes {
		plans[i] = For(people, perTenant, 1)
		head += " " + number(float64(people)) + " people |"
		rule += "---|"
	}
	var b strings.Builder
	fmt.Fprintln(&b, head)
	fmt.Fprintln(&b, rule)
	for _, row := range []struct {
		name string
		of   func(p Plan) string
	}{
		{"MCP servers (tenants, and key sets in each Traefik)", func(p Plan) string { return number(float64(p.Tenants)) }},
		{"messages a second", func(p Plan) string { return number(p.Requests) }},
		{fmt.Sprintf("Traefiks of %d processors", cores), func(p Plan) string { return number(float64(p.Traefiks)) }},
		{"of the messages, first sights of a token", func(p Plan) string { return fmt.Sprintf("%.0f %%", 100*(1-p.Known)) }},
		{"one in a hundred waits in Traefik for", func(p Plan) string { return duration(p.Wait[0].Most) }},
		{"the plugin's memory in each", func(p Plan) string { return size(p.Memory) }},
		{"refreshes; logins a second", func(p Plan) string { return number(p.Refreshes) + "; " + number(p.Logins) }},
		{"questions of all Traefiks for keys and deny document, a second", func(p Plan) string { return number(p.Polls) }},
		{fmt.Sprintf("sidecars of %d processors", cores), func(p Plan) string { return number(float64(p.Sidecars)) }},
		{"one in a hundred waits in a sidecar for", func(p Plan) string { return duration(p.Wait[1].Most) }},
		{"replay guard: write units; reads a second", func(p Plan) string { return number(p.GuardUnits) + "; " + number(p.GuardReads) }},
		{"the same in DynamoDB, a month", func(p Plan) string { return "$ " + number(p.GuardDollars) }},
		{"the provider's token endpoint, requests a second", func(p Plan) string { return number(p.ProviderRequests) }},
		{"the same with `upstreamCheckInterval: 24h`", func(p Plan) string { return number(For(p.People, perTenant, 1.0/hoursPerDay).ProviderRequests) }},
		{"the sidecar's log, a day", func(p Plan) string { return size(p.LogBytes) }},
	} {
		fmt.Fprintf(&b, "| %s |", row.name)
		for _, p := range plans {
			fmt.Fprintf(&b, " %s |", row.of(p))
		}
		fmt.Fprintln(&b)
	}
	return b.String()
}

// breaks are what breaks, in the order in which it does.
func breaks() string {
	type limit struct {
		at        float64
		what, cue string
	}
	// refreshes, logins and messages of a person, a second
	daily := float64(loginsPerPerson) * hoursPerDay * busiestHour / 3600
	perDay := loginsPerPerson / float64(loginDays) * busiestHour / 3600
	call := callsPerDay * busiestHour / 3600.0
	all := []limit{
		{cores * load * 1e6 / (call * (traefikBare + pluginKnown)), "one Traefik", "more of them; requests of one client should reach the same one (by `Mcp-Session-Id` or address), so that it knows the token"},
		{providerLimit / (daily + perDay), fmt.Sprintf("a provider that takes %.0f token requests a second", providerLimit), "`upstreamCheckInterval: 24h`, or a limit that you have bought"},
		{providerLimit / (daily/hoursPerDay + perDay), "the same with `upstreamCheckInterval: 24h`", "the same; or several providers"},
		{guardLogins / float64(loginsPerPerson), "the guard `memory`, which is full", "Redis or DynamoDB"},
		{cores * load * 1e6 / (daily*(sidecarRefresh+sidecarChecked) + perDay*(sidecarLogin+sidecarRegister)), "one sidecar", "more of them, with one store as guard"},
		{traefikMemory / (tenantBytes/float64(peoplePerTenant) + loginsPerPerson*tokenBytes), fmt.Sprintf("%s for what the plugin remembers in each Traefik", size(traefikMemory)), "parts, as in the last row"},
		{tokensKept / 2.0 / loginsPerPerson, "one MCP server for all: the plugin's memory of its tokens", "nothing: what is not remembered is verified again"},
	}
	// Traefiks and tenants both grow, so their product does by the square.
	at := 1000.0
	for ; ; at *= 1.1 {
		p := For(int(at), peoplePerTenant, 1)
		if p.Polls > p.Refreshes {
			break
		}
	}
	all = append(all, limit{at, "each Traefik asking for each tenant: more questions than refreshes", "parts: each Traefik serves some of the MCP servers, and not all"})
	slices.SortFunc(all, func(a, b limit) int { return int(math.Copysign(1, a.at-b.at)) })
	var b strings.Builder
	fmt.Fprintf(&b, "| beyond about | this is not enough | what helps |\n|---|---|---|\n")
	for _, l := range all {
		fmt.Fprintf(&b, "| %s people | %s | %s |\n", number(l.at), l.what, l.cue)
	}
	return b.String()
}

// number has two digits that mean something.
func number(n float64) string {
	switch {
	case n <= 0:
		return "0"
	case n < 1:
		return fmt.Sprintf("%.2g", n)
	case n < 10:
		return strings.TrimSuffix(fmt.Sprintf("%.1f", n), ".0")
	}
	unit := math.Pow(10, math.Floor(math.Log10(n))-1)
	text := fmt.Sprintf("%.0f", math.Round(n/unit)*unit)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

func size(bytes float64) string {
	for _, unit := range []string{"KB", "MB", "GB"} {
		if bytes /= 1024; bytes < 1000 {
			return number(bytes) + " " + unit
		}
	}
	return number(bytes/1024) + " TB"
}

func duration(us float64) string {
	if us < 1000 {
		return number(us) + " µs"
	}
	return number(us/1000) + " ms"
}
