package daemon

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/bbolt"

	"etcd-steward/integration/lab"
	"etcd-steward/internal/config"
	"etcd-steward/membership/health"
	"etcd-steward/membership/probe"
)

// wellView is three members of which nothing is wrong; the first leads.
func wellView(at time.Time) *probe.View {
	v := &probe.View{At: at}
	var members []probe.Member
	for i := range 3 {
		members = append(members, probe.Member{ID: uint64(i + 1), Name: fmt.Sprint("m", i+1), ClientURLs: []string{fmt.Sprintf("http://10.0.0.%d:2379", i+1)}})
	}
	for i := range 3 {
		v.Answers = append(v.Answers, probe.Answer{
			Endpoint: members[i].ClientURLs[0], ClusterID: 7, MemberID: uint64(i + 1), Version: "3.6.16", StorageVersion: "3.6.0", Leader: 1, Term: 2, Index: 1000, Applied: 1000,
			Revision: 50, DBSize: 1 << 20, DBInUse: 1 << 20, Quota: 1 << 30, Quorum: true, Members: members,
		})
	}
	return v
}

// fullView is a view that fills every metric.
func fullView(t *testing.T, at time.Time) (*probe.View, []health.Finding, []health.Certificate) {
	t.Helper()
	v := wellView(at)
	for i := range v.Answers {
		v.Answers[i].Members[2].Learner = true
	}
	hashes(v, 2)
	v.Answers[0].ClockKnown, v.Answers[1].Version = true, "3.6.\xff"
	ca := lab.NewCA(t)
	certificates := health.OfFiles(ca.File)
	return v, []health.Finding{{Kind: health.Tolerance, Severity: health.Warning}}, certificates
}

// hashes gives the first n members equal hashes.
func hashes(v *probe.View, n int) *probe.View {
	v.Hashed = true
	for i := range n {
		v.Answers[i].Hash = &probe.Hash{Revision: 50, Compact: 40, Sum: 7}
	}
	return v
}

// lines are what was logged.
type lines struct{ bytes.Buffer }

func (l *lines) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(&l.Buffer, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
}

