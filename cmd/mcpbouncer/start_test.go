package main

import (
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// What a package makes when the program starts is paid at each start, on AWS Lambda at each cold
// one, and stays in memory, whether the command needs it or not. A pattern that counts to 256 takes
// 350 KB alone.
func TestPackagesMakeLittleAtTheStart(t *testing.T) {
	const most = 150_000 // bytes; the largest is the plugin's package, by which lint reads labels
	cmd := exec.Command(os.Args[0], "-test.run", "^$")
	cmd.Env = append(os.Environ(), "GODEBUG=inittrace=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	line := regexp.MustCompile(`(?m)^init (\S+) @.*, (\d+) bytes, \d+ allocs$`)
	ours := 0
	for _, found := range line.FindAllStringSubmatch(string(out), -1) {
		bytes, err := strconv.Atoi(found[2])
		if err != nil {
			t.Fatal(err)
		}
		if found[1] == module+"/cmd/mcpbouncer" {
			continue // its tests make most of it
		}
		if bytes > most {
			t.Errorf("%s makes %d bytes when the program starts, and may make %d", found[1], bytes, most)
		}
		if strings.HasPrefix(found[1], module+"/") {
			ours++
		}
	}
	if ours < 8 {
		t.Errorf("only %d packages of ours were seen in:\n%s", ours, out)
	}
}

// Where one function looks a method up by a name that the linker cannot read, as text/template
// does, the program keeps every method of every type: 2 MB of it, which Lambda loads at each cold
// start.
func TestLinkerKeepsNoMethodsForTheirNames(t *testing.T) {
	const release, zip = "lambda.norpc,gateway", "lambda.norpc,nethttpomithttp2,onlyserve"
	for _, tags := range []string{release, zip} {
		cmd := exec.Command("go", "build", "-buildvcs=false", "-tags", tags, "-ldflags", "-s -w -dumpdep", "-o", os.DevNull, ".")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // as released
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v: %.2000s", tags, err, out)
		}
		const edge, mark = " -> ", " <ReflectMethod>"
		if !strings.Contains(string(out), "main.main"+edge) {
			t.Fatalf("%s: the linker does not say what it links: %.2000s", tags, out)
		}
		for line := range strings.Lines(string(out)) {
			// package reflect has such functions itself, which are linked where they can be called
			if _, linked, _ := strings.Cut(line, edge); strings.Contains(linked, mark) && !strings.HasPrefix(linked, "reflect.") {
				t.Errorf("%s: this looks methods up by names that the linker cannot read: %s", tags, line)
			}
		}
	}
}
