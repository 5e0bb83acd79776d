//go:build lambda.norpc && !gateway

package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
)

// A program of the size that AWS Lambda loads quickly has no gateway.
var errNoGateway = errors.New("this build has no gateway, and answers no other proxies: take a release's image or program, or build without the tag lambda.norpc")

func runGateway(io.Writer) error { return errNoGateway }

func (*sidecar) answerProxies(context.Context, *environment, *slog.Logger) error {
	return errNoGateway
}
