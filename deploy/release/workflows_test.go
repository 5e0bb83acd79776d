package main

import (
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rhysd/actionlint"
)

const workflows = source + "/.github/workflows"

// GitHub runs them nowhere but there, so a mistake would be seen with the first tag.
func TestWorkflowsAreWithoutMistakes(t *testing.T) {
	linter, err := actionlint.NewLinter(io.Discard, &actionlint.LinterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(workflows + "/*.yml")
	if err != nil || len(files) != 2 {
		t.Fatal(files, err)
	}
	root, err := filepath.Abs(source)
	if err != nil {
		t.Fatal(err)
	}
	for i := range files {
		if files[i], err = filepath.Abs(files[i]); err != nil {
			t.Fatal(err)
		}
	}
	project, err := actionlint.NewProject(root)
	if err != nil {
		t.Fatal(err)
	}
	mistakes, err := linter.LintFiles(files, project)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range mistakes {
		t.Errorf("%s:%d: %s", strings.TrimPrefix(m.Filepath, root+"/"), m.Line, m.Message)
	}
	broken := strings.Replace(read(t, "release.yml"), "steps.image.outputs.digest", "steps.images.outputs.digest", 1)
	if mistakes, err := linter.Lint("broken.yml", []byte(broken), nil); err != nil || len(mistakes) != 1 {
		t.Errorf("a step that is not there: %v, %v", mistakes, err)
	}
}

func read(t *testing.T, workflow string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(workflows, workflow))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var (
	uses   = regexp.MustCompile(`(?m)^ +(?:- )?uses: (.*)$`)
	pinned = regexp.MustCompile(`^[a-z-]+/[a-z-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$`)
)

// What an action's owner does to a tag later changes nothing here, no step finds a token that it
// was not given, and nothing that a stranger can name becomes part of a script.
func TestWorkflowsTrustNobodyMoreThanTheyMust(t *testing.T) {
	for _, file := range []string{"test.yml", "release.yml"} {
		text := read(t, file)
		checkouts := 0
		for _, m := range uses.FindAllStringSubmatch(text, -1) {
			if strings.HasPrefix(m[1], "actions/checkout@") {
				checkouts++
			}
			if !pinned.MatchString(m[1]) && m[1] != "./.github/workflows/test.yml" {
				t.Errorf("%s uses %s: name the commit, and the version in a comment", file, m[1])
			}
		}
		if n := strings.Count(text, "persist-credentials: false"); n != checkouts || n == 0 {
			t.Errorf("%s checks out %d times, and keeps no token %d times", file, checkouts, n)
		}
		if strings.Contains(text, "pull_request_target") {
			t.Errorf("%s runs strangers' code with the rights of the repository", file)
		}
		workflow, mistakes := actionlint.Parse([]byte(text))
		if len(mistakes) > 0 {
			t.Fatal(mistakes)
		}
		if workflow.Permissions == nil || workflow.Permissions.All != nil {
			t.Errorf("%s does not say what it may do", file)
		}
		for name, job := range workflow.Jobs {
			for _, step := range job.Steps {
				if run, ok := step.Exec.(*actionlint.ExecRun); ok && strings.Contains(run.Run.Value, "${{") {
					t.Errorf("%s: %s puts an expression into a script: %s", file, name, run.Run.Value)
				}
			}
			if file == "release.yml" && name != "publish" && job.Permissions != nil {
				for scope, p := range job.Permissions.Scopes {
					if p.Value.Value != "read" {
						t.Errorf("%s may %s %s", name, p.Value.Value, scope)
					}
				}
			}
		}
	}
}

// A change lands and a release is made by what everybody can run.
func TestWorkflowsRunWhatIsInTheRepository(t *testing.T) {
	for file, commands := range map[string][]string{
		"test.yml":    {"run: .ci/run\n"},
		"release.yml": {"uses: ./.github/workflows/test.yml\n", "go -C deploy/release run . build -final ", "go -C deploy/release run . push ", "NOTES.md", "SHA256SUMS"},
	} {
		for _, command := range commands {
			if !strings.Contains(read(t, file), command) {
				t.Errorf("%s has no %q", file, command)
			}
		}
	}
}
