// zip builds the sidecar for AWS Lambda: one program, named bootstrap, in one archive. The same
// source and Go release make the same bytes, on any machine and at any time, so that whoever
// deploys can compare them with what somebody else built.
//
//	go run ./deploy/lambda/zip -arch arm64 -o mcpbouncer-lambda-arm64.zip
package main

import (
	"archive/zip"
	"compress/flate"
	"crypto/sha256"
	"encoding/base64"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

func main() {
	arch := flag.String("arch", "arm64", "`architecture` of the function: arm64 or amd64 (AWS's x86_64)")
	out := flag.String("o", "", "`file` to write (default: mcpbouncer-lambda-ARCH.zip)")
	release := flag.String("release", "", "`version` that the program shows, such as v1.2.3")
	flag.Parse()
	if *out == "" {
		*out = "mcpbouncer-lambda-" + *arch + ".zip"
	}
	if err := run(*arch, *release, *out); err != nil {
		fmt.Fprintln(os.Stderr, "zip:", err)
		os.Exit(1)
	}
}

func run(arch, release, out string) error {
	if arch != "arm64" && arch != "amd64" {
		return fmt.Errorf("-arch %q: Lambda runs arm64 and amd64", arch)
	}
	dir, err := os.MkdirTemp("", "mcpbouncer-lambda-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	program := filepath.Join(dir, "bootstrap")
	if err := build(arch, release, program); err != nil {
		return err
	}
	archive, err := os.Create(out)
	if err != nil {
		return err
	}
	defer archive.Close()
	sum := sha256.New()
	if err := pack(io.MultiWriter(archive, sum), program); err != nil {
		return err
	}
	if err := archive.Close(); err != nil {
		return err
	}
	// The form in which AWS shows it: CodeSha256 of get-function.
	fmt.Println(out, base64.StdEncoding.EncodeToString(sum.Sum(nil)))
	return nil
}

// tags leave out what a function has no use for: the protocol of a retired runtime, HTTP/2, since
// providers are asked a few times for each login, and the operator's tools.
const tags = "lambda.norpc,nethttpomithttp2,onlyserve"

// build compiles with nothing of this machine in it: no paths, no commit, no flags from the
// environment.
func build(arch, release, program string) error {
	c := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-tags", tags,
		"-ldflags", "-s -w -buildid= -X main.release="+release, "-o", program, "github.com/mcpbouncer/mcpbouncer/cmd/mcpbouncer")
	c.Env = append(os.Environ(), "GOOS=linux", "GOARCH="+arch, "CGO_ENABLED=0", "GOFLAGS=", "GOAMD64=v1", "GOARM64=v8.0", "GOEXPERIMENT=")
	c.Stdout, c.Stderr = os.Stderr, os.Stderr
	return c.Run()
}

// pack writes the one file, with a time and a mode that are always the same.
func pack(w io.Writer, program string) error {
	content, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	z := zip.NewWriter(w)
	z.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) { return flate.NewWriter(w, flate.BestCompression) })
	header := &zip.FileHeader{Name: "bootstrap", Method: zip.Deflate, Modified: time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)}
	header.SetMode(0o755) // Lambda runs it as somebody else than its owner
	f, err := z.CreateHeader(header)
	if err != nil {
		return err
	}
	if _, err := f.Write(content); err != nil {
		return err
	}
	return z.Close()
}
