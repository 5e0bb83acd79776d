package main

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// imagesIn are the images of a release, by architecture.
func imagesIn(t *testing.T, release string) map[string]v1.Image {
	t.Helper()
	index, err := indexOf(filepath.Join(release, "image"))
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(index); err != nil {
		t.Error(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]v1.Image{}
	for _, m := range manifest.Manifests {
		if m.MediaType != types.OCIManifestSchema1 || m.Platform == nil || m.Platform.OS != "linux" {
			t.Errorf("the index has %s for %v", m.MediaType, m.Platform)
			continue
		}
		if found[m.Platform.Architecture], err = index.Image(m.Digest); err != nil {
			t.Fatal(err)
		}
	}
	if want := map[bool]int{false: 1, true: 2}[*all]; len(found) != want {
		t.Errorf("%d architectures, want %d", len(found), want)
	}
	return found
}

// unpacked is the file system of an image, with the mode of each file.
func unpacked(t *testing.T, image v1.Image) (dir string, modes map[string]int64) {
	t.Helper()
	dir, modes = t.TempDir(), map[string]int64{}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	stream := mutate.Extract(image)
	defer stream.Close()
	for reader := tar.NewReader(stream); ; {
		header, err := reader.Next()
		if err == io.EOF {
			return dir, modes
		}
		if err != nil {
			t.Fatal(err)
		}
		if header.Uid != 0 || header.Gid != 0 {
			t.Errorf("%s belongs to %d:%d", header.Name, header.Uid, header.Gid)
		}
		to := filepath.Join(dir, header.Name)
		if header.Typeflag == tar.TypeDir {
			err = os.Mkdir(to, 0o755)
		} else {
			modes[header.Name] = header.Mode
			content, _ := io.ReadAll(reader)
			err = os.WriteFile(to, content, os.FileMode(header.Mode))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// Nobody pays for what does not serve: the layers hold the stripped program and the certificates.
func TestImageHoldsTheProgramAndCertificates(t *testing.T) {
	release := releaseOf(t)
	for arch, image := range imagesIn(t, release) {
		t.Run(arch, func(t *testing.T) {
			dir, modes := unpacked(t, image)
			if len(modes) != 2 || modes[program] != 0o755 || modes[certificates] != 0o644 {
				t.Errorf("the image holds %v", modes)
			}
			inImage, err1 := os.ReadFile(filepath.Join(dir, program))
			inArchive, err2 := os.ReadFile(programIn(t, release, platform{"linux", arch}))
			if err := errors.Join(err1, err2); err != nil || !bytes.Equal(inImage, inArchive) {
				t.Errorf("the program is not the archive's: %v", err)
			}
			authorities, err := os.Stat(filepath.Join(dir, certificates))
			if err != nil {
				t.Fatal(err)
			}
			layers, err := image.Layers()
			if err != nil {
				t.Fatal(err)
			}
			whole := int64(0)
			for _, layer := range layers {
				content, err := layer.Uncompressed()
				if err != nil {
					t.Fatal(err)
				}
				n, err := io.Copy(io.Discard, content)
				if err != nil {
					t.Fatal(err)
				}
				whole += n
			}
			parts := int64(len(inImage)) + authorities.Size()
			t.Logf("%d bytes, of which %d are the program and %d certificates", whole, len(inImage), authorities.Size())
			if whole*100 > parts*105 {
				t.Errorf("%d bytes of layers, %d of program and certificates: at most 1.05 times as many", whole, parts)
			}
		})
	}
}

// One image is built by Docker from a checkout, and one by a release. They start, and are asked for
// their health, in the same way.
func TestImageIsConfiguredAsTheDockerfileSays(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(source, "deploy", "compose", "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	_, stage, ok := strings.Cut(string(text), "\nFROM scratch AS sidecar\n")
	if !ok {
		t.Fatal("the Dockerfile has no stage sidecar")
	}
	says := func(pattern string) string {
		found := regexp.MustCompile(`(?m)^` + pattern + `$`).FindStringSubmatch(stage)
		if found == nil {
			t.Fatalf("the stage sidecar has no line %s", pattern)
		}
		return found[1]
	}
	for arch, image := range imagesIn(t, releaseOf(t)) {
		file, err := image.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		list := func(words []string) string {
			text, _ := json.Marshal(words)
			return strings.ReplaceAll(string(text), ",", ", ")
		}
		c := file.Config
		for _, same := range []struct{ line, got string }{
			{`USER (.*)`, c.User},
			{`ENTRYPOINT (.*)`, list(c.Entrypoint)},
			{`CMD (.*)`, list(c.Cmd)},
			{`HEALTHCHECK .* CMD (.*)`, list(c.Healthcheck.Test[1:])},
			{`HEALTHCHECK --interval=(\S+) .*`, c.Healthcheck.Interval.String()},
			{`HEALTHCHECK .*--timeout=(\S+) .*`, c.Healthcheck.Timeout.String()},
		} {
			if want := says(same.line); same.got != want {
				t.Errorf("%s: %s is %q in the image, %q in the Dockerfile", arch, same.line, same.got, want)
			}
		}
		if _, ok := c.ExposedPorts[says(`EXPOSE (.*)`)+"/tcp"]; !ok || len(c.ExposedPorts) != 1 {
			t.Errorf("%s exposes %v", arch, c.ExposedPorts)
		}
		says(`COPY --from=build /(` + regexp.QuoteMeta(certificates) + `) .*`)
		if file.OS != "linux" || file.Architecture != arch {
			t.Errorf("the image for %s says %s/%s", arch, file.OS, file.Architecture)
		}
		for label, want := range map[string]string{"version": version, "revision": "0123456789abcdef", "source": home, "licenses": "MIT"} {
			if got := c.Labels["org.opencontainers.image."+label]; got != want {
				t.Errorf("%s: the label %s is %q, want %q", arch, label, got, want)
			}
		}
	}
}

// The authorities behind the providers of docs/recipes.md are among them; one that Mozilla trusts
// for old certificates only is not.
func TestImageTrustsPublicAuthorities(t *testing.T) {
	names := map[string]bool{}
	for rest := authorities(); ; {
		block, more := pem.Decode(rest)
		if block == nil {
			break
		}
		rest = more
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		names[certificate.Subject.CommonName] = true
	}
	for _, name := range []string{"ISRG Root X1", "GTS Root R1", "DigiCert Global Root G2", "Amazon Root CA 1", "USERTrust RSA Certification Authority"} {
		if !names[name] {
			t.Errorf("%s is missing", name)
		}
	}
	if names["Izenpe.com"] || len(names) < 100 {
		t.Errorf("%d authorities, Izenpe: %v", len(names), names["Izenpe.com"])
	}
}

// The image runs as its configuration says: as nobody, in a file system that has nothing else.
func TestImageServesAndTellsItsHealth(t *testing.T) {
	for arch, image := range imagesIn(t, releaseOf(t)) {
		t.Run(arch, func(t *testing.T) {
			file, err := image.ConfigFile()
			if err != nil {
				t.Fatal(err)
			}
			dir, _ := unpacked(t, image)
			var emulator []string
			if arch != here.arch {
				emulator = emulatorIn(t, dir, arch)
			}
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			addr := listener.Addr().String()
			listener.Close()
			inside := func(words ...string) *exec.Cmd {
				words = append(slices.Clone(emulator), words...)
				command := exec.Command(words[0], words[1:]...)
				command.Dir = "/"
				command.Env = []string{"BOUNCER_LISTEN_ADDR=" + addr, "BOUNCER_ENCRYPTION_KEY=" + strings.Repeat("A", 43) + "="}
				command.SysProcAttr = confined(t, dir, file.Config.User)
				return command
			}
			var log bytes.Buffer
			serve := inside(append(slices.Clone(file.Config.Entrypoint), file.Config.Cmd...)...)
			serve.Stdout, serve.Stderr = &log, &log
			if err := serve.Start(); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- serve.Wait() }()
			t.Cleanup(func() { serve.Process.Kill() })
			for until := time.Now().Add(time.Minute); ; {
				answer, err := http.Get("http://" + addr + "/healthz")
				if err == nil {
					answer.Body.Close()
					if answer.StatusCode == http.StatusOK {
						break
					}
				}
				select {
				case err := <-ended:
					t.Fatalf("ended: %v\n%s", err, &log)
				case <-time.After(10 * time.Millisecond):
				}
				if time.Now().After(until) {
					t.Fatalf("no answer: %v", err)
				}
			}
			if out, err := inside(file.Config.Healthcheck.Test[1:]...).CombinedOutput(); err != nil {
				t.Errorf("health: %v %s", err, out)
			}
			serve.Process.Signal(syscall.SIGTERM)
			if err := <-ended; err != nil {
				t.Errorf("asked to end: %v\n%s", err, &log)
			}
			if out, err := inside(file.Config.Healthcheck.Test[1:]...).CombinedOutput(); err == nil {
				t.Errorf("nothing serves, and the health is good: %s", out)
			}
		})
	}
}

// confined is the folder as root, and the user of the image; without the rights of root, by a
// namespace of one's own.
func confined(t *testing.T, dir, user string) *syscall.SysProcAttr {
	t.Helper()
	uid, gid, _ := strings.Cut(user, ":")
	u, err1 := strconv.Atoi(uid)
	g, err2 := strconv.Atoi(gid)
	if err := errors.Join(err1, err2); err != nil || u == 0 {
		t.Fatalf("user %q", user)
	}
	if os.Getuid() == 0 {
		return &syscall.SysProcAttr{Chroot: dir, Credential: &syscall.Credential{Uid: uint32(u), Gid: uint32(g)}}
	}
	return &syscall.SysProcAttr{
		Chroot: dir, Cloneflags: syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: u, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: g, HostID: os.Getgid(), Size: 1}},
		Credential:  &syscall.Credential{Uid: uint32(u), Gid: uint32(g), NoSetGroups: true},
	}
}

// emulatorIn puts an emulator into the folder: qemu's, which Debian has as qemu-user-static.
func emulatorIn(t *testing.T, dir, arch string) []string {
	t.Helper()
	emulator := "qemu-" + map[string]string{"arm64": "aarch64", "amd64": "x86_64"}[arch] + "-static"
	path, err := exec.LookPath(emulator)
	if err != nil {
		t.Fatalf("apt-get install qemu-user-static: %v", err)
	}
	content, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, emulator), content, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	return []string{"/" + emulator}
}

// A registry gets what the layout holds, and a version that is there is not replaced.
func TestPushOfAnImage(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	to := strings.TrimPrefix(server.URL, "http://") + "/mcpbouncer/mcpbouncer:" + version
	layout := filepath.Join(releaseOf(t), "image")
	want, err := indexOf(layout)
	if err != nil {
		t.Fatal(err)
	}
	digest, err := want.Digest()
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time, everything is there
		got, err := push(layout, to)
		if err != nil || !strings.HasSuffix(got, "/mcpbouncer/mcpbouncer@"+digest.String()) {
			t.Fatalf("%q, %v", got, err)
		}
	}
	tag, err := name.NewTag(to)
	if err != nil {
		t.Fatal(err)
	}
	pulled, err := remote.Index(tag)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(pulled); err != nil {
		t.Error(err)
	}
	r, err := newRelease(source, version, "another", false)
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(program, []byte("another"), 0o755); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(t.TempDir(), "image")
	if _, err := r.image(other, []imageOf{{here, program}}); err != nil {
		t.Fatal(err)
	}
	if _, err := push(other, to); err == nil || !strings.Contains(err.Error(), "is there already") {
		t.Errorf("a version is replaced: %v", err)
	}
	if now, err := remote.Head(tag, remote.WithContext(context.Background())); err != nil || now.Digest != digest {
		t.Errorf("the tag names %v, %v", now, err)
	}
	server.Close()
	if _, err := push(layout, to); err == nil {
		t.Error("a registry that is away is no error")
	}
	for _, bad := range []string{"", "mcpbouncer", fmt.Sprintf("%s/a/b@%s", tag.RegistryStr(), digest)} {
		if _, err := push(layout, bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}
