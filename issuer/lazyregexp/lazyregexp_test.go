package lazyregexp

import (
	"sync"
	"testing"
)

func TestPatternIsCompiledOnceAtItsFirstUse(t *testing.T) {
	r := Regexp{Text: `^a+$`}
	if r.compiled != nil {
		t.Fatal("compiled before its first use")
	}
	first := make(chan any, 8)
	var at sync.WaitGroup
	for range cap(first) {
		at.Go(func() {
			if !r.Get().MatchString("aaa") || r.Get().MatchString("ab") {
				t.Error("another pattern")
			}
			first <- r.Get()
		})
	}
	at.Wait()
	close(first)
	for got := range first {
		if got != any(r.compiled) {
			t.Error("compiled more than once")
		}
	}
}

func TestPatternThatIsNonePanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("nobody is told")
		}
	}()
	(&Regexp{Text: `(`}).Get()
}
