package term

import (
	"bytes"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestAge(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", 900 * time.Millisecond: "0s", 42 * time.Second: "42s", 310 * time.Second: "5m10s", 11*time.Minute + 5*time.Second: "11m",
		3 * time.Hour: "3h", 52 * time.Hour: "2d4h", 90 * 24 * time.Hour: "90d", -2 * time.Minute: "in 2m",
		math.MaxInt64: "106751d",
	} {
		if got := Age(d); got != want {
			t.Errorf("Age(%v) = %q, want %q", d, got, want)
		}
	}
}

func TestNumbers(t *testing.T) {
	for got, want := range map[string]string{
		Bytes(0): "0 B", Bytes(1 << 20): "1.0 MiB", Bytes(2_400_000_000): "2.2 GiB", Bytes(-1024): "-1.0 KiB",
		Count(720000): "720,000", Seconds(0.344): "0.34s", Seconds(5.12): "5.1s", Seconds(123): "2m3s",
		Time(time.Time{}): "-", Time(time.Date(2026, 3, 1, 4, 5, 6, 7, time.FixedZone("x", 3600))): "2026-03-01 03:05:06Z",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// TestCleanDisarms: a member's name that carries escape sequences must not reach the terminal as such.
func TestCleanDisarms(t *testing.T) {
	got := Clean("m1\x1b[2J\x07\r\nsecond\u202eline\x00 ok ü")
	if want := "m1?[2J?? second?line? ok ü"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if strings.ContainsAny(got, "\x1b\x07\r\n\x00\u202e") {
		t.Errorf("%q still has control characters", got)
	}
}

func TestTable(t *testing.T) {
	var out bytes.Buffer
	err := Table(&out, Columns("id", ">size", "timeline", "problem"), [][]string{
		{"one", "5 B", "", "none"}, {"second", "1,000 B", "", "\x1b[31mred"}, {"third"},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := "ID         SIZE  PROBLEM\none         5 B  none\nsecond  1,000 B  ?[31mred\nthird\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}

func TestFields(t *testing.T) {
	var out bytes.Buffer
	if err := Fields(&out, []Field{{"ID", "x"}, {"Empty", ""}, {"Revision", "12"}, {"", "more"}}); err != nil {
		t.Fatal(err)
	}
	want := "ID:        x\nRevision:  12\n           more\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}

func TestConfirm(t *testing.T) {
	for answer, want := range map[string]bool{"y\n": true, "YES\n": true, " yes": true, "": false, "\n": false, "no\n": false, "yy\n": false} {
		var out bytes.Buffer
		got, err := Confirm(strings.NewReader(answer), &out, "remove?")
		if err != nil || got != want {
			t.Errorf("answer %q: got %v, %v, want %v", answer, got, err, want)
		}
		if out.String() != "remove? [y/N] " {
			t.Errorf("asked %q", out.String())
		}
	}
}

// lockedBuffer lets the test read what the bars' goroutine writes.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestBars(t *testing.T) {
	for i := range 20 { // Close right after the start must not hang, whoever is first
		newBars(&lockedBuffer{}).Close(i%2 == 0)
	}
	var out lockedBuffer
	b := newBars(&out)
	var all sync.WaitGroup
	for _, stage := range []string{"stream", "upload"} {
		all.Go(func() {
			for i := range int64(1001) {
				b.Update(stage, i<<20, 1000<<20)
			}
		})
	}
	all.Wait()
	b.Update("prove", 5, 0)
	b.Close(true)
	b.Close(true)
	b.Update("late", 1, 2)
	got := out.String()
	for _, want := range []string{"stream", "upload", "prove", "1000 MiB"} {
		if !strings.Contains(got, want) {
			t.Errorf("the bars do not show %q:\n%s", want, got)
		}
	}
	if strings.Contains(got, "late") {
		t.Errorf("drawn after Close:\n%s", got)
	}
}

// TestNoBarsWithoutTerminal: a log or a pipe must not receive any of it.
func TestNoBarsWithoutTerminal(t *testing.T) {
	var out bytes.Buffer
	b := NewBars(&out)
	b.Update("stream", 1, 2)
	b.Close(true)
	if out.Len() != 0 {
		t.Errorf("wrote %q", out.String())
	}
}

// TestScreen: what does not fit is cut and counted, and nothing is left of a longer page.
func TestScreen(t *testing.T) {
	var out bytes.Buffer
	s := &Screen{w: &out, size: func() (int, int) { return 5, 3 }}
	if err := s.Draw("one\ntwo too long\nthree\nfour\n"); err != nil {
		t.Fatal(err)
	}
	if want := "\x1b[Hone\x1b[K\r\ntwo t\x1b[K\r\n... a\x1b[K\x1b[J"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
	out.Reset()
	s.Close()
	if out.String() != "\x1b[?25h\x1b[?1049l" {
		t.Errorf("closed with %q", out.String())
	}
	if _, ok := NewScreen(&out); ok {
		t.Error("a buffer is no terminal")
	}
}
