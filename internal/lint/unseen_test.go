package lint

import (
	"regexp"
	"strings"
	"testing"

	"github.com/mcpbouncer/mcpbouncer/internal/report"
)

// lines are the findings as a person reads them, WRONG or note first.
func lines(r *report.Report) []string {
	list := []string{}
	for _, f := range r.Findings {
		kind := "WRONG "
		if f.Note {
			kind = "note "
		}
		list = append(list, kind+f.Check+": "+f.Seen+"; "+f.Remedy)
	}
	return list
}

// hasLine says whether one line begins with its kind and check and holds the rest.
func hasLine(all []string, begins string, holds ...string) bool {
	for _, line := range all {
		ok := strings.HasPrefix(line, begins)
		for _, text := range holds {
			ok = ok && strings.Contains(line, text)
		}
		if ok {
			return true
		}
	}
	return false
}

func TestLintHeedsContainersThatAreSwitchedOff(t *testing.T) {
	const on = `traefik.enable: "true"`
	for name, c := range map[string]struct {
		with   string
		begins string
		seen   string
		status int
	}{
		"false":       {`traefik.enable: "false"`, "note router: ", "false: Traefik reads no label of wiki", report.StatusGood},
		"other case":  {`traefik.Enable: "0"`, "note router: ", "0: Traefik reads no label of wiki", report.StatusGood},
		"not a truth": {`traefik.enable: "yes"`, "WRONG router: ", "yes: Traefik reads no label of wiki", report.StatusFound},
	} {
		r := lintText(t, strings.Replace(goodFile(t), on, c.with, 1))
		if !hasLine(lines(r), c.begins, c.seen, `nable: "true"`) || r.Status() != c.status {
			t.Errorf("%s: %d %s %q", name, r.Status(), r.Unable, lines(r))
		}
	}
	// A container that is off has no router, and so no way past the bouncer.
	const other = `  other:
    image: wiki
    labels:
      traefik.enable: "false"
      traefik.http.routers.open.rule: Host(` + "`mcp.example.com`" + `)
      traefik.http.routers.open.priority: "5000"
      traefik.http.routers.open.service: wiki@docker
`
	if r := lintText(t, goodFile(t)+other); len(r.Findings) != 0 {
		t.Errorf("off: %q", lines(r))
	}
	if r := lintText(t, goodFile(t)+strings.Replace(other, "false", "true", 1)); r.Status() != report.StatusFound {
		t.Errorf("on: %q", lines(r))
	}
}

func TestLintNotesWhatItWasNotGiven(t *testing.T) {
	const required = "no file that was given has providerIssuer, clientID, clientSecret, resource, sidecarURL of mcpb-wiki@docker"
	for name, content := range map[string]string{
		"a block of labels": "labels:\n  " + optionOf + "publicURL: \"https://mcp.example.com/wiki\"\n",
		"labels alone":      optionOf + "publicURL: \"https://mcp.example.com/wiki\"\n",
		"a list of labels":  "- \"" + optionOf + "publicURL=https://mcp.example.com/wiki\"\n",
		"a part of a service, laid over another file": "services:\n  wiki:\n    labels:\n      " + optionOf + "publicURL: \"https://mcp.example.com/wiki\"\n",
	} {
		r := lintText(t, content)
		if r.Status() != report.StatusGood || !hasLine(lines(r), "note labels: ", required) || !hasLine(lines(r), "note router: ", "none does") || len(r.Findings) != 3 {
			t.Errorf("%s: %s %q", name, r.Unable, lines(r))
		}
	}
	// What is there is judged as ever, and so is a service that is whole.
	for name, c := range map[string]struct{ content, seen string }{
		"a misspelt label": {optionOf + "publicUrl: \"https://mcp.example.com/wiki\"\n" + optionOf + "allowedEmail: you@example.com\n", "unknown label allowedEmail"},
		"a wrong list":     {optionOf + "scopes: \"openid,email\"\n", "label scopes"},
		"a whole service":  {"services:\n  wiki:\n    image: wiki\n    labels:\n      " + optionOf + "resource: wiki\n", "label providerIssuer: required"},
	} {
		if r := lintText(t, c.content); !hasLine(lines(r), "WRONG labels: ", c.seen) {
			t.Errorf("%s: %s %q", name, r.Unable, lines(r))
		}
	}
	const dynamic = "http:\n  routers:\n    wiki: {rule: \"Host(`mcp.example.com`)\", middlewares: [mcpb-wiki@docker], service: wiki@docker}\n"
	if r := lintText(t, dynamic); r.Status() != report.StatusGood || !hasLine(lines(r), "note tenants: ", "name all files") {
		t.Errorf("a router alone: %q", lines(r))
	}
	if r := lintText(t, strings.Replace(dynamic, "middlewares: [mcpb-wiki@docker], ", "", 1)); r.Status() != report.StatusFound {
		t.Errorf("a router without the plugin: %q", lines(r))
	}
	// Where Traefik is given, its routers are expected too.
	alone := regexp.MustCompile(`(?m)^ +traefik\.http\.routers.*\n`).ReplaceAllString(goodFile(t), "")
	if r := lintText(t, alone); !hasLine(lines(r), "WRONG router: ", "none does") {
		t.Errorf("no router beside Traefik: %q", lines(r))
	}
	alone = strings.ReplaceAll(strings.ReplaceAll(alone, "traefik:", "proxy:"), "BOUNCER_HOP_KEY", "OTHER")
	if r := lintText(t, alone); r.Status() != report.StatusGood || !hasLine(lines(r), "note router: ", "none does") {
		t.Errorf("no router and no Traefik: %q", lines(r))
	}
}

