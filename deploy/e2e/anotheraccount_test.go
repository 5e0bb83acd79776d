package e2e

import (
	"errors"
	"html"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
)

var (
	anotherAction = regexp.MustCompile(`<form method="post" action="([^"]*)">`)
	anotherField  = regexp.MustCompile(`name="(request|cookie|decision)" value="([^"]*)"`)
	leadsOn       = regexp.MustCompile(`content="0;url=([^"]*)"`)
)

// A person comes to oidc-provider with the wrong account, where they stay signed in, and presses
// the button of the page that refuses them. The provider asks who they are, and the client gets its
// code.
func TestRefusedPersonUsesAnotherAccountAtARealProvider(t *testing.T) {
	t.Parallel()
	w := rig.New(t, rig.Options{OIDCProvider: true, Labels: map[string]string{"world/allowedSubjects": "right", "world/exchange": "callback"}})
	c := w.World.Client()
	// A program on the person's own machine would be told at once.
	c.Redirect = "https://app.example/callback"
	c.ClientID = c.Register(map[string]any{"redirect_uris": []string{c.Redirect}, "token_endpoint_auth_method": "none"}).Member("client_id")
	f := c.Begin()
	b := w.World.Browser()
	b.Username = "wrong"
	_, err := b.Visit(t.Context(), f.URL, c.Redirect)
	var page *rig.Page
	if !errors.As(err, &page) || page.Status != http.StatusForbidden || !strings.Contains(page.Body, "Use another account") {
		t.Fatalf("the wrong account: %v", err)
	}
	form := url.Values{}
	for _, field := range anotherField.FindAllStringSubmatch(page.Body, -1) {
		form.Set(field[1], html.UnescapeString(field[2]))
	}
	resp, err := b.Client.PostForm(html.UnescapeString(anotherAction.FindStringSubmatch(page.Body)[1]), form)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || !leadsOn.Match(body) {
		t.Fatalf("%s %v: %s", resp.Status, err, body)
	}
	b.Username = "right"
	back, err := b.Visit(t.Context(), html.UnescapeString(leadsOn.FindStringSubmatch(string(body))[1]), c.Redirect)
	if err != nil {
		t.Fatal(err)
	}
	answer := c.Redeem(back.Query().Get("code"), f)
	if who := c.Get("/whoami", answer.Member("access_token")); who.Status != http.StatusOK || !strings.Contains(who.Body, `"right"`) {
		t.Errorf("at %s: %s, whoami %s", back, answer, who)
	}
}
