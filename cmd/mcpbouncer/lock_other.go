//go:build !unix && !onlyserve

package main

import (
	"errors"
	"io/fs"
	"os"
)

// lock makes this process the only one that edits a file, until unlock is called.
func lock(f *os.File) (unlock func(), err error) {
	held, err := os.OpenFile(f.Name()+".lock", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil, errors.New("somebody else is editing this document; if not, remove " + f.Name() + ".lock")
	}
	if err != nil {
		return nil, err
	}
	return func() { held.Close(); os.Remove(held.Name()) }, nil
}
