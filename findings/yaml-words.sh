#!/usr/bin/env bash
# One line of YAML in the three files that a deployment behind Traefik may have: without quotes
# `yes`, `on`, `y` and `No` are words in a compose file (compose-go v2.16.2) and in Traefik's file
# (paerser v0.2.2, as of Traefik v3.7.13), and booleans in a manifest (sigs.k8s.io/yaml v1.6.0, as
# of kubectl). A date is the other way round: text in a manifest, a time in a compose file, and
# Traefik refuses the file for it.
source "$(dirname "$0")/lib.sh"
cat >main.go <<'GO'
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/traefik/paerser/file"
	"sigs.k8s.io/yaml"
)

func compose(value string) string {
	text := "name: finding\nservices: {one: {image: none, labels: {a: " + value + "}}}\n"
	if err := os.WriteFile("compose.yaml", []byte(text), 0o600); err != nil {
		return err.Error()
	}
	options, err := cli.NewProjectOptions([]string{"compose.yaml"})
	if err != nil {
		return err.Error()
	}
	project, err := options.LoadProject(context.Background())
	if err != nil {
		return err.Error()
	}
	return project.Services["one"].Labels["a"]
}

func traefik(value string) string {
	var seen struct{ A string }
	if err := file.DecodeContent("a: "+value, ".yaml", &seen); err != nil {
		return err.Error()
	}
	return seen.A
}

func manifest(value string) string {
	var seen map[string]any
	if err := yaml.Unmarshal([]byte("a: "+value), &seen); err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%T %v", seen["a"], seen["a"])
}

func main() {
	for _, value := range os.Args[1:] {
		fmt.Printf("%s, %s, %s\n", compose(value), traefik(value), manifest(value))
	}
}
GO
go_module github.com/compose-spec/compose-go/v2@v2.16.2 github.com/traefik/paerser@v0.2.2 sigs.k8s.io/yaml@v1.6.0
go mod tidy 2>/dev/null
go run . yes on y No 2026-01-02 '"yes"' >out
seen "yes in the three" "yes, yes, bool true" "$(sed -n 1p out)"
seen "on" "on, on, bool true" "$(sed -n 2p out)"
seen "y" "y, y, bool true" "$(sed -n 3p out)"
seen "No" "No, No, bool false" "$(sed -n 4p out)"
seen "2026-01-02" "2026-01-02 00:00:00 +0000 UTC, field a uses unsupported type: struct, string 2026-01-02" "$(sed -n 5p out)"
seen '"yes"' "yes, yes, string yes" "$(sed -n 6p out)"
done_with "compose-go v2.16.2, paerser v0.2.2, sigs.k8s.io/yaml v1.6.0"
