package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"

	mod "golang.org/x/mod/module"
	"golang.org/x/mod/zip"
)

// moduleZip is the source in the form of Go's module proxy, which the plugin catalog hands on to
// Traefik. It has what git has here or would take; modules inside, such as the end-to-end tests,
// are not part of it.
func (r *release) moduleZip() ([]byte, error) {
	list, err := r.output("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	if err != nil {
		return nil, err
	}
	var files []zip.File
	for name := range strings.SplitSeq(strings.Trim(list, "\x00"), "\x00") {
		if info, err := os.Lstat(filepath.Join(r.root, name)); err == nil && info.Mode().IsRegular() {
			files = append(files, sourceFile{r.root, name})
		}
	}
	var text bytes.Buffer
	err = zip.Create(&text, mod.Version{Path: module, Version: r.version}, files)
	return text.Bytes(), err
}

// sourceFile is a file of the source, as golang.org/x/mod/zip asks for it.
type sourceFile struct{ root, name string }

func (f sourceFile) Path() string                 { return filepath.ToSlash(f.name) }
func (f sourceFile) Lstat() (os.FileInfo, error)  { return os.Lstat(filepath.Join(f.root, f.name)) }
func (f sourceFile) Open() (io.ReadCloser, error) { return os.Open(filepath.Join(f.root, f.name)) }
