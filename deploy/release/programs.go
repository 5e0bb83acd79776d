package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/CycloneDX/cyclonedx-gomod/pkg/generate/bin"
	"github.com/rs/zerolog"
)

type platform struct{ os, arch string }

func (p platform) String() string { return p.os + "/" + p.arch }

// platforms are what programs are built for. Only Linux serves: the others are for the computers of
// operators, who look at a deployment from there.
var platforms = []platform{
	{"linux", "amd64"}, {"linux", "arm64"},
	{"darwin", "amd64"}, {"darwin", "arm64"},
	{"windows", "amd64"}, {"windows", "arm64"},
}

func chosen(only string) ([]platform, error) {
	if only == "" {
		return platforms, nil
	}
	var found []platform
	for name := range strings.SplitSeq(only, ",") {
		i := slices.IndexFunc(platforms, func(p platform) bool { return p.String() == name })
		if i < 0 {
			return nil, fmt.Errorf("-only %q: there are %v", name, platforms)
		}
		found = append(found, platforms[i])
	}
	return found, nil
}

// tags: the protocol of a retired runtime of AWS Lambda is left out, which costs 330 KB, and the
// gateway, which builds with that tag leave out otherwise, stays in.
const tags = "lambda.norpc,gateway"

// compile builds with nothing of this machine in it: no paths, no commit, no flags from the
// environment.
func (r *release) compile(p platform, dir string) (string, error) {
	file := filepath.Join(dir, program)
	if p.os == "windows" {
		file += ".exe"
	}
	command := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-tags", tags,
		"-ldflags", "-s -w -buildid= -X main.release="+r.version, "-o", file, module+"/cmd/mcpbouncer")
	command.Dir = r.root
	command.Env = append(os.Environ(), "GOOS="+p.os, "GOARCH="+p.arch, "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off", "GOAMD64=v1", "GOARM64=v8.0", "GOEXPERIMENT=", "GOFIPS140=off")
	command.Stdout, command.Stderr = os.Stderr, os.Stderr
	return file, command.Run()
}

// archive writes a .tar.gz of a program and the licence, with times and modes that are always the
// same.
func (r *release) archive(out, file string) error {
	license, err := os.ReadFile(filepath.Join(r.root, "LICENSE"))
	if err != nil {
		return err
	}
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var packed bytes.Buffer
	z, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		return err
	}
	if err := errors.Join(writeTar(z, r.created, []entry{{filepath.Base(file), 0o755, content}, {"LICENSE", 0o644, license}}), z.Close()); err != nil {
		return err
	}
	return os.WriteFile(out, packed.Bytes(), 0o644)
}

// entry is a file of an archive, or, with a slash at the end of its name, a folder.
type entry struct {
	name    string
	mode    int64
	content []byte
}

// writeTar leaves out who made the archive: everything belongs to root.
func writeTar(w io.Writer, at time.Time, entries []entry) error {
	t := tar.NewWriter(w)
	for _, e := range entries {
		header := &tar.Header{Typeflag: tar.TypeReg, Name: e.name, Mode: e.mode, Size: int64(len(e.content)), ModTime: at, Format: tar.FormatUSTAR}
		if strings.HasSuffix(e.name, "/") {
			header.Typeflag = tar.TypeDir
		}
		if err := t.WriteHeader(header); err != nil {
			return err
		}
		if _, err := t.Write(e.content); err != nil {
			return err
		}
	}
	return t.Close()
}

// lambda calls the program that deploy/lambda documents, so that its zip has one form.
func (r *release) lambda(p platform, out, scratch string) error {
	out, err := filepath.Abs(out)
	if err != nil {
		return err
	}
	command := exec.Command("go", "run", "./deploy/lambda/zip", "-arch", p.arch, "-release", r.version, "-o", out+".zip")
	command.Dir = r.root
	command.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off")
	command.Stdout, command.Stderr = os.Stderr, os.Stderr
	if err := command.Run(); err != nil {
		return err
	}
	packed, err := zip.OpenReader(out + ".zip")
	if err != nil {
		return err
	}
	defer packed.Close()
	content, err := fs.ReadFile(packed, "bootstrap")
	if err != nil {
		return err
	}
	file := filepath.Join(scratch, "lambda-"+p.arch, "bootstrap")
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, content, 0o755)); err != nil {
		return err
	}
	return r.billOfMaterials(out+".cdx.json", file)
}

// billOfMaterials says what a program is made of, as its build info has it: modules with versions
// and hashes, and the Go release. It has no serial number and no time, so that it stays the same.
func (r *release) billOfMaterials(out, file string) error {
	generator, err := bin.NewGenerator(file, bin.WithIncludeStdlib(true), bin.WithVersionOverride(r.version), bin.WithLogger(zerolog.Nop()))
	if err != nil {
		return err
	}
	bom, err := generator.Generate()
	if err != nil {
		return err
	}
	var text bytes.Buffer
	if err := cdx.NewBOMEncoder(&text, cdx.BOMFileFormatJSON).SetPretty(true).Encode(bom); err != nil {
		return err
	}
	return os.WriteFile(out, text.Bytes(), 0o644)
}

// checksums writes SHA256SUMS of all files of the folder itself, as `sha256sum -c` reads it.
func checksums(dir string) error {
	files, err := os.ReadDir(dir) // sorted by name
	if err != nil {
		return err
	}
	var sums strings.Builder
	for _, file := range files {
		if file.IsDir() {
			continue
		}
		content, err := os.ReadFile(filepath.Join(dir, file.Name()))
		if err != nil {
			return err
		}
		fmt.Fprintf(&sums, "%x  %s\n", sha256.Sum256(content), file.Name())
	}
	return os.WriteFile(filepath.Join(dir, "SHA256SUMS"), []byte(sums.String()), 0o644)
}
