package doctor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"etcd-steward/integration/lab"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func read(t *testing.T, text string) *Report {
	t.Helper()
	r, err := Read(t.Context(), strings.NewReader(text), now)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func ids(r *Report) (out []string) {
	for _, f := range r.Found {
		out = append(out, f.ID)
	}
	return out
}

// TestTable: every signature can be found, says all that a person needs, and has an ID of its own.
func TestTable(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range Signatures {
		if s.ID == "" || seen[s.ID] || s.Severity.String() == "" || s.Means == "" || s.Cause == "" || len(s.Next) == 0 || s.Source == "" || len(s.Any) == 0 {
			t.Errorf("%+v is not complete, or not the only one of its name", s)
		}
		seen[s.ID] = true
		for _, all := range s.Any {
			if len(all) == 0 || slices.Contains(all, "") {
				t.Errorf("%s: an empty text is in every line", s.ID)
			}
			text := strings.Repeat("x "+strings.Join(all, " 1 ")+" y\n", int(max(1, s.Least)))
			if got := ids(read(t, text)); !slices.Contains(got, s.ID) {
				t.Errorf("%q shows %v, not %s", text, got, s.ID)
			}
			if s.Least > 1 {
				if got := ids(read(t, strings.Join(all, " "))); slices.Contains(got, s.ID) {
					t.Errorf("%s is found though it was there only once", s.ID)
				}
			}
		}
		for _, over := range s.Over {
			text := strings.Repeat(strings.Join(s.Any[0], " ")+"\n", int(max(1, s.Least)))
			if r := read(t, text+over+"\n"); !r.Found[len(r.Found)-1].Over {
				t.Errorf("%s is not over after %q: %+v", s.ID, over, r.Found)
			}
		}
	}
}

// elsewhere are texts that no binary holds as one piece, and who puts them together.
var elsewhere = map[string]string{
	"remote error: tls: expired certificate": "crypto/tls: an alert", "tls: unknown certificate authority": "crypto/tls: an alert",
	"remote error: tls: bad certificate": "crypto/tls: an alert", "remote error: tls: certificate required": "crypto/tls: an alert",
	"bind: address already in use": "net and the kernel", "bind: cannot assign requested address": "net and the kernel", "mkdir /": "os: a path error",
	"fatal error: runtime: out of memory": "Go's runtime", "Out of memory: Killed process": "the kernel's log", "oom-kill": "the kernel's log",
}

// partly are texts that only some minors hold.
var partly = map[string][]string{
	"cannot downgrade storage": {"3.6", "3.7"}, "Failed to validate schema": {"3.6", "3.7"}, "Detected compaction hash mismatch": {"3.6", "3.7"},
	"detected disallowed custom content in v2store": {"3.5", "3.6"}, "illegal v2store content": {"3.5", "3.6"}, "detected disallowed v2 WAL": {"3.6"}, "alarm raised": {"3.5"}, "wal: crc mismatch": {"3.5"},
	"assertion failed: Page expected to be": {"3.7"},
}

// TestTextsAreReal: every text of the table is in the binaries of etcd that it is said to be in. A text that etcd no longer writes would find nothing.
func TestTextsAreReal(t *testing.T) {
	binaries := map[string][]byte{}
	for _, name := range []string{"etcd-3.5", "etcd-3.6", "etcd-3.7", "etcdutl"} {
		b, err := os.ReadFile(lab.Tool(t, name))
		if err != nil {
			t.Fatal(err)
		}
		binaries[name] = b
	}
	n := 0
	for _, s := range Signatures {
		for _, text := range slices.Concat(s.Any...) {
			// The compiler keeps texts of up to 16 bytes in the code, not in one piece.
			if elsewhere[text] != "" || len(text) <= 8 || len(s.Any) > 1 && strings.ToUpper(text) == text {
				continue
			}
			n++
			if strings.HasPrefix(s.Source, "etcdutl") {
				if !bytes.Contains(binaries["etcdutl"], []byte(text)) {
					t.Errorf("%s: etcdutl does not hold %q", s.ID, text)
				}
				continue
			}
			in := partly[text]
			if in == nil {
				in = versions
			}
			for _, v := range in {
				if !bytes.Contains(binaries["etcd-"+v], []byte(text)) {
					t.Errorf("%s: etcd %s does not hold %q", s.ID, v, text)
				}
			}
		}
	}
	if n < 60 {
		t.Errorf("only %d texts were looked for", n)
	}
}

// TestWrapped: whatever carries etcd's lines, they are recognised, and their times are read.
func TestWrapped(t *testing.T) {
	const zapped = `{"level":"warn","ts":"2026-02-28T03:26:52.749781Z","caller":"wal/wal.go:806","msg":"slow fdatasync","took":"1.2s"}`
	at := time.Date(2026, 2, 28, 3, 26, 52, 749781000, time.UTC)
	for name, c := range map[string]struct {
		text string
		at   time.Time
	}{
		"zap's JSON":                {zapped, at},
		"Windows' ends":             {zapped + "\r\n", at},
		"zap's text":                {"2026-02-28T03:26:52.749Z\twarn\twal/wal.go:806\tslow fdatasync\t{}", at.Truncate(time.Millisecond)},
		"CRI":                       {"2026-02-28T04:26:52.749781+01:00 stderr F " + strings.Replace(zapped, "ts", "t", 1), at},
		"CRI in pieces":             {"2026-02-28T03:26:52.749781Z stderr P {\"msg\":\"slow fda\n2026-02-28T03:26:52.749781Z stderr F tasync\"}", at},
		"Docker":                    {`{"log":"x slow fdatasync y\n","stream":"stderr","time":"2026-02-28T03:26:52.749781Z"}`, at},
		"journald":                  {"Feb 28 03:26:52 m1 etcd[77]: " + `{"msg":"slow fdatasync"}`, at.Truncate(time.Second)},
		"journald, last year":       {"Dec 28 03:26:52 m1 etcd[77]: " + `{"msg":"slow fdatasync"}`, time.Date(2025, 12, 28, 3, 26, 52, 0, time.UTC)},
		"journald, short-iso":       {"2026-02-28T03:26:52+0000 m1 etcd[77]: slow fdatasync", at.Truncate(time.Second)},
		"capnslog":                  {"2026-02-28 03:26:52.749781 W | wal: slow fdatasync", at},
		"the time of a line before": {`{"ts":"2026-02-28T03:26:52.749781Z","msg":"x"}` + "\nslow fdatasync", at},
		"no time":                   {"slow fdatasync", time.Time{}},
		"half a CRI line":           {"2026-02-28T03:26:52.749781Z stderr P slow fdatasync", at},
	} {
		t.Run(name, func(t *testing.T) {
			r := read(t, c.text)
			if len(r.Found) != 1 || r.Found[0].ID != "slow-disk" {
				t.Fatalf("found %+v", r.Found)
			}
			switch f := r.Found[0]; {
			case c.at.IsZero() && f.Last.Time != nil:
				t.Errorf("a time: %v", f.Last.Time)
			case !c.at.IsZero() && (f.Last.Time == nil || !f.Last.Time.Equal(c.at)):
				t.Errorf("at %v, want %v", f.Last.Time, c.at)
			}
		})
	}
}

// TestRank: what is over comes last, then the worst first, then the most recent.
func TestRank(t *testing.T) {
	r := read(t, strings.Join([]string{
		"bind: address already in use", "ready to serve client requests", "slow fdatasync", "etcdserver: unhealthy cluster", "etcdserver: too many requests",
		"no space left on device", "slow fdatasync",
	}, "\n"))
	if got, want := ids(r), []string{"disk-full", "too-many-requests", "unhealthy-cluster", "slow-disk", "address-in-use"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if f := r.Found[3]; f.Lines != 2 || f.First.Line != 3 || f.Last.Line != 7 || r.Lines != 7 {
		t.Errorf("%+v of %d lines", f, r.Lines)
	}
	if !r.Found[4].Over || r.Found[0].Over {
		t.Errorf("over: %+v", r.Found)
	}
	if r := read(t, "ready to serve client requests\nbind: address already in use\n"); r.Found[0].Over {
		t.Error("what comes after a start is not over by it")
	}
}

// TestBounded: a log of any size, in lines of any length, takes no more memory than a small one.
func TestBounded(t *testing.T) {
	const size = 64 << 20
	for name, piece := range map[string]string{
		"one line": strings.Repeat("x", 1<<20), "many lines": strings.Repeat(`{"level":"info","msg":"nothing"}`+"\n", 1<<15),
		"one line in CRI's pieces": strings.Repeat("2026-02-28T03:26:52.749781Z stderr P "+strings.Repeat("x", 16<<10)+"\n", 64),
	} {
		t.Run(name, func(t *testing.T) {
			in := io.MultiReader(strings.NewReader("slow fdatasync\n"), &repeat{piece: []byte(piece), left: size}, strings.NewReader("\nno space left on device\n"))
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			r, err := Read(t.Context(), in, now)
			runtime.ReadMemStats(&after)
			if err != nil {
				t.Fatal(err)
			}
			if got := ids(r); !slices.Equal(got, []string{"disk-full", "slow-disk"}) && name != "one line in CRI's pieces" {
				t.Errorf("found %v", got)
			}
			if grown := int64(after.HeapSys) - int64(before.HeapSys); grown > 48<<20 {
				t.Errorf("the heap grew by %d bytes", grown)
			}
			if name == "one line" && r.Cut != 1 {
				t.Errorf("%d lines are said to be cut", r.Cut)
			}
		})
	}
}

// repeat gives a piece again and again.
type repeat struct {
	piece []byte
	at    int
	left  int
}

func (r *repeat) Read(p []byte) (int, error) {
	if r.left <= 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), r.left)], r.piece[r.at:])
	r.at, r.left = (r.at+n)%len(r.piece), r.left-n
	return n, nil
}