// TestHealthNews: a finding is told when it appears, when it becomes worse, and when it is gone, and never in between.
func TestHealthNews(t *testing.T) {
	h, l := newHealthState(), &lines{}
	at := time.Now()
	step := func(want string, found ...health.Finding) {
		t.Helper()
		at = at.Add(time.Minute)
		h.take(wellView(at), found, nil)
		l.Reset()
		for _, n := range h.news() {
			n.log(l.logger())
		}
		if got := l.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	quota := health.Finding{Kind: health.Quota, Severity: health.Warning, Member: "m1", Text: "it is full", Evidence: "80 %", Next: "steward defrag"}
	worse := quota
	worse.Severity = health.Critical
	other := quota
	other.Evidence = "81 %"
	const found = `level=WARN msg="found: it is full" finding=quota severity=warning member=m1 evidence="80 %" next="steward defrag"` + "\n"
	step("")
	step(found, quota)
	step("", other)
	step("", quota, quota)
	step(strings.Replace(strings.Replace(found, "WARN", "ERROR", 1), "warning", "critical", 1), worse)
	step(`level=INFO msg="over: it is full" finding=quota severity=critical member=m1 lasted=1m0s` + "\n")
	step("")
}

// TestHealthKeepsComparisons: what only a comparison of data shows holds until the next one, also when that could compare nothing.
func TestHealthKeepsComparisons(t *testing.T) {
	h, at := newHealthState(), time.Now()
	differs := health.Finding{Kind: health.Divergence, Severity: health.Critical, Text: "different"}
	unknown := health.Finding{Kind: health.HashUnknown, Text: "unknown"}
	kinds := func() (out []health.Kind) {
		for _, f := range h.found {
			out = append(out, f.Kind)
		}
		return out
	}
	const none = -1
	for i, s := range []struct {
		hashes int // how many members gave one
		found  []health.Finding
		want   []health.Kind
		equal  bool
	}{
		{3, nil, nil, true},
		{3, []health.Finding{differs}, []health.Kind{health.Divergence}, false},
		{none, nil, []health.Kind{health.Divergence}, false},
		{none, []health.Finding{differs}, []health.Kind{health.Divergence}, false},
		{2, []health.Finding{unknown}, []health.Kind{health.HashUnknown, health.Divergence}, false},
		{2, []health.Finding{unknown}, []health.Kind{health.HashUnknown, health.Divergence}, false},
		{none, nil, []health.Kind{health.HashUnknown, health.Divergence}, false},
		{2, nil, []health.Kind{health.Divergence}, false}, // the one that differed may be silent now
		{0, nil, []health.Kind{health.Divergence}, false},
		{3, nil, nil, true},
		{none, nil, nil, true},
	} {
		v := wellView(at.Add(time.Duration(i) * time.Minute))
		if s.hashes != none {
			hashes(v, s.hashes)
		}
		h.take(v, s.found, nil)
		if diff := cmp.Diff(s.want, kinds()); diff != "" || h.hashed.equal != s.equal {
			t.Errorf("step %d: equal %t (-want +got):\n%s", i, h.hashed.equal, diff)
		}
	}
}

// TestElectionsAreSeen: another leader, or another term of the same one, is an election; a look without a leader is none, and neither is the first look.
func TestElectionsAreSeen(t *testing.T) {
	h, at := newHealthState(), time.Now()
	for i, s := range []struct {
		leader, term uint64
		elected      bool
	}{
		{1, 2, false}, {1, 2, false}, {2, 3, true}, {2, 3, false}, {2, 5, true}, {0, 5, false}, {2, 5, false}, {0, 5, false}, {1, 6, true},
	} {
		at = at.Add(time.Minute)
		v := wellView(at)
		for k := range v.Answers {
			v.Answers[k].Leader, v.Answers[k].Term = s.leader, s.term
		}
		h.take(v, nil, nil)
		if got := h.led.Equal(at); got != s.elected {
			t.Errorf("look %d: an election was seen: %v", i, got)
		}
	}
}

// TestNothingCompared: when no two members gave a hash, nothing is said to be equal, and nothing to have been compared now.
func TestNothingCompared(t *testing.T) {
	h, at := newHealthState(), time.Now()
	unknown := []health.Finding{{Kind: health.HashUnknown, Text: "unknown"}}
	for _, n := range []int{0, 1} {
		if h.take(hashes(wellView(at), n), unknown, nil); h.hashed != nil {
			t.Errorf("with %d hashes: %+v", n, h.hashed)
		}
	}
	h.take(hashes(wellView(at), 2), unknown, nil)
	h.take(hashes(wellView(at.Add(time.Hour)), 1), unknown, nil)
	if h.hashed == nil || !h.hashed.equal || !h.hashed.at.Equal(at) {
		t.Errorf("got %+v, want what was compared at %v", h.hashed, at)
	}
}

// TestSeveralOfAKind: of one member, or of the cluster, several findings of one kind are told and counted each.
func TestSeveralOfAKind(t *testing.T) {
	h, at := newHealthState(), time.Now()
	bug := func(text string) health.Finding {
		return health.Finding{Kind: health.VersionBug, Severity: health.Warning, Text: text}
	}
	for i, s := range []struct {
		found []health.Finding
		news  string
	}{
		{[]health.Finding{bug("a"), bug("b 1")}, "+a +b 1 "},
		{[]health.Finding{bug("b 2"), bug("a")}, ""},
		{[]health.Finding{bug("a"), bug("c"), bug("b 2")}, "+c "},
		{[]health.Finding{bug("c")}, "-a -b 2 "},
	} {
		h.take(wellView(at), s.found, nil)
		got := ""
		for _, n := range h.news() {
			got += map[bool]string{true: "-", false: "+"}[n.gone] + n.Text + " "
		}
		if got != s.news || len(h.found) != len(s.found) {
			t.Errorf("step %d: told %q of %d, want %q of %d", i, got, len(h.found), s.news, len(s.found))
		}
	}
}

// TestHostileSeries: a member that lies about names, and shows certificates that look alike, does not make the page of metrics fail.
func TestHostileSeries(t *testing.T) {
	s := newState()
	v := wellView(time.Now())
	lies := []probe.Member{{ID: 1, Name: "m1"}, {ID: 1, Name: "m1"}, {ID: 1, Name: "m1"}, {ID: 2, Name: "m1"}, {ID: 3, Name: "0000000000000002"}}
	for i := range v.Answers {
		v.Answers[i].Members = lies
		v.Answers[i].Certificates = append(v.Answers[i].Certificates, alike(t)...)
	}
	s.cluster("main").keepHealth(true).take(v, nil, nil)
	if _, err := s.registry().Gather(); err != nil {
		t.Error(err)
	}
}

// alike are two certificates with one name, whose fingerprints begin with the same four bytes.
func alike(t *testing.T) []*x509.Certificate {
	t.Helper()
	seen := map[[4]byte]*x509.Certificate{}
	for i := range 1 << 20 {
		c := &x509.Certificate{Raw: fmt.Append(nil, i), NotAfter: time.Unix(int64(i), 0)}
		sum := sha256.Sum256(c.Raw)
		if other := seen[[4]byte(sum[:4])]; other != nil {
			return []*x509.Certificate{other, c}
		}
		seen[[4]byte(sum[:4])] = c
	}
	t.Fatal("none found")
	return nil
}

// TestSlowReader: whoever asks for the status page and does not read it holds up neither the looks nor the metrics.
func TestSlowReader(t *testing.T) {
	s := newState()
	h := s.cluster("main").keepHealth(true)
	h.take(wellView(time.Now()), nil, nil)
	w := &stuck{ResponseRecorder: httptest.NewRecorder(), reached: make(chan struct{}), goOn: make(chan struct{})}
	written, looked := make(chan struct{}), make(chan struct{})
	go func() { defer close(written); s.status(w, nil) }()
	<-w.reached
	go func() { defer close(looked); h.take(wellView(time.Now()), nil, nil) }()
	select {
	case <-looked:
	case <-time.After(10 * time.Second):
		t.Error("a look waits for who reads the page")
	}
	close(w.goOn)
	<-written
	<-looked
}

// stuck blocks at the first line on the members.
type stuck struct {
	*httptest.ResponseRecorder
	reached, goOn chan struct{}
	once          sync.Once
}

func (s *stuck) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte("members")) {
		s.once.Do(func() { close(s.reached); <-s.goOn })
	}
	return s.ResponseRecorder.Write(b)
}

