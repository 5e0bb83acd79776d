// Package rest has what Prometheus sets before anybody asks Kubernetes. Nobody does.
package rest

import "context"

// WarningHandlerWithContext would be told of an API that goes away.
type WarningHandlerWithContext interface {
	HandleWarningHeaderWithContext(ctx context.Context, code int, agent, text string)
}

// WarningLogger is told nothing.
type WarningLogger struct{}

// HandleWarningHeaderWithContext does nothing.
func (WarningLogger) HandleWarningHeaderWithContext(context.Context, int, string, string) {}

// SetDefaultWarningHandlerWithContext does nothing.
func SetDefaultWarningHandlerWithContext(WarningHandlerWithContext) {}
