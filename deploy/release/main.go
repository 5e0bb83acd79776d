// release makes everything that a release consists of, on any machine with Go and without Docker:
// programs, archives for AWS Lambda, the image, what they are made of, and checksums. The same
// source and Go release make the same bytes. docs/releasing.md says how it is used.
//
//	go -C deploy/release run . build -version v0.1.0 -out DIR
//	go -C deploy/release run . push -layout DIR/image -to ghcr.io/mcpbouncer/mcpbouncer:v0.1.0
//	go -C deploy/release run . module -version v0.1.0 -out mcpbouncer.zip
//	go -C deploy/release run . prepare -version v0.1.0
package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

const (
	module  = "github.com/mcpbouncer/mcpbouncer"
	program = "mcpbouncer"
	usage   = "usage: release build|push|module|prepare FLAGS"
)

func main() {
	// what flag.ErrHelp says is printed already
	if err := run(os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return errors.New(usage)
	}
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	root := flags.String("root", "../..", "`folder` of the source")
	parse := func() error {
		if err := flags.Parse(args[1:]); err != nil {
			return err
		}
		if flags.NArg() > 0 { // what stands behind it would be passed over
			return fmt.Errorf("%q is no flag: %s -help lists them", flags.Arg(0), args[0])
		}
		return nil
	}
	switch args[0] {
	case "build":
		version := flags.String("version", "", "`version`, such as v0.1.0")
		out := flags.String("out", "", "`folder` to write; it must be empty or not there")
		only := flags.String("only", "", "build for these `platforms` alone, such as linux/amd64,linux/arm64")
		revision := flags.String("revision", "", "`commit` that the image names (default: HEAD, where there is one)")
		final := flags.Bool("final", false, "refuse what is good for a trial alone: changes that are not committed, a version that CHANGELOG.md does not have, pages that say that there is no release")
		if err := parse(); err != nil {
			return err
		}
		r, err := newRelease(*root, *version, *revision, *final)
		if err != nil {
			return err
		}
		return r.build(*out, *only)
	case "push":
		layout := flags.String("layout", "", "`folder` of the image")
		to := flags.String("to", "", "`name` of the image, with its tag")
		if err := parse(); err != nil {
			return err
		}
		digest, err := push(*layout, *to)
		if err == nil {
			fmt.Println(digest)
		}
		return err
	case "module":
		version := flags.String("version", "", "`version`, such as v0.1.0")
		out := flags.String("out", "", "`file` to write: the source as Traefik fetches it from the plugin catalog")
		if err := parse(); err != nil {
			return err
		}
		if *out == "" {
			return errors.New("-out is missing")
		}
		r, err := newRelease(*root, *version, "", false)
		if err != nil {
			return err
		}
		text, err := r.moduleZip()
		if err != nil {
			return err
		}
		return os.WriteFile(*out, text, 0o644)
	case "prepare":
		version := flags.String("version", "", "`version`, such as v0.1.0")
		date := flags.String("date", time.Now().UTC().Format(time.DateOnly), "`day` of the release")
		if err := parse(); err != nil {
			return err
		}
		return prepare(*root, *version, *date)
	}
	return fmt.Errorf("%q is no command\n%s; COMMAND -help lists its flags", args[0], usage)
}

// versionForm is what the plugin catalog takes as a tag: it stops at any other.
var versionForm = regexp.MustCompile(`^v(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z]+(\.[0-9A-Za-z]+)*)?$`)

// release is what the parts of one release are made from.
type release struct {
	root     string // absolute
	version  string
	revision string // "" where nobody knows
	created  time.Time
	notes    string // Markdown, without a heading
	compiler string // the Go release
	log      func(format string, a ...any)
}

