package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
	"github.com/traefik/yaegi/interp"
	"github.com/traefik/yaegi/stdlib"
)

// Each trap that plugin/lint_test looks for has a program that prints one thing compiled and
// another in Yaegi, as its head says, and a second one, of what to write instead, that prints the
// same in both. A new Yaegi that falls into a trap no longer, or falls otherwise, is noticed here.
func TestTrapsOfYaegi(t *testing.T) {
	const traps = "plugin/lint_test/testdata/traps"
	gopath, bin := t.TempDir(), t.TempDir()
	rig.PutPlugin(t, gopath, true)
	compile := exec.Command("go", "build", "-o", bin, "./"+traps+"/...")
	compile.Dir = rig.Root()
	if out, err := compile.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	programs, err := filepath.Glob(filepath.Join(gopath, "src", rig.Module, traps, "*", "main.go"))
	if err != nil || len(programs) < 60 {
		t.Fatalf("%d programs: %v", len(programs), err)
	}
	for _, program := range programs {
		name := filepath.Base(filepath.Dir(program))
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile(program)
			if err != nil {
				t.Fatal(err)
			}
			said := map[string]string{}
			for line := range strings.Lines(string(text)) {
				if rest, is := strings.CutPrefix(line, "// "); is {
					who, what, _ := strings.Cut(rest, ":")
					said[who] = strings.TrimSpace(what)
				}
			}
			compiled, interpreted := said["Go"], said["Yaegi"]
			if strings.HasSuffix(name, "-instead") {
				compiled, interpreted = said["Prints"], said["Prints"]
			} else if compiled == interpreted {
				t.Errorf("%q in both is not a trap", compiled)
			}
			out, err := exec.Command(filepath.Join(bin, name)).Output()
			if got := strings.TrimSpace(string(out)); err != nil || got != compiled {
				t.Errorf("compiled it prints %q, not %q: %v", got, compiled, err)
			}
			got := interpret(gopath, program)
			_, fails := strings.CutPrefix(interpreted, "fails: ")
			if got != interpreted && (!fails || !strings.HasPrefix(got, interpreted)) {
				t.Errorf("in Yaegi it prints %q, not %q", got, interpreted)
			}
		})
	}
}

// interpret returns what a program prints in Yaegi, or "fails: " and why it ends before its end.
func interpret(gopath, program string) (printed string) {
	var out bytes.Buffer
	failed := func(cause any) string {
		line, _, _ := strings.Cut(fmt.Sprint(cause), "\n")
		// An error of Yaegi begins with the place in the file.
		if _, rest, is := strings.Cut(line, program+":"); is {
			_, line, _ = strings.Cut(rest, " ")
		}
		return strings.TrimSpace(out.String() + "fails: " + line)
	}
	defer func() {
		if cause := recover(); cause != nil {
			printed = failed(cause)
		}
	}()
	i := interp.New(interp.Options{
		GoPath: gopath, Stdout: &out, Stderr: &bytes.Buffer{},
	})
	if err := i.Use(stdlib.Symbols); err != nil {
		return failed(err)
	}
	if _, err := i.EvalPath(program); err != nil {
		return failed(err)
	}
	return strings.TrimSpace(out.String())
}
