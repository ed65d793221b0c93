package plan

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"etcd-steward/internal/fail"
)

func testPlan(t testing.TB) *Plan {
	t.Helper()
	p, err := New(Plan{Kind: "test", Title: "a test", Cluster: "1", Made: time.Unix(1, 0), Steps: []Step{
		{Name: "a", Party: "m1", Action: "x", Args: json.RawMessage(` {"k": [1, "<&>"] } `)}, {Name: "b", Party: "m2", Action: "x", After: []string{"a"}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// journalOf makes a journal of three lines and returns its file.
func journalOf(t testing.TB, dir string) string {
	t.Helper()
	j, err := OpenJournal(dir, testPlan(t), "m1")
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	for _, l := range []Line{{What: claimedLine}, {What: Begun, Step: "a"}, {What: DoneOK, Step: "a", Result: json.RawMessage(`{"id":"1\n2"}`)}} {
		if err := j.Append(l); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, testPlan(t).ID, "journal-m1.log")
}

func TestJournal(t *testing.T) {
	dir := t.TempDir()
	path := journalOf(t, dir)
	j, err := OpenJournal(dir, testPlan(t), "m1")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(j.Result("a")), `{"id":"1\n2"}`; j.Mark("a") != DoneOK || got != want {
		t.Errorf("a is %q with %s, want done with %s", j.Mark("a"), got, want)
	}
	if _, err := OpenJournal(dir, testPlan(t), "m1"); !errors.Is(err, ErrBusy) || fail.ExitCode(err) != fail.Unsafe {
		t.Errorf("opened twice: %v", err)
	}
	other, err := OpenJournal(dir, testPlan(t), "m2") // another party's is another journal
	if err != nil {
		t.Fatal(err)
	}
	other.Close()
	if err := j.Append(Line{What: claimedLine}); err != nil {
		t.Fatal(err)
	}
	if j.Mark("a") != "" {
		t.Errorf("a is %q although another machine was at it", j.Mark("a"))
	}
	j.Close()
	for _, name := range []string{filepath.Dir(path), path} {
		st, err := os.Stat(name)
		if err != nil || st.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v, %v: want it closed to others", name, st.Mode(), err)
		}
	}
}

// Wherever a crash tore the last line, what comes before it counts, and the journal goes on.
func TestTornJournal(t *testing.T) {
	dir := t.TempDir()
	path := journalOf(t, dir)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for n := range whole {
		lines := bytes.Count(whole[:n], []byte("\n"))
		if n%7 != 0 && whole[n] != '\n' && n+1 != len(whole) { // not all of them: each is synced
			continue
		}
		if err := os.WriteFile(path, whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		want := map[int]Mark{0: "", 1: "", 2: Begun}[lines]
		j, err := OpenJournal(dir, testPlan(t), "m1")
		if err != nil || j.Mark("a") != want {
			t.Fatalf("torn at %d: %v, a is %q, want %q", n, err, j.Mark("a"), want)
		}
		if err := j.Append(Line{What: Failed, Step: "a"}); err != nil {
			t.Fatal(err)
		}
		j.Close()
		if j, err = OpenJournal(dir, testPlan(t), "m1"); err != nil || j.Mark("a") != Failed || j.seq != lines+1 {
			t.Fatalf("torn at %d, then appended: %v, a is %q, %d lines", n, err, j.Mark("a"), j.seq)
		}
		j.Close()
	}
}

// A flipped byte is found; only in the last line it can be a crash's doing.
func TestDamagedJournal(t *testing.T) {
	whole, err := os.ReadFile(journalOf(t, t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	var starts []int
	for i := range whole {
		if i == 0 || whole[i-1] == '\n' {
			starts = append(starts, i)
		}
	}
	for i := range whole {
		for _, flip := range []byte{1, 0x20, 0x80} {
			raw := bytes.Clone(whole)
			raw[i] ^= flip
			lines, good, err := parseJournal(raw)
			switch {
			case len(lines) == len(starts):
				t.Fatalf("byte %d ^ %x is not noticed", i, flip)
			case i < starts[2]-1 && err == nil:
				t.Fatalf("byte %d ^ %x: %d lines and no error", i, flip, len(lines))
			case i >= starts[2] && (err != nil || good != starts[2]):
				t.Fatalf("byte %d ^ %x, in the last line: %d good bytes, %v", i, flip, good, err)
			}
		}
	}
	dir := t.TempDir()
	path := journalOf(t, dir)
	whole[3] ^= 1
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenJournal(dir, testPlan(t), "m1"); fail.ExitCode(err) != fail.Unsafe || fail.HintOf(err) == "" {
		t.Errorf("got %v, hint %q", err, fail.HintOf(err))
	}
	if got, _ := os.ReadFile(path); !bytes.Equal(got, whole) {
		t.Error("the damaged journal was changed")
	}
}

// A disk that is full leaves no line in the middle that nobody can read.
func TestBrokenJournal(t *testing.T) {
	dir := t.TempDir()
	journalOf(t, dir)
	j, err := OpenJournal(dir, testPlan(t), "m1")
	if err != nil {
		t.Fatal(err)
	}
	if err := j.f.Close(); err != nil {
		t.Fatal(err)
	}
	first := j.Append(Line{What: Begun, Step: "a"})
	if second := j.Append(Line{What: Begun, Step: "a"}); first == nil || !errors.Is(second, first) {
		t.Errorf("got %v, then %v", first, second)
	}
	if j, err = OpenJournal(dir, testPlan(t), "m1"); err != nil {
		t.Fatal(err)
	}
	if err := j.Append(Line{What: Failed, Step: "a", Error: string(make([]byte, maxLine))}); err == nil {
		t.Error("a line longer than a reader accepts was written")
	}
	j.Close()
}

// The table is what the order of writing allows; TestKill* come to all of it that is allowed.
func TestReconcile(t *testing.T) {
	marks := []Mark{"", Begun, Failed, DoneOK, Undoing, Undone}
	possible := map[Mark]string{"": "111111", Begun: "111111", Failed: "111111", DoneOK: "011111", Undoing: "011111", Undone: "000011"}
	for _, here := range marks {
		got := ""
		for _, board := range marks {
			if reconcile(here, board) == nil {
				got += "1"
			} else {
				got += "0"
			}
		}
		if got != possible[here] {
			t.Errorf("%q here: %s, want %s", here, got, possible[here])
		}
	}
}

func FuzzJournal(f *testing.F) {
	whole, err := os.ReadFile(journalOf(f, f.TempDir()))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(whole[:len(whole)-5])
	f.Add([]byte(`{"seq":1,"plan":"x","party":"m1","what":"begun","step":"a"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var summed []byte // so that chance gets past the checksum
		for body := range bytes.Lines(raw) {
			body = bytes.TrimSuffix(body, []byte("\n"))
			summed = append(append(append(append(summed, lineSum(body)...), ' '), body...), '\n')
		}
		if lines, good, _ := parseJournal(summed); good > len(summed) || len(lines) > bytes.Count(raw, []byte("\n"))+1 {
			t.Fatalf("%d lines in %d of %d bytes", len(lines), good, len(summed))
		}
		lines, good, err := parseJournal(raw)
		if good > len(raw) || len(lines) > len(raw)/sumDigits {
			t.Fatalf("%d lines in %d of %d bytes", len(lines), good, len(raw))
		}
		if err != nil {
			return
		}
		again, goodAgain, err := parseJournal(raw[:good])
		if err != nil || goodAgain != good || cmp.Diff(lines, again) != "" {
			t.Fatalf("what is kept reads otherwise: %v, %d of %d bytes, %s", err, goodAgain, good, cmp.Diff(lines, again))
		}
	})
}

func FuzzPlan(f *testing.F) {
	doc, err := testPlan(f).Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(doc)
	f.Fuzz(func(t *testing.T, doc []byte) {
		var loose Plan
		if json.Unmarshal(doc, &loose) == nil && !loose.Made.IsZero() { // whatever can be sealed reads back as it is
			if p, err := New(loose); err == nil {
				doc, err = p.Encode()
				if err != nil {
					t.Fatal(err)
				}
				back, err := Decode(doc)
				if err != nil || cmp.Diff(p, back) != "" {
					t.Fatalf("%v: %s", err, cmp.Diff(p, back))
				}
			}
		}
		p, err := Decode(doc)
		if err != nil {
			return
		}
		if len(p.Order()) != len(p.Steps) || len(p.Steps) > maxSteps {
			t.Fatalf("accepted: %+v", p)
		}
	})
}

func FuzzState(f *testing.F) {
	p := testPlan(f)
	s := newState(p, time.Unix(1, 0).UTC())
	if err := errors.Join(s.claim(p, "m1", someMachine, false, s.Changed), s.begin(p, p.Steps[0], someMachine, s.Changed)); err != nil {
		f.Fatal(err)
	}
	doc, err := s.Encode(p)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(doc)
	f.Fuzz(func(t *testing.T, doc []byte) {
		s, err := DecodeState(p, doc)
		if err != nil {
			return
		}
		// Whatever is accepted can be moved on, shown and written.
		_ = fmt.Sprint(StatusOf(p, s), s.hopeless(p, "b"))
		_ = s.rollBack(p, someMachine, time.Unix(2, 0).UTC())
		doc, err = s.Encode(p)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := DecodeState(p, doc); err != nil {
			t.Fatal(err)
		}
	})
}
