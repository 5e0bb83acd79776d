#!/usr/bin/env bash
# docker compose (compose-go v2.16.2): the value of a label without quotes is a YAML number, and
# becomes text again by way of a float. A Google subject of 21 digits arrives as
# 1.1016948447438627e+20, 010 as 8, 1.50 as 1.5, a date with a time; nothing warns. The list form
# (- name=value) keeps each character.
source "$(dirname "$0")/lib.sh"
go_module github.com/compose-spec/compose-go/v2@v2.16.2
cat >compose.yaml <<'YAML'
name: finding
services:
  map:
    image: none
    labels:
      subject: 110169484474386276334
      octal: 010
      price: 1.50
      date: 2026-01-02
  list:
    image: none
    labels:
      - subject=110169484474386276334
YAML
cat >main.go <<'GO'
package main

import (
	"context"
	"fmt"

	"github.com/compose-spec/compose-go/v2/cli"
)

func main() {
	options, err := cli.NewProjectOptions([]string{"compose.yaml"})
	if err != nil {
		panic(err)
	}
	p, err := options.LoadProject(context.Background())
	if err != nil {
		panic(err)
	}
	l := p.Services["map"].Labels
	fmt.Println(l["subject"], l["octal"], l["price"], l["date"])
	fmt.Println(p.Services["list"].Labels["subject"])
}
GO
go mod tidy 2>/dev/null
go run main.go >out
seen "map form" "1.1016948447438627e+20 8 1.5 2026-01-02 00:00:00 +0000 UTC" "$(sed -n 1p out)"
seen "list form" "110169484474386276334" "$(sed -n 2p out)"
done_with "compose-go v2.16.2"
