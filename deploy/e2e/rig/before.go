package rig

import (
	"os"
	"os/exec"
	"path/filepath"
	"sync"
)

// RevisionBefore is the version before this one. There is no release yet, so it is the revision of
// 30 November 2026 to which a label of today is new, dpop. The last tag takes its place when there
// is one.
const RevisionBefore = "b776d3dd36"

// Before is that version, made of what git holds.
type Before struct {
	Root    string // its sources: TraefikConfig.PluginRoot
	Sidecar string // its program: Replica.Replace
}

var buildingBefore sync.Mutex

// BuildBefore makes it once, below build/.
func BuildBefore(t T) Before {
	t.Helper()
	buildingBefore.Lock()
	defer buildingBefore.Unlock()
	dir := filepath.Join(Root(), "build", "before-"+RevisionBefore)
	b := Before{Root: dir, Sidecar: filepath.Join(dir, "build", "mcpbouncer")}
	if _, err := os.Stat(b.Sidecar); err == nil {
		return b
	}
	// Into another folder first: whoever is interrupted leaves nothing behind that looks whole.
	const script = `set -eu
mkdir -p "$0/build"
work=$(mktemp -d "$0/build/before.XXXXXX")
trap 'rm -rf "$work"' EXIT
git -C "$0" archive -o "$work/all.tar" "$1"
mkdir "$work/tree"
tar -xf "$work/all.tar" -C "$work/tree"
cd "$work/tree"
CGO_ENABLED=0 go build -trimpath -tags lambda.norpc -ldflags="-s -w -X main.release=$1" -o build/mcpbouncer ./cmd/mcpbouncer
rm -rf "$2"
mv "$work/tree" "$2"`
	if out, err := exec.Command("bash", "-c", script, Root(), RevisionBefore, dir).CombinedOutput(); err != nil {
		t.Fatalf("rig: the version before cannot be built: %v; a checkout without history gets it by `git fetch --unshallow`\n%s", err, out)
	}
	return b
}
