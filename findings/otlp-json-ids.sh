#!/usr/bin/env bash
# OTLP as JSON (go.opentelemetry.io/proto/otlp v1.11.0 with protojson v1.36.12): the generated Go
# types read a span that is as OTLP wants it, with its ids in hexadecimal, without an error, and
# with other ids. Hexadecimal digits are base64 as well, so 16 bytes become 24, and 8 become 12. The
# same types write base64, and names for numbers, which the collector's package (pdata v1.71.0)
# refuses.
source "$(dirname "$0")/lib.sh"
cat >main.go <<'GO'
package main

import (
	"encoding/hex"
	"fmt"

	"go.opentelemetry.io/collector/pdata/ptrace"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/encoding/protojson"
)

const sent = `{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"0af7651916cd43dd8448eb211c80319c",
	"spanId":"b7ad6b7169203331","name":"login","kind":2}]}]}]}`

func collector(text []byte) string {
	traces, err := (&ptrace.JSONUnmarshaler{}).UnmarshalTraces(text)
	if err != nil {
		return "refused"
	}
	span := traces.ResourceSpans().At(0).ScopeSpans().At(0).Spans().At(0)
	return span.TraceID().String() + " " + span.SpanID().String()
}

func main() {
	fmt.Println(collector([]byte(sent)))
	var data tracepb.TracesData
	err := protojson.Unmarshal([]byte(sent), &data)
	span := data.ResourceSpans[0].ScopeSpans[0].Spans[0]
	fmt.Println(err, hex.EncodeToString(span.TraceId), hex.EncodeToString(span.SpanId))

	span.TraceId, _ = hex.DecodeString("0af7651916cd43dd8448eb211c80319c")
	span.SpanId, _ = hex.DecodeString("b7ad6b7169203331")
	text, err := protojson.Marshal(&data)
	fmt.Println(err, span.Kind, collector(text))
}
GO
go_module go.opentelemetry.io/collector/pdata@v1.71.0 go.opentelemetry.io/proto/otlp@v1.11.0 google.golang.org/protobuf@v1.36.12
go mod tidy 2>/dev/null
go run main.go >out
seen "the collector's package reads" "0af7651916cd43dd8448eb211c80319c b7ad6b7169203331" "$(sed -n 1p out)"
seen "error and ids of the generated types" \
  "<nil> d1a7fbeb9d7dd7a71de3775df38e3c79bdb5d5cf34df5f5c 6fb69de9bef5ebddb4df7df5" "$(sed -n 2p out)"
seen "what they write, at the collector's package" "<nil> SPAN_KIND_SERVER refused" "$(sed -n 3p out)"
done_with "proto/otlp v1.11.0, protobuf v1.36.12, pdata v1.71.0"
