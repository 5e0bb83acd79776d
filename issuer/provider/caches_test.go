package provider

import (
	"fmt"
	"testing"
	"time"
)

// What is known of a provider, and of how it treats a client, is kept however many providers the
// operator has, for as long as somebody logs in there. It goes when nobody has for a week or two.
func TestAllProvidersInUseAreKnown(t *testing.T) {
	start := time.Date(2026, 11, 30, 9, 0, 0, 0, time.UTC)
	var documents documentCache
	var treatment standings
	name := func(i int) string { return fmt.Sprint("https://idp.example/", i) }
	const many = 5000
	entries, known := map[string]*documentEntry{}, map[string]*standing{}
	for i := range many {
		entries[name(i)] = documents.entry(name(i), start)
		known[name(i)] = treatment.of(&Client{ID: name(i)}, "", start)
	}
	for day := range 60 {
		now := start.Add(time.Duration(day) * 24 * time.Hour)
		for i := range many / 10 {
			if documents.entry(name(i), now) != entries[name(i)] || treatment.of(&Client{ID: name(i)}, "", now) != known[name(i)] {
				t.Fatalf("day %d: what was known of a provider in use is forgotten", day)
			}
		}
		if day == 6 && (documents.m.Len() != many || treatment.m.Len() != many) {
			t.Errorf("after a week %d and %d are known", documents.m.Len(), treatment.m.Len())
		}
	}
	if documents.m.Len() != many/10 || treatment.m.Len() != many/10 {
		t.Errorf("after two months %d and %d are known, %d are in use", documents.m.Len(), treatment.m.Len(), many/10)
	}
}