// TestWhoCompares: of three daemons, the one beside the leader compares at every interval, the others rarely; one that cannot tell compares, too.
func TestWhoCompares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for host, want := range map[string]int{"10.0.0.1": 12, "10.0.0.2": 3, "elsewhere": 12} {
			n := 0
			w := &watcher{
				state: newHealthState(), interval: 30 * time.Second, compare: 5 * time.Minute, certificates: func() []health.Certificate { return nil },
				here: func(h string) bool { return h == host },
				look: func(_ context.Context, o probe.Options) (*probe.View, error) {
					v := wellView(time.Now())
					if v.Hashed = o.Hash; o.Hash {
						n++
					}
					return v, nil
				},
			}
			for range 120 { // an hour
				w.once(t.Context(), slog.New(slog.DiscardHandler))
				time.Sleep(30 * time.Second)
			}
			if n < want-1 || n > want+1 {
				t.Errorf("on %s: %d comparisons in an hour, want about %d", host, n, want)
			}
		}
	})
}

// TestHealthCutOff: a look that is cut off by the daemon's end is no finding, and one that fails is told.
func TestHealthCutOff(t *testing.T) {
	l := &lines{}
	ctx, cancel := context.WithCancel(t.Context())
	w := &watcher{
		state: newHealthState(), certificates: func() []health.Certificate { return nil }, here: isHere,
		look: func(context.Context, probe.Options) (*probe.View, error) {
			cancel()
			return &probe.View{At: time.Now()}, nil
		},
	}
	w.once(ctx, l.logger())
	if w.state.seen() != nil || l.Len() > 0 {
		t.Errorf("taken: %+v, %s", w.state.seen(), l.String())
	}
	w.look = func(context.Context, probe.Options) (*probe.View, error) { return nil, errors.New("no such thing") }
	w.once(t.Context(), l.logger())
	if !strings.Contains(l.String(), "no such thing") {
		t.Errorf("not told: %s", l.String())
	}
}

