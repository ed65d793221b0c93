package envelope

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"filippo.io/age"
)

// MB/cpu-s is per second of processor time, so that it does not depend on how busy the machine is; peak-MiB is resident memory above what was there before,
// garbage of earlier rounds included.

func benchContents(b *testing.B) map[string][]byte {
	b.Helper()
	noise := make([]byte, 64<<20)
	if _, err := rand.Read(noise); err != nil {
		b.Fatal(err)
	}
	return map[string][]byte{"kubernetes": likeKubernetes(7, 64<<20), "noise": noise}
}

func BenchmarkWriter(b *testing.B) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		b.Fatal(err)
	}
	for name, content := range benchContents(b) {
		for _, verify := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/verify=%t", name, verify), func(b *testing.B) {
				m := startMeter(b, len(content))
				for b.Loop() {
					w, err := NewWriter(io.Discard, Options{Recipients: []age.Recipient{id.Recipient()}, VerifyEncoded: verify})
					if err != nil {
						b.Fatal(err)
					}
					for rest := content; len(rest) > 0; rest = rest[min(len(rest), 32<<10):] { // as etcd's messages
						if _, err := w.Write(rest[:min(len(rest), 32<<10)]); err != nil {
							b.Fatal(err)
						}
					}
					s, err := w.Close()
					if err != nil {
						b.Fatal(err)
					}
					b.ReportMetric(float64(len(content))/float64(s.Size), "ratio")
				}
				m.report(b)
			})
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		b.Fatal(err)
	}
	for name, content := range benchContents(b) {
		stored, s := sealWith(b, content, Options{Recipients: []age.Recipient{id.Recipient()}}, BlockSize)
		for _, whole := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/whole=%t", name, whole), func(b *testing.B) {
				m := startMeter(b, len(content))
				for b.Loop() {
					err := Decode(context.Background(), s.Object("k"), s.ContentSize, fetchFrom(stored), discardAt{},
						DecodeOptions{Identities: []age.Identity{id}, WholeObject: whole})
					if err != nil {
						b.Fatal(err)
					}
				}
				m.report(b)
			})
		}
	}
}

type discardAt struct{}

func (discardAt) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }

// meter measures what a benchmark's loop uses.
type meter struct {
	bytes int
	cpu   time.Duration
	rss   float64
}

func startMeter(b *testing.B, size int) meter {
	b.Helper()
	b.SetBytes(int64(size))
	b.ReportAllocs()
	runtime.GC()
	debug.FreeOSMemory()
	// The peak begins at what is resident now (man 5 proc: clear_refs).
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
		b.Logf("the peak of memory includes earlier benchmarks: %v", err)
	}
	return meter{bytes: size, cpu: processorTime(b), rss: statusMiB(b, "VmRSS:")}
}

func (m meter) report(b *testing.B) {
	b.Helper()
	used := processorTime(b) - m.cpu
	b.ReportMetric(float64(m.bytes)*float64(b.N)/1e6/used.Seconds(), "MB/cpu-s")
	b.ReportMetric(statusMiB(b, "VmHWM:")-m.rss, "peak-MiB")
}

func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

func statusMiB(b *testing.B, field string) float64 {
	b.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if kb, ok := strings.CutPrefix(line, field); ok {
			n, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(kb), " kB"), 64)
			if err != nil {
				b.Fatal(err)
			}
			return n / 1024
		}
	}
	b.Fatalf("no %s in /proc/self/status", field)
	return 0
}
