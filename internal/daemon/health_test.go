package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
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
	v.Hashed = true
	v.Answers[0].ClockKnown, v.Answers[1].Version = true, "3.6.\xff"
	ca := lab.NewCA(t)
	certificates := configured(config.TLS{CA: ca.File})
	return v, []health.Finding{{Kind: health.Tolerance, Severity: health.Warning}}, certificates
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
	for i, s := range []struct {
		hashed bool
		found  []health.Finding
		want   []health.Kind
		equal  bool
	}{
		{true, nil, nil, true},
		{true, []health.Finding{differs}, []health.Kind{health.Divergence}, false},
		{false, nil, []health.Kind{health.Divergence}, false},
		{false, []health.Finding{differs}, []health.Kind{health.Divergence}, false},
		{true, []health.Finding{unknown}, []health.Kind{health.HashUnknown, health.Divergence}, false},
		{false, nil, []health.Kind{health.HashUnknown, health.Divergence}, false},
		{true, nil, nil, true},
		{false, nil, nil, true},
	} {
		v := wellView(at.Add(time.Duration(i) * time.Minute))
		v.Hashed = s.hashed
		h.take(v, s.found, nil)
		if diff := cmp.Diff(s.want, kinds()); diff != "" || h.hashed.equal != s.equal {
			t.Errorf("step %d: equal %t (-want +got):\n%s", i, h.hashed.equal, diff)
		}
	}
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
