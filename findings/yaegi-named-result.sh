#!/usr/bin/env bash
# Yaegi v0.16.1: return sets results that have names one after the other. An expression that names a
# result which stands before its own place sees the new value: `return second, first` returns one of
# them twice, and an error text that was to tell the value as it came tells the changed one. A
# struct that is made from the result that it becomes is empty.
source "$(dirname "$0")/lib.sh"
cat >main.go <<'GO'
package main

import "fmt"

type pair struct{ a, b int }

func halves(text string) (first, second string) {
	first = text[:2]
	second = text[2:]
	return second, first
}

func double(n int) (result int, err error) {
	result = n
	return result * 2, fmt.Errorf("%d is too much", result)
}

func turned() (p pair) {
	p = pair{1, 2}
	return pair{p.b, p.a}
}

func main() {
	fmt.Println(halves("abcd"))
	fmt.Println(double(5))
	fmt.Println(turned())
}
GO
seen "Go" "cd ab|10 5 is too much|{2 1}|" "$(go run main.go | tr '\n' '|')"
seen "Yaegi" "cd cd|10 10 is too much|{0 0}|" "$(yaegi main.go | tr '\n' '|')"
done_with "yaegi v0.16.1"
