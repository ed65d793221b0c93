package daemon

import (
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"

	"etcd-steward/backup/changes/record"
	"etcd-steward/backup/repo"
)

var descName = regexp.MustCompile(`fqName: "([^"]+)", help: "([^"]*)"`)

// TestMetricsDocumented: docs/METRICS.md lists the metrics that there are with their labels, and no others.
func TestMetricsDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/METRICS.md")
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile("(?m)^\\| `(steward_[a-z_]+)` \\| ([^|]*)\\|")
	documented := map[string][]string{}
	for _, m := range row.FindAllStringSubmatch(string(text), -1) {
		documented[m[1]] = strings.FieldsFunc(m[2], func(r rune) bool { return r == ',' || r == ' ' })
	}
	exists := map[string][]string{}
	labels := regexp.MustCompile(`variableLabels: \{([^}]*)\}`)
	for _, d := range descs {
		name := descName.FindStringSubmatch(d.String())[1]
		exists[name] = strings.FieldsFunc(labels.FindStringSubmatch(d.String())[1], func(r rune) bool { return r == ',' })
	}
	if diff := cmp.Diff(exists, documented, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("metrics (-exist +documented):\n%s", diff)
	}
	// What the alert rules ask for must exist, too.
	for _, name := range regexp.MustCompile(`steward_[a-z_]+`).FindAllString(string(text), -1) {
		if _, ok := exists[name]; !ok {
			t.Errorf("METRICS.md speaks of %s, which does not exist", name)
		}
	}
}

// TestMetricsContent: a scrape of a full state is what Prometheus wants, and shows every metric.
func TestMetricsContent(t *testing.T) {
	s := newState()
	s.setReload(true)
	c := s.cluster("main")
	now := time.Now()
	m := &repo.Manifest{ID: repo.NewSnapshotID(now.Add(-time.Minute)), Database: repo.Database{Revision: 7, Keys: 3, Size: 100}, Object: repo.Object{Size: 50}}
	v := &repo.Verification{ID: m.ID, Level: repo.LevelDeep, OK: true, At: now, RestoreSeconds: 2}
	c.storeAnswered(holding{backups: 1, objects: 2, bytes: 60, newest: m, verified: v, verifiedRevision: 7})
	c.countStoreError("unreachable")
	c.setMaxAge(time.Hour)
	j := c.job("snapshot")
	j.start()
	j.fail("other", errors.New("no"))
	j.succeed(time.Second)
	j.setNext(now)
	ch := c.keepChanges(true)
	ch.begin(func() record.Status {
		return record.Status{State: record.Recording, Received: 8, Through: 7, ThroughTime: now, Proof: 5, ProofTime: now}
	}, func() {})
	ch.stored(repo.Segment{}, 3*time.Second)
	ch.marked(repo.Recorded{Gaps: []repo.RecordedGap{{Time: now}}})
	v1, found, certificates := fullView(t, now)
	h := c.keepHealth(true)
	h.take(v1, found, certificates)
	v2, found, certificates := fullView(t, now)
	v2.Answers[0].Term++ // an election
	h.take(v2, found, certificates)

	registry := s.registry()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	shown := map[string]bool{}
	var steward []*dto.MetricFamily
	for _, f := range families {
		if shown[f.GetName()] = true; strings.HasPrefix(f.GetName(), "steward_") {
			steward = append(steward, f)
		}
	}
	for _, d := range descs {
		if name := descName.FindStringSubmatch(d.String())[1]; !shown[name] {
			t.Errorf("%s is not shown", name)
		}
	}
	problems, err := promlint.NewWithMetricFamilies(steward).Lint()
	if err != nil || len(problems) != 0 {
		t.Errorf("promlint: %v %v", problems, err)
	}
	s.keep(map[string]bool{})
	if n := count(t, registry, "steward_backup_revision"); n != 0 {
		t.Errorf("a cluster that is gone is still shown")
	}
}

func count(t *testing.T, g prometheus.Gatherer, name string) int {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return len(f.GetMetric())
		}
	}
	return 0
}

// TestNotReady: each reason alone.
func TestNotReady(t *testing.T) {
	now := time.Now()
	at := func(age time.Duration) *repo.Manifest { return &repo.Manifest{ID: repo.NewSnapshotID(now.Add(-age))} }
	for _, c := range []struct {
		name   string
		change func(*state, *clusterState)
		want   []string
	}{
		{"all well", func(*state, *clusterState) {}, nil},
		{"not read yet", func(s *state, _ *clusterState) { s.cluster("events") }, []string{"events: store: not read yet"}},
		{"store", func(_ *state, c *clusterState) { c.storeFailed(errors.New("list: unreachable")) }, []string{"main: store: list: unreachable"}},
		{"none", func(_ *state, c *clusterState) { c.storeAnswered(holding{}) }, []string{"main: there is no backup yet"}},
		{
			"old", func(_ *state, c *clusterState) { c.storeAnswered(holding{newest: at(3 * time.Hour)}) },
			[]string{"main: the newest backup is 3h0m0s old, more than 2h0m0s"},
		},
		{
			"dated ahead", func(_ *state, c *clusterState) { c.storeAnswered(holding{newest: at(-300 * time.Hour)}) },
			[]string{"main: the newest backup is dated 300h0m0s ahead: a clock is or was wrong, here or on host "},
		},
		{"old, but this daemon takes none", func(_ *state, c *clusterState) {
			c.setMaxAge(0)
			c.storeAnswered(holding{newest: at(300 * time.Hour)})
		}, nil},
		{"damaged", func(_ *state, c *clusterState) {
			c.storeAnswered(holding{newest: at(0), verified: &repo.Verification{ID: "01J", Problem: "a block"}})
		}, []string{"main: backup 01J was found damaged: a block"}},
		{"config", func(s *state, _ *clusterState) { s.setReload(false) }, []string{"config: the file on disk is bad; an older one is still used"}},
	} {
		s := newState()
		s.setReload(true)
		cl := s.cluster("main")
		cl.setMaxAge(2 * time.Hour)
		cl.storeAnswered(holding{newest: at(time.Hour)})
		c.change(s, cl)
		if diff := cmp.Diff(c.want, s.notReady(now)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}
