#!/usr/bin/env bash
# Yaegi v0.16.1: a method of a value that is bound, deferred or started with go takes its receiver
# when it runs, not where it stands. `go`: a request handler that starts a goroutine for one
# person and then reuses the variable acts for another. Arguments of a deferred call come late
# too, those of a go statement do not.
source "$(dirname "$0")/lib.sh"
cat >main.go <<'GO'
package main

import "fmt"

type person struct{ name string }

func (p person) act(gate, out chan string) { <-gate; out <- p.name }

func (p person) get() string { return p.name }

func (p person) say() { fmt.Println("defer:", p.name) }

func main() {
	gate, out := make(chan string), make(chan string)
	p := person{"ada"}
	get := p.get
	go p.act(gate, out)
	defer p.say()
	p.name = "eve"
	gate <- ""
	fmt.Println("go:", <-out, "value:", get())
}
GO
seen "Go" "go: ada value: ada|defer: ada|" "$(go run main.go | tr '\n' '|')"
seen "Yaegi" "go: eve value: eve|defer: eve|" "$(yaegi main.go | tr '\n' '|')"
done_with "yaegi v0.16.1"
