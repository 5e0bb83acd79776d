package issuer

import (
	"log/slog"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer/provider"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// Somebody with another person's upstream code can put it into a login of their own. They can
// neither read nor take away what was learnt from that code.
func TestUnfinishedLoginIsItsOwnersOnly(t *testing.T) {
	s := &Issuer{Config: Config{Now: time.Now, Log: slog.New(slog.DiscardHandler)}}
	tn, mine, other := &tenant{}, sealing.LoginSeed{1}, sealing.LoginSeed{2}
	s.remember(tn, mine, "code", &provider.Answer{AccessToken: "access"})
	recall := func(tn *tenant, seed sealing.LoginSeed) *provider.Answer {
		token, _ := s.recall(tn, seed, "code")
		return token
	}
	for name, got := range map[string]*provider.Answer{"another login": recall(tn, other), "another tenant": recall(&tenant{id: sealing.TenantID{1}}, mine)} {
		if got != nil {
			t.Errorf("%s has what was learnt", name)
		}
	}
	if got := recall(tn, mine); got == nil || got.AccessToken != "access" {
		t.Errorf("its own login has %v", got)
	}
	if recall(tn, mine) != nil {
		t.Error("it was given twice")
	}
}
