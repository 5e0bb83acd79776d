#!/usr/bin/env bash
# Yaegi v0.16.1: a type that hides its value in a String method hides it from fmt where it is
# printed by itself. In a slice, a map or a struct fmt prints the value. log/slog prints it
# everywhere, also of a type with LogValue. A secret that is kept out of logs so is in them.
source "$(dirname "$0")/lib.sh"
cat >main.go <<'GO'
package main

import (
	"fmt"
	"log/slog"
	"os"
)

type secret string

func (s secret) String() string { return "hidden" }

type token string

func (t token) LogValue() slog.Value { return slog.StringValue("hidden") }

type login struct{ Key secret }

func main() {
	key := secret("value")
	fmt.Println(key, []secret{key}, map[string]secret{"a": key}, login{key})
	slog.New(slog.NewTextHandler(os.Stdout, nil)).Info("", "token", token("value"), "key", key, "keys", []secret{key})
}
GO
go run main.go | sed 's/time=.*msg="" //' >go
yaegi main.go | sed 's/time=.*msg="" //' >interpreted
seen "Go, fmt" "hidden [hidden] map[a:hidden] {hidden}" "$(sed -n 1p go)"
seen "Yaegi, fmt" "hidden [value] map[a:value] {value}" "$(sed -n 1p interpreted)"
seen "Go, log/slog" "token=hidden key=hidden keys=[hidden]" "$(sed -n 2p go)"
seen "Yaegi, log/slog" "token=value key=value keys=[value]" "$(sed -n 2p interpreted)"
done_with "yaegi v0.16.1"
