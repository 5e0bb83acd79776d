package issuer

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"strings"
	"testing"

	"github.com/mcpbouncer/mcpbouncer/issuer/provider"
)

// Each error of package provider has one outward answer. Only the operator's log has its text.
func TestProviderErrorsHaveOneAnswer(t *testing.T) {
	answers := map[string]struct {
		err    error
		status int
		code   string
		says   string
	}{
		"ErrAway":          {provider.ErrAway, 503, "temporarily_unavailable", "cannot be reached"},
		"ErrSetUp":         {provider.ErrSetUp, 503, "temporarily_unavailable", "as it is set up here"},
		"ErrUnavailable":   {provider.ErrUnavailable, 503, "temporarily_unavailable", "is not available"},
		"ErrUnclear":       {provider.ErrUnclear, 503, "temporarily_unavailable", "no clear answer"},
		"ErrUnreadable":    {provider.ErrUnreadable, 503, "temporarily_unavailable", "cannot be used"},
		"ErrEnded":         {provider.ErrEnded, 400, "invalid_grant", "ended this login"},
		"ErrAssertion":     {provider.ErrAssertion, 400, "invalid_grant", "the assertion is not accepted"},
		"ErrCode":          {provider.ErrCode, 400, "invalid_grant", "the authorization code is no longer valid"},
		"ErrLost":          {provider.ErrLost, 400, "invalid_grant", "answer was lost"},
		"ErrNeverRead":     {provider.ErrNeverRead, 400, "invalid_grant", "were not accepted"},
		"ErrUpstreamToken": {provider.ErrUpstreamToken, 400, "invalid_grant", "ended this login"},
		"ErrNeedsMore":     {provider.ErrNeedsMore, 400, "invalid_grant", "needs to know more"},
		"ErrRefused":       {provider.ErrRefused, 400, "access_denied", "the server's log says why"},
		"ErrOurFault":      {provider.ErrOurFault, 500, "server_error", "did not accept this server"},
		"ErrConfiguration": {provider.ErrConfiguration, 500, "server_error", "not configured correctly"},
	}
	for name, want := range answers {
		got := asError(fmt.Errorf("secret detail: %w", want.err))
		if got.Status != want.status || got.Code != want.code || !strings.Contains(got.Description, want.says) {
			t.Errorf("%s: %d %s %q", name, got.Status, got.Code, got.Description)
		}
		if strings.Contains(got.Description, "detail") || !strings.Contains(got.cause.Error(), "secret detail") || !errors.Is(got, want.err) {
			t.Errorf("%s: the cause belongs into the log: %q, cause %v", name, got.Description, got.cause)
		}
		if waits := got.retryAfter > 0; waits != (got.Status == http.StatusServiceUnavailable) {
			t.Errorf("%s: retry after %d s", name, got.retryAfter)
		}
	}
	file, err := parser.ParseFile(token.NewFileSet(), "provider/errors.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, decl := range file.Decls {
		vars, ok := decl.(*ast.GenDecl)
		if !ok || vars.Tok != token.VAR {
			continue
		}
		for _, spec := range vars.Specs {
			for _, name := range spec.(*ast.ValueSpec).Names {
				// Revoke alone returns ErrNotRevocable, and revoke.go answers it.
				if _, tested := answers[name.Name]; name.IsExported() && !tested && name.Name != "ErrNotRevocable" {
					t.Errorf("%s has no answer here", name.Name)
				}
			}
		}
	}
	if got := asError(errors.New("something else")); got.Code != "server_error" || got.Description != "something went wrong here" {
		t.Errorf("an error of another kind: %v", got)
	}
}
