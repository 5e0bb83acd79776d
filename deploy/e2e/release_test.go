package e2e

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"encoding/pem"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
	"github.com/mcpbouncer/mcpbouncer/issuer/issuertest"
)

// The whole login with the image of a release as the sidecars' file system, at a provider over TLS:
// the image's file of authorities is the one that counts.
func TestLoginWithTheImageOfARelease(t *testing.T) {
	t.Parallel()
	const authorities = "etc/ssl/certs/ca-certificates.crt"
	image := imageOfRelease(t)
	if len(image) != 2 || image["mcpbouncer"] == nil {
		t.Fatalf("the image has %d files", len(image))
	}
	if block, _ := pem.Decode(image[authorities]); block == nil {
		t.Fatalf("/%s has no certificate", authorities)
	}
	provider := issuertest.NewProvider(t, &issuertest.Options{TLS: true})
	w := rig.New(t, rig.Options{
		Image:  image,
		Labels: map[string]string{"world/providerIssuer": provider.Issuer, "world/clientID": provider.ClientID, "world/clientSecret": provider.Secret},
	})
	loginAndRefresh(t, w.Wiki.Client(), w.Wiki.Browser())
	if err := loginOverTLS(t, w.World); err == nil {
		t.Error("an authority that is not in the image is trusted")
	}
	for _, r := range w.Replicas {
		r.PutFile(authorities, append(image[authorities], certificateOf(t, provider.Issuer)...))
		r.Restart(nil)
	}
	if err := loginOverTLS(t, w.World); err != nil {
		t.Error(err)
	}
}

// imageOfRelease builds a release for this machine and reads the files of its image.
func imageOfRelease(t *testing.T) map[string][]byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), "release")
	build := exec.Command("go", "-C", filepath.Join(rig.Root(), "deploy", "release"), "run", ".", "build", "-version", "v0.1.0", "-only", "linux/"+runtime.GOARCH, "-out", out)
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	type descriptor struct{ Digest string }
	var doc struct {
		Manifests []descriptor
		Layers    []descriptor
	}
	blob := func(d descriptor) string {
		return filepath.Join(out, "image", "blobs", strings.ReplaceAll(d.Digest, ":", "/"))
	}
	// from the layout to its index, to the image, to its layers
	for next := filepath.Join(out, "image", "index.json"); len(doc.Layers) == 0; next = blob(doc.Manifests[0]) {
		text, err := os.ReadFile(next)
		if err == nil {
			err = json.Unmarshal(text, &doc)
		}
		if err != nil || len(doc.Manifests) != 1 {
			t.Fatalf("%s: %v", next, err)
		}
	}
	files := map[string][]byte{}
	for _, layer := range doc.Layers {
		packed, err := os.Open(blob(layer))
		if err != nil {
			t.Fatal(err)
		}
		defer packed.Close()
		content, err := gzip.NewReader(packed)
		if err != nil {
			t.Fatal(err)
		}
		for reader := tar.NewReader(content); ; {
			header, err := reader.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if header.Typeflag != tar.TypeReg {
				continue
			}
			text, err := io.ReadAll(reader)
			if err != nil {
				t.Fatal(err)
			}
			files[header.Name] = text
		}
	}
	return files
}
