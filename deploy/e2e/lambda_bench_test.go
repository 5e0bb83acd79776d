package e2e

import (
	"encoding/json"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/mcpbouncer/mcpbouncer/deploy/e2e/rig"
)

// BenchmarkLambda measures the program of the real zip over the real Runtime API.
// docs/benchmarks.md has the budgets.
func BenchmarkLambda(b *testing.B) {
	for _, program := range []string{"the sidecar", "nothing", "runtimeonly"} {
		deploy := func(b *testing.B) *rig.Lambda {
			l := rig.StartLambda(b, &rig.Logs{}, lambdaKey(b), nil)
			if program != "the sidecar" {
				l.Replace(b, build(b, program))
			}
			return l
		}
		// exec to the first call for work; the median, since the machine is shared
		b.Run("init/"+program, func(b *testing.B) {
			l := deploy(b)
			l.Launch(build(b, "launcher"))
			var took, cpu []time.Duration
			faults := 0
			b.ResetTimer()
			for range b.N {
				e := l.Cold()
				u := e.Usage()
				if e.Init <= 0 || u.CPU <= 0 || u.Faults <= 0 {
					b.Fatalf("init %s, used %+v: was it started by the launcher?", e.Init, u)
				}
				took, cpu, faults = append(took, e.Init), append(cpu, u.CPU), faults+u.Faults
				e.End()
			}
			b.ReportMetric(float64(slices.Min(took).Microseconds())/1000, "ms-to-next-at-least")
			b.ReportMetric(float64(median(took).Microseconds())/1000, "ms-to-next")
			b.ReportMetric(float64(median(cpu).Microseconds())/1000, "cpu-ms")
			b.ReportMetric(float64(faults)/float64(b.N), "faults/op")
		})
		if program == "runtimeonly" { // it answers nothing
			continue
		}
		b.Run("refused/"+program, func(b *testing.B) { // a warm environment and a stranger
			e := deploy(b).Cold()
			e.Thaw()
			r := httptest.NewRequest("GET", "/oauth/authorize?client_id=x", nil)
			r.Header.Set("X-Mcpb-Hop", "mbh1_forged")
			event := rig.FunctionURL.Event(b, r, nil)
			refused := func(n int) {
				for range n {
					var a struct {
						StatusCode int `json:"statusCode"`
					}
					if got := e.Deliver(event); got.Err != nil || json.Unmarshal(got.Body, &a) != nil || a.StatusCode != 403 {
						b.Fatalf("%s, %v", got.Body, got.Err)
					}
				}
			}
			refused(500)
			before := e.Usage()
			b.ResetTimer()
			refused(b.N)
			b.ReportMetric(float64((e.Usage().CPU-before.CPU).Nanoseconds())/1000/float64(b.N), "cpu-us/op")
		})
	}
	b.Run("login", func(b *testing.B) { // one environment from registration to refresh
		w := rig.New(b, rig.Options{Lambda: true, Alone: true, Sidecar: map[string]string{"BOUNCER_LOG_LEVEL": "info"}})
		w.Lambda.Settle()
		c := w.Wiki.Client()
		n := len(w.Lambda.Environments())
		e := w.Lambda.Environments()[n-1]
		for range b.N {
			tokens := c.Tokens(w.Wiki.Browser())
			if answer := c.Refresh(tokens.Member("refresh_token")); answer.Status != 200 {
				b.Fatalf("refresh: %s", answer)
			}
			if b.N == 1 {
				b.ReportMetric(float64(e.Usage().CPU.Microseconds())/1000, "cpu-ms-with-start")
			}
		}
		if len(w.Lambda.Environments()) != n {
			b.Fatal("more than one environment took part")
		}
		b.ReportMetric(float64(e.Usage().Peak)/1e6, "MB-peak")
	})
}

// BenchmarkPageFault measures how long the machine takes for a new page, of which a start needs
// hundreds: the most important figure about a machine for those of BenchmarkLambda/init.
func BenchmarkPageFault(b *testing.B) {
	const pages = 1024
	size := pages * os.Getpagesize()
	for n := 0; n < b.N; n += pages {
		memory, err := syscall.Mmap(-1, 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
		if err != nil {
			b.Fatal(err)
		}
		// else some kernels give 512 pages at once; those that never do say that they cannot
		_ = syscall.Madvise(memory, syscall.MADV_NOHUGEPAGE)
		for i := 0; i < size && n+i/os.Getpagesize() < b.N; i += os.Getpagesize() {
			memory[i] = 1
		}
		if err := syscall.Munmap(memory); err != nil {
			b.Fatal(err)
		}
	}
}

func median(d []time.Duration) time.Duration {
	return slices.Sorted(slices.Values(d))[len(d)/2]
}

// build makes a program of the folder cmd, as the zip's is made.
func build(t rig.T, name string) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), name)
	cmd := exec.Command("go", "build", "-trimpath", "-tags", "lambda.norpc", "-ldflags", "-s -w", "-o", program, "./cmd/"+name)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return program
}

func lambdaKey(t rig.T) map[string]string {
	return map[string]string{"BOUNCER_ENCRYPTION_KEY": rig.Keygen(t, &rig.Secrets{}).Encryption, "BOUNCER_LOG_LEVEL": "info"}
}