func newRelease(root, version, revision string, final bool) (*release, error) {
	if !versionForm.MatchString(version) {
		return nil, fmt.Errorf("-version %q: write vX.Y.Z", version)
	}
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	changelog, err := os.ReadFile(filepath.Join(root, "CHANGELOG.md"))
	if err != nil {
		return nil, err
	}
	part, listed, err := partOf(string(changelog), version)
	if err != nil {
		return nil, err
	}
	r := &release{root: root, version: version, revision: revision, created: part.date, notes: withWholeLinks(part.text, version)}
	r.log = func(format string, a ...any) { fmt.Fprintf(os.Stderr, format+"\n", a...) }
	if r.revision == "" {
		// An archive has no history, and what is not committed is in no commit.
		if changes, err := r.output("git", "status", "--porcelain"); err == nil && changes == "" {
			r.revision, _ = r.output("git", "rev-parse", "HEAD")
		}
	}
	if r.compiler, err = r.output("go", "env", "GOVERSION"); err != nil {
		return nil, err
	}
	if !final && !listed {
		r.log("CHANGELOG.md has no part %s: this is a trial, and its notes are those of Unreleased", version)
	}
	if final {
		return r, r.checkFinal(listed)
	}
	return r, nil
}

// checkFinal names what nobody should find out after a release.
func (r *release) checkFinal(listed bool) error {
	if !listed {
		return fmt.Errorf("CHANGELOG.md has no part %s: `release prepare -version %s` writes it", r.version, r.version)
	}
	changes, err := r.output("git", "status", "--porcelain")
	if err != nil {
		return err
	}
	if changes != "" {
		return fmt.Errorf("not committed:\n%s", changes)
	}
	pages, err := pagesWithoutRelease(r.root)
	if err != nil {
		return err
	}
	if len(pages) > 0 {
		return fmt.Errorf("these pages say that there is no release yet: %s", strings.Join(pages, ", "))
	}
	return nil
}

// output runs a command in the folder of the source.
func (r *release) output(name string, args ...string) (string, error) {
	command := exec.Command(name, args...)
	command.Dir = r.root
	out, err := command.Output()
	if failed, ok := errors.AsType[*exec.ExitError](err); ok {
		err = fmt.Errorf("%s: %w: %s", name, err, failed.Stderr)
	}
	return strings.TrimSpace(string(out)), err
}

func (r *release) build(out, only string) error {
	if out == "" {
		return errors.New("-out is missing")
	}
	if old, err := os.ReadDir(out); err == nil && len(old) > 0 {
		return fmt.Errorf("%s is not empty: name a new folder, or one that is", out)
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	platforms, err := chosen(only)
	if err != nil {
		return err
	}
	scratch, err := os.MkdirTemp("", "mcpbouncer-release-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	var images []imageOf
	for _, p := range platforms {
		r.log("%s", p)
		file, err := r.compile(p, filepath.Join(scratch, p.os+"-"+p.arch))
		if err != nil {
			return err
		}
		name := fmt.Sprintf("%s-%s-%s-%s", program, r.version, p.os, p.arch)
		if err := r.archive(filepath.Join(out, name+".tar.gz"), file); err != nil {
			return err
		}
		if err := r.billOfMaterials(filepath.Join(out, name+".cdx.json"), file); err != nil {
			return err
		}
		if p.os != "linux" {
			continue
		}
		images = append(images, imageOf{p, file})
		name = fmt.Sprintf("%s-%s-lambda-%s", program, r.version, p.arch)
		if err := r.lambda(p, filepath.Join(out, name), scratch); err != nil {
			return err
		}
	}
	digest := ""
	if len(images) > 0 {
		if digest, err = r.image(filepath.Join(out, "image"), images); err != nil {
			return err
		}
		r.log("image %s", digest)
	}
	if err := checksums(out); err != nil {
		return err
	}
	return r.writeNotes(filepath.Join(out, "NOTES.md"), digest)
}

func (r *release) writeNotes(file, digest string) error {
	text := fmt.Sprintf("Built with %s. How to verify it, and to build the same bytes: [docs/releasing.md](%s/blob/%s/docs/releasing.md).\n", r.compiler, home, r.version)
	if digest != "" {
		text = fmt.Sprintf("Image: `%s:%s@%s`\n\n", imageName, r.version, digest) + text
	}
	return os.WriteFile(file, []byte(text+"\n"+cmp.Or(r.notes, "No changes are listed.")+"\n"), 0o644)
}