// TestReadErrors: what cannot be read is an error, as is the end of the patience.
func TestReadErrors(t *testing.T) {
	broken := errors.New("broken")
	if _, err := Read(t.Context(), io.MultiReader(strings.NewReader("slow fdatasync\n"), &failing{broken}), now); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Read(ctx, strings.NewReader("x\n"), now); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

type failing struct{ err error }

func (f *failing) Read([]byte) (int, error) { return 0, f.err }

// FuzzRead: whatever a log holds, reading it ends without a panic, counts its lines, and finds a signature again wherever it stands.
func FuzzRead(f *testing.F) {
	f.Add([]byte("2026-02-28T03:26:52Z stderr P x\n{\"log\":\"y\"}\r\n\n"), uint16(3))
	f.Add([]byte("Feb 29 03:26:52 \xff\x00 tocommit(3"), uint16(0))
	f.Fuzz(func(t *testing.T, noise []byte, which uint16) {
		s := Signatures[int(which)%len(Signatures)]
		known := strings.Join(s.Any[0], " ")
		text := string(noise) + "\n" + strings.Repeat("2026-02-28T03:26:52Z stderr F "+known+"\n", int(max(1, s.Least))) + string(noise)
		r, err := Read(context.Background(), strings.NewReader(text), now)
		if err != nil {
			t.Fatal(err)
		}
		lines := int64(strings.Count(text, "\n"))
		if !strings.HasSuffix(text, "\n") {
			lines++
		}
		if r.Lines != lines {
			t.Errorf("%d lines, want %d", r.Lines, lines)
		}
		i := slices.IndexFunc(r.Found, func(f Found) bool { return f.ID == s.ID })
		partial := bytes.Contains(noise, []byte(" P ")) || bytes.Contains(noise, []byte(`{"log":`)) // it may be the beginning of what follows, and that too long
		if i < 0 && (!partial || len(noise) <= lineMax/2) {
			t.Errorf("%s is not found in %q", s.ID, text)
		}
		for _, f := range r.Found {
			if f.First.Line < 1 || f.Last.Line > lines || f.First.Line > f.Last.Line || f.Lines > lines || len(f.Example) > exampleMax+8 {
				t.Errorf("%+v of %d lines", f, lines)
			}
		}
	})
}

// TestHealthyLog: a member that starts, serves and is stopped has nothing that a doctor should name, but for a slow test machine.
func TestHealthyLog(t *testing.T) {
	if testing.Short() {
		t.Skip("starts etcd")
	}
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			n := newNode(t, version, "m0")
			p := n.start(t)
			n.serves(t)
			p.Stop()
			for _, f := range diagnose(t, p.Log).Found {
				if !strings.HasPrefix(f.ID, "slow-") {
					t.Errorf("%+v", f)
				}
			}
		})
	}
}

