#!/usr/bin/env bash
# github.com/aws/aws-lambda-go v1.55.1: a program that calls lambda.Start brings the protocol of a
# retired runtime along, by net/rpc and its page of html/template, unless it is built with the tag
# lambda.norpc. That costs more than these packages: they look methods up by name, so that the
# linker keeps each exported method of each type that the program uses, whether it is called or not.
source "$(dirname "$0")/lib.sh"
go_module github.com/aws/aws-lambda-go@v1.55.1
cat >main.go <<'GO'
package main

import "github.com/aws/aws-lambda-go/lambda"

type store struct{}

func (store) Used() string   { return "hello" }
func (store) Unused() string { return "nobody calls this" }

var kept any = store{}

func main() { lambda.Start(func() (string, error) { return kept.(store).Used(), nil }) }
GO
go mod tidy 2>/dev/null
export CGO_ENABLED=0 GOOS=linux
# built TAGS: which of some packages are in the program, and how many methods that nobody calls.
built() {
  go build -trimpath -tags "$1" -o program .
  go list -deps -tags "$1" . | grep -xE 'net/rpc|encoding/gob|html/template' | sort | paste -sd ' '
  go tool nm program | grep -c 'main\.store\.Unused' || true
  go build -trimpath -tags "$1" -ldflags='-s -w' -o "stripped-$1" .
}
seen "without the tag" "encoding/gob html/template net/rpc,1" "$(built "" | paste -sd ,)"
seen "with it" ",0" "$(built lambda.norpc | paste -sd ,)"
without=$(wc -c <stripped-) with=$(wc -c <stripped-lambda.norpc)
echo "stripped: $without and $with bytes"
seen "a quarter more or worse" "yes" "$([ $((without * 4)) -gt $((with * 5)) ] && echo yes || echo no)"
done_with "aws-lambda-go v1.55.1"
