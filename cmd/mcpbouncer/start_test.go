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
