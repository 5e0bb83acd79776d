package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"os"
)

// life is how long the demo runs, in the form that package rig wants: what was started last ends
// first.
type life struct {
	ctx      context.Context
	cleanups []func()
	failed   bool
}

// fatal carries a message out of a part that could not start.
type fatal string

// end stops everything and turns a fatal into the error of the demo.
func (l *life) end(err *error) {
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

func (l *life) Helper()                  {}
func (l *life) Cleanup(f func())         { l.cleanups = append(l.cleanups, f) }
func (l *life) Context() context.Context { return l.ctx }
func (l *life) Failed() bool             { return l.failed }
func (l *life) Logf(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
}

func (l *life) Fatalf(format string, args ...any) {
	l.failed = true
	panic(fatal(fmt.Sprintf(format, args...)))
}

func (l *life) TempDir() string {
	dir, err := os.MkdirTemp("", "mcpbouncer-demo-")
	if err != nil {
		l.Fatalf("%v", err)
	}
	l.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func listen(l *life, addr string) net.Listener {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		l.Fatalf("%v (choose another address with ADDR=localhost:PORT)", err)
	}
	return listener
}

func serve(l *life, listener net.Listener, handler http.Handler) {
	server := &http.Server{Handler: handler}
	l.Cleanup(func() { _ = server.Close() })
	go func() { _ = server.Serve(listener) }()
}

func newMasterSecret() string {
	secret := make([]byte, 32)
	rand.Read(secret)
	return base64.StdEncoding.EncodeToString(secret)
}
