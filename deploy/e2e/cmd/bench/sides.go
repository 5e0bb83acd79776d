package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
)

// side is one revision: its sources, and what was built of them when somebody asked for it.
type side struct {
	root     string
	revision string
	dir      string // for what is built

	program  string            // the sidecar, as the image has it
	programs map[string]string // its test programs, by package
}

// newSides are this tree, and the base if one is named.
func newSides(t rig.T, base string) []*side {
	here := &side{root: rig.Root(), dir: t.TempDir()}
	var err error
	if here.revision, err = output(here.root, "git", "rev-parse", "--short=10", "HEAD"); err != nil {
		t.Fatalf("%v", err)
	}
	changed, err := output(here.root, "git", "status", "--porcelain", "--untracked-files=no")
	if err != nil {
		t.Fatalf("%v", err)
	}
	if changed != "" {
		here.revision += " and changes"
	}
	if base == "" {
		return []*side{here}
	}
	there := &side{dir: t.TempDir()}
	there.root = filepath.Join(there.dir, "tree")
	if there.revision, err = output(here.root, "git", "rev-parse", "--short=10", base+"^{commit}"); err == nil {
		_, err = output(here.root, "git", "worktree", "add", "--detach", there.root, there.revision)
	}
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() { _, _ = output(here.root, "git", "worktree", "remove", "--force", there.root) })
	return []*side{here, there}
}

// sidecar builds the program as the image of its revision has it.
func (s *side) sidecar(t rig.T) string {
	if s.program != "" {
		return s.program
	}
	tags, err := tagsOfImage(s.root)
	if err != nil {
		t.Fatalf("%v", err)
	}
	program := filepath.Join(s.dir, "mcpbouncer")
	cmd := exec.Command("go", "build", "-trimpath", "-tags", tags, "-ldflags=-s -w", "-o", program, "./cmd/mcpbouncer")
	cmd.Dir, cmd.Env = s.root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("cmd/mcpbouncer: %v: %s", err, out)
	}
	s.program = program
	return program
}

// tagsOfImage are the tags that a revision builds its image with: none, or one.
func tagsOfImage(root string) (string, error) {
	file, err := os.ReadFile(filepath.Join(root, "deploy", "compose", "Dockerfile"))
	if err != nil {
		return "", err
	}
	if found := regexp.MustCompile(`-tags (\S+) .*/cmd/mcpbouncer`).FindSubmatch(file); found != nil {
		return string(found[1]), nil
	}
	return "", nil
}

func output(dir, name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	out, err := cmd.Output()
	if failed, is := err.(*exec.ExitError); is {
		err = fmt.Errorf("%s %s: %v: %s", name, strings.Join(args, " "), err, failed.Stderr)
	}
	return strings.TrimSpace(string(out)), err
}
