#!/usr/bin/env bash
# Yaegi v0.16.1: a plugin holds memory for as long as Traefik runs, by two rules that Go does not
# have. Each name, number and operator in its source is a node of some 350 bytes that stays, whether
# it is ever run or not: the short function below holds 12 KB, and a comment of the same length
# nothing. And the name of a struct type is the whole text of the struct and of all structs behind
# its pointers, each time that one is reached; a pointer to it, a slice, a map or a function of it
# has such a name too. So two pointers at each of twelve steps are a name of 192 KB. Nothing behind
# an interface is spelt out. In Go a type's name is its name.
source "$(dirname "$0")/lib.sh"

# heap KIND: a program with 1000 functions, or comments, that are never run; it prints KB of each.
heap() {
  cat <<'GO'
package main

import (
	"fmt"
	"runtime"
)

func main() {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	fmt.Println(m.HeapAlloc)
}
GO
  for n in $(seq 1000); do
    case $1 in
    code) echo "func unused$n(a, b int) int { if a > b { return a - b + $n }; return b - a }" ;;
    comment) echo "// func unused$n(a, b int) int { if a > b { return a - b + $n }; return b - a }" ;;
    esac
  done
}

# names FIELDS: a program with types of twelve steps, each with these fields for the next; it prints
# the length of the first one's name.
names() {
  echo 'package main'
  echo 'import ("fmt"; "reflect")'
  for n in $(seq 12); do
    echo "type step$n struct { ${1//NEXT/step$((n + 1))} }"
  done
  echo 'type step13 struct { end int }'
  echo 'func main() { fmt.Println(len(reflect.TypeOf(step1{}).String())) }'
}

live() {
  heap "$1" >"$1.go"
  $2 "$1.go"
}
kilobytes() { echo $((($(live "$1" "$2") - $(live none "$2")) / 1000000)); }
seen "KB that a function holds, Go" 0 "$(kilobytes code 'go run')"
seen "KB that a function holds, Yaegi" 12 "$(kilobytes code yaegi)"
seen "KB that a comment holds, Yaegi" 0 "$(kilobytes comment yaegi)"

names 'left, right *NEXT' >twice.go
names 'left *NEXT; right interface{ Next() *NEXT }' >interface.go
seen "characters of a name, Go" "10" "$(go run twice.go)"
seen "characters of a name, Yaegi" "192484" "$(yaegi twice.go)"
seen "characters of a name with an interface instead of one pointer, Yaegi" "595" "$(yaegi interface.go)"
done_with "yaegi v0.16.1"