// TestNoise: random text holds nothing.
func TestNoise(t *testing.T) {
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	var b strings.Builder
	for range 10000 {
		fmt.Fprintf(&b, "%x etcd %d %s\n", rng.Uint64(), rng.IntN(100), strings.Repeat("{\"", rng.IntN(9)))
	}
	if r := read(t, b.String()); len(r.Found) != 0 || r.Lines != 10000 {
		t.Errorf("seed %d: %+v", seed, r)
	}
}

// TestOrdinaryElections: a member that runs for months has elections now and then, each of which ends at once. Only what goes on without an end is a trouble.
func TestOrdinaryElections(t *testing.T) {
	const election = `{"level":"info","ts":"2026-02-28T03:26:52.7Z","logger":"raft","msg":"751f is starting a new election at term 2"}` + "\n"
	const elected = `{"level":"info","ts":"2026-02-28T03:26:52.8Z","logger":"raft","msg":"raft.node: 751f elected leader 751f at term 3"}` + "\n"
	if r := read(t, strings.Repeat(election+elected, 20)); len(r.Found) != 0 {
		t.Errorf("twenty elections that ended: %+v", r.Found)
	}
	r := read(t, strings.Repeat(election+elected, 20)+strings.Repeat(election, 5)+elected+election+elected)
	if got := ids(r); !slices.Equal(got, []string{"elections-fail"}) || !r.Found[0].Over {
		t.Errorf("five in a row: %+v", r.Found)
	}
}

// TestStopIsNoLossOfQuorum: an etcd that is stopped while it leads, and finds nobody to lead, says that a request timed out. That is no sign of a lost quorum.
func TestStopIsNoLossOfQuorum(t *testing.T) {
	const line = `{"level":"warn","ts":"2026-02-28T03:26:52.7Z","msg":"leadership transfer failed","local-member-id":"751f","error":"etcdserver: request timed out, leader transfer took too long"}`
	if r := read(t, line); len(r.Found) != 0 {
		t.Errorf("%+v", r.Found)
	}
	for _, s := range Signatures {
		for _, text := range s.Not { // or it would never be left out
			if !strings.Contains(line, text) {
				t.Errorf("%s: no line is known that holds %q", s.ID, text)
			}
		}
	}
}
