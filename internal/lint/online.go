package lint

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/mcpbouncer/mcpbouncer/internal/doctor"
	"github.com/mcpbouncer/mcpbouncer/internal/report"
	"github.com/mcpbouncer/mcpbouncer/issuer"
	"github.com/mcpbouncer/mcpbouncer/issuer/provider"
)

// onlineTimeout is of one answer.
const onlineTimeout = 10 * time.Second

// online asks what the labels name: the sidecar for its health, the provider for its discovery
// document, and the MCP server for its challenge. Each is asked once, and without a credential.
func (c *checker) online(ctx context.Context) {
	asked := map[string]bool{}
	for _, t := range c.tenants {
		for _, label := range []string{"sidecarURL", "providerIssuer", "publicURL"} {
			v := t.option(label)
			// With sidecarAuth the sidecar answers nobody but Traefik.
			if v.unknown || v.text == "" || asked[label+v.text] || label == "sidecarURL" && t.option("sidecarAuth").text != "" {
				continue
			}
			asked[label+v.text] = true
			var r *report.Report
			switch label {
			case "sidecarURL":
				r = health(ctx, v.text)
			case "providerIssuer":
				r = doctor.RunProvider(ctx, doctor.ProviderOptions{Client: providerOf(t), Timeout: onlineTimeout, Brief: true})
			default:
				r = doctor.Run(ctx, doctor.Options{URL: strings.TrimSuffix(v.text, "/") + endpointsOf(t)[0], Timeout: onlineTimeout, Brief: true})
				r.Add(report.Finding{Check: "challenge", Seen: "more is said by mcpbouncer doctor " + r.Subject, Note: true})
			}
			if r.Unable != "" && len(r.Findings) == 0 {
				r.Add(report.Finding{Check: label, Seen: r.Unable, Fault: report.Label, Note: true})
			}
			for _, f := range r.Findings {
				f.File, f.Line = v.file, v.line
				c.findings = append(c.findings, f)
			}
		}
	}
}

// providerOf is the provider that the labels name, without the client there.
func providerOf(t *tenant) provider.Client {
	text := func(label string) string { return t.option(label).text }
	return provider.Client{
		Issuer: text("providerIssuer"), Type: text("providerType"), AuthorizationEndpoint: text("authorizationEndpoint"),
		TokenEndpoint: text("tokenEndpoint"), UserinfoEndpoint: text("userinfoEndpoint"),
		ClaimNames: strings.FieldsFunc(text("claimNames"), func(r rune) bool { return r == ',' || r == ' ' }),
	}
}

func endpointsOf(t *tenant) []string {
	if v := t.option("mcpPaths"); v.text != "" && !v.unknown {
		return strings.FieldsFunc(v.text, func(r rune) bool { return r == ',' || r == ' ' })
	}
	return []string{"/mcp"}
}

// health asks the sidecar from where this runs. Where its name leads nowhere from here, it may lead
// somewhere from where Traefik is.
func health(ctx context.Context, address string) *report.Report {
	f := report.Finding{Check: "sidecar", Expected: "the sidecar's health", Fault: report.Sidecar, Breaks: []string{report.EveryClient}, Page: "docs/troubleshooting.md"}
	client := &http.Client{Timeout: onlineTimeout, Transport: &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	req, err := http.NewRequestWithContext(ctx, "GET", strings.TrimSuffix(address, "/")+"/healthz", nil)
	var resp *http.Response
	if err == nil {
		resp, err = client.Do(req)
	}
	switch {
	case err != nil:
		if e, ok := err.(*url.Error); ok {
			err = e.Err
		}
		f.Seen, f.Note, f.Breaks = err.Error()+", asked from here", true, nil
		f.Remedy = "run lint where Traefik runs: the name may lead somewhere in that network alone"
	case resp.Header.Get(issuer.MarkHeader) == "":
		f.Seen, f.Remedy = strconv.Itoa(resp.StatusCode)+" of something that is not the sidecar, asked from here", "correct sidecarURL, unless the name leads elsewhere from where Traefik is"
	case resp.StatusCode != http.StatusOK:
		f.Seen, f.Remedy = strconv.Itoa(resp.StatusCode)+", asked from here", "see the sidecar's log"
	default:
		f = report.Finding{Check: "sidecar", Seen: "it serves, asked from here"}
	}
	if resp != nil {
		resp.Body.Close()
	}
	return &report.Report{Findings: []report.Finding{f}}
}