// A router past the bouncer may stand in a file that only a file names.
func TestLintNamesFilesThatItDoesNotRead(t *testing.T) {
	for name, c := range map[string]struct{ old, with, named string }{
		"include":              {"services:\n", "include: [more/compose.yaml]\nservices:\n", "more/compose.yaml"},
		"include with a path":  {"services:\n", "include:\n  - path: [a.yaml, b.yaml]\nservices:\n", "b.yaml"},
		"a file of labels":     {"    image: wiki\n", "    image: wiki\n    label_file: wiki.labels\n", "wiki.labels"},
		"extends another file": {"    image: wiki\n", "    image: wiki\n    extends: {file: base.yaml, service: wiki}\n", "base.yaml"},
	} {
		r := lintText(t, strings.Replace(goodFile(t), c.old, c.with, 1))
		if r.Status() != report.StatusGood || !hasLine(lines(r), "note files: "+c.named+" is named here", "docker compose config") {
			t.Errorf("%s: %s %q", name, r.Unable, lines(r))
		}
	}
	for provider, noted := range map[string]bool{"docker: {}": false, "file: {filename: /etc/traefik/dynamic.yaml}": true, "consulCatalog: {}": true, "swarm: {}": true, "providersThrottleDuration: 2s": false} {
		name, _, _ := strings.Cut(provider, ":")
		r := lintWith(t, goodFile(t), staticOfTwoEntryPoints+"providers: {"+provider+"}\n")
		if r.Status() != report.StatusGood || hasLine(lines(r), "note files: Traefik also reads its provider "+name) != noted || noted != (len(r.Findings) > 0) {
			t.Errorf("%s: %s %q", provider, r.Unable, lines(r))
		}
	}
	if r := lintWith(t, "", staticOfTwoEntryPoints+"providers: {docker: {}}\n"); !hasLine(lines(r), "note files: Traefik also reads its provider docker") {
		t.Errorf("Docker without containers: %q", lines(r))
	}
	// One that is given too is read.
	if r := lintWith(t, "include: [traefik.yaml]\n"+goodFile(t), staticOfTwoEntryPoints); len(r.Findings) != 0 {
		t.Errorf("given: %q", lines(r))
	}
}

func TestLintNamesAMiddlewareThatItHasNotSeen(t *testing.T) {
	r := lintText(t, another(t, "routers.open.rule: Host(`o.example.com`)\nrouters.open.middlewares: compress@file,who@file"))
	if r.Status() != report.StatusGood || len(r.Findings) != 1 || !hasLine(lines(r), "note way past: ", "router open", "compress@file before it was not seen", "name the file") {
		t.Errorf("%s %q", r.Unable, lines(r))
	}
	r = lintText(t, another(t, "routers.open.rule: Host(`o.example.com`)\nrouters.open.middlewares: compress@file,mcpb-wiki"))
	if len(r.Findings) != 0 {
		t.Errorf("beside the plugin: %q", lines(r))
	}
}

func TestLintSaysEachFaultOfALabelOnce(t *testing.T) {
	r := lintText(t, strings.Replace(goodFile(t), "      "+optionOf+"scopes", "      "+optionOf+"clientAuth: private_key_jwt\n      "+optionOf+"generation: x\n      "+optionOf+"scopes", 1))
	if len(r.Findings) != 2 || !hasLine(lines(r), "WRONG labels: ", "clientAuth=private_key_jwt") || !hasLine(lines(r), "WRONG labels: ", "label generation") {
		t.Errorf("%s %q", r.Unable, lines(r))
	}
}
