package rig

import (
	"context"
	"fmt"
	"os"
)

// Life is how long a program runs that is not a test, in the form that this package wants: what was
// started last ends first.
type Life struct {
	ctx      context.Context
	name     string
	cleanups []func()
	failed   bool
}

// NewLife begins. The name is that of the program, and stands in those of its folders.
func NewLife(ctx context.Context, name string) *Life { return &Life{ctx: ctx, name: name} }

// fatal carries a message out of a part that could not start.
type fatal string

// End stops everything and turns a message of Fatalf into the error of the program. It is deferred.
func (l *Life) End(err *error) {
	if r := recover(); r != nil {
		message, ok := r.(fatal)
		if !ok {
			panic(r)
		}
		*err = fmt.Errorf("%s", string(message))
	}
	for i := len(l.cleanups) - 1; i >= 0; i-- {
		l.cleanups[i]()
	}
}

func (l *Life) Helper()                  {}
func (l *Life) Cleanup(f func())         { l.cleanups = append(l.cleanups, f) }
func (l *Life) Context() context.Context { return l.ctx }
func (l *Life) Failed() bool             { return l.failed }
func (l *Life) Logf(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
}

func (l *Life) Fatalf(format string, args ...any) {
	l.failed = true
	panic(fatal(fmt.Sprintf(format, args...)))
}

func (l *Life) TempDir() string {
	dir, err := os.MkdirTemp("", "mcpbouncer-"+l.name+"-")
	if err != nil {
		l.Fatalf("%v", err)
	}
	l.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}
