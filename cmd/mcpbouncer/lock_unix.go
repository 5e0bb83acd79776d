//go:build unix && !onlyserve

package main

import (
	"errors"
	"os"
	"syscall"
)

// lock makes this process the only one that edits a file, until it is closed. A file system without
// locks has none: what two edits do to each other there is found when the result is read back.
func lock(f *os.File) (unlock func(), err error) {
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, errors.New("somebody else is editing this document")
	}
	return func() {}, nil
}