// TestStatusPage: members, findings and the state of backups, for people; what others wrote cannot steer a terminal.
func TestStatusPage(t *testing.T) {
	s := newState()
	s.setReload(true)
	c := s.cluster("main")
	c.storeAnswered(holding{})
	page := func() string {
		w := httptest.NewRecorder()
		s.status(w, nil)
		return w.Body.String()
	}
	if got := page(); !strings.Contains(got, "cluster main\nbackups: can be relied on\n") || strings.Contains(got, "members") {
		t.Errorf("not watched: %s", got)
	}
	h := c.keepHealth(true)
	if got := page(); !strings.Contains(got, "members: not looked at yet") {
		t.Errorf("not looked at: %s", got)
	}
	v := wellView(time.Now())
	v.Answers[2].Err = errors.New("silent")
	h.take(v, []health.Finding{{Kind: health.Unreachable, Severity: health.Warning, Member: "m3\x1b[31m", Text: "it does not answer", Evidence: "silent", Next: "steward health"}}, nil)
	got := page()
	for _, want := range []string{"3 voters, 2 up", "not compared yet", "m3", "does not answer", "warning: m3", "seen: silent", "next: steward health"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if strings.Contains(got, "\x1b") {
		t.Errorf("it steers terminals: %q", got)
	}
}

// TestDivergenceIsFound: one member's data are changed on its disk behind etcd's back. etcd itself finds nothing; the daemon does, at its first comparison.
func TestDivergenceIsFound(t *testing.T) {
	if testing.Short() {
		t.Skip("starts etcd")
	}
	lc := lab.StartEtcd(t, lab.EtcdOptions{Members: 3, UnsafeNoFsync: true})
	cli := lc.Client(t)
	for i := range 20 {
		if _, err := cli.Put(t.Context(), fmt.Sprint("k", i), "value"); err != nil {
			t.Fatal(err)
		}
	}
	const interval = time.Second
	c := &cluster{name: "main", cfg: &config.Cluster{}, log: slog.New(slog.DiscardHandler), pulse: newPulse(), state: newState().cluster("main")}
	c.cfg.Health = config.Health{Enabled: true, Interval: config.Duration(interval), Compare: config.Duration(interval)}
	c.members = probe.Access{Endpoints: lc.Endpoints()[:1]}
	c.health = c.state.keepHealth(true)
	loop, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); c.watch(loop) }()
	defer func() { stop(); <-ended }()
	differs := func() *hashing {
		c.health.mu.Lock()
		defer c.health.mu.Unlock()
		return c.health.hashed
	}
	lab.Eventually(t, 20*time.Second, "the data are compared, and equal", func() error {
		if h := differs(); h == nil || !h.equal {
			return fmt.Errorf("%+v", h)
		}
		return nil
	})
	odd := (lc.Leader(t) + 1) % 3
	lc.Stop(odd)
	falsify(t, lc.DataDir(odd))
	lc.Restart(t, odd)
	lc.WaitHealthy(t, odd)
	back := time.Now()
	lab.Eventually(t, 30*time.Second, "the difference is found", func() error {
		if h := differs(); h == nil || h.equal {
			return errors.New("not found")
		}
		return nil
	})
	if took := time.Since(back); took > 2*interval+5*time.Second {
		t.Errorf("found after %v", took)
	}
	c.health.mu.Lock()
	i := slices.IndexFunc(c.health.found, func(f since) bool { return f.Kind == health.Divergence })
	c.health.mu.Unlock()
	if i < 0 {
		t.Fatal("it is no finding")
	}
}

// falsify changes one value in a database, and nothing of its revisions.
func falsify(t *testing.T, dataDir string) {
	t.Helper()
	db, err := bbolt.Open(filepath.Join(dataDir, "member", "snap", "db"), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		keys := tx.Bucket([]byte("key"))
		k, v := keys.Cursor().Last()
		v = bytes.Replace(v, []byte("value"), []byte("VALUE"), 1)
		return keys.Put(bytes.Clone(k), v)
	})
	if err = errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}
