package restore

import (
	"strings"
	"testing"
	"time"

	"etcd-steward/backup/repo"
	"etcd-steward/backup/revision"
	"etcd-steward/internal/fail"
	"etcd-steward/restore/datadir"
)

// TestQuantisedBump: hosts that know a little more or less agree, and the result is beyond everything known.
func TestQuantisedBump(t *testing.T) {
	for _, c := range []struct {
		snapshot, highest revision.Revision
		want              int64
	}{
		{1, 1, 1e9},
		{1000, 1000, 1e9},
		{1000, 5e8, 1e9},
		{1000, 5e8 + 1000, 1e9},
		{1000, 5e8 + 1001, 2e9},
		{1000, 1e9 + 1000, 2e9},
		{5e9, 5e9 + 7, 1e9},
		{5e9, 1, 1e9},
		{10, 7e9, 8e9},
	} {
		got, err := quantisedBump(c.snapshot, c.highest)
		if err != nil || got != c.want {
			t.Errorf("snapshot %d, highest %d: %d, %v; want %d", c.snapshot, c.highest, got, err, c.want)
		}
		if beyond := int64(c.snapshot) + got; beyond < int64(c.highest)+bumpMargin || got%bumpUnit != 0 {
			t.Errorf("snapshot %d, highest %d: a bump of %d leads to %d", c.snapshot, c.highest, got, beyond)
		}
	}
	for _, highest := range []revision.Revision{datadir.MaxRevision, datadir.MaxRevision - 5, datadir.MaxRevision + 1, 1<<63 - 1} {
		if got, err := quantisedBump(1000, highest); err == nil {
			t.Errorf("highest %d: %d", highest, got)
		}
	}
}

// TestToken: the derived token changes with everything that decides what a member will hold, and with nothing else.
func TestToken(t *testing.T) {
	base := derivedToken(repo.SHA256{1}, 1e9, "a=http://1:1,b=http://2:2")
	if base != derivedToken(repo.SHA256{1}, 1e9, "a=http://1:1,b=http://2:2") || !strings.HasPrefix(base, tokenPrefix) || len(base) != len(tokenPrefix)+16 {
		t.Errorf("token %q", base)
	}
	for what, other := range map[string]string{
		"snapshot": derivedToken(repo.SHA256{2}, 1e9, "a=http://1:1,b=http://2:2"),
		"bump":     derivedToken(repo.SHA256{1}, 2e9, "a=http://1:1,b=http://2:2"),
		"members":  derivedToken(repo.SHA256{1}, 1e9, "a=http://1:1,b=http://2:3"),
		"random":   randomToken(),
	} {
		if other == base {
			t.Errorf("another %s gives the same token", what)
		}
	}
	if a, b := randomToken(), randomToken(); a == b {
		t.Errorf("a random token came twice: %s", a)
	}
}

var (
	testNow      = time.Date(2026, 7, 1, 3, 0, 0, 0, time.UTC)
	testSnapshot = subject{id: repo.NewSnapshotID(testNow.Add(-time.Hour)), sum: &repo.SHA256{7}, revision: 1000}
)

func threeMembers() Options {
	return Options{Name: "a", InitialAdvertisePeerURLs: []string{"http://127.0.0.1:1"}, InitialCluster: "a=http://127.0.0.1:1,b=http://127.0.0.1:2,c=http://127.0.0.1:3"}
}

// record is the successor record that a host writes after it restored what was decided.
func record(d identity, at time.Time) repo.Successor {
	return repo.Successor{
		ClusterID: repo.ClusterID(d.cluster.ID), From: testSnapshot.id, Revision: testSnapshot.revision,
		NewRevision: testSnapshot.revision + revision.Revision(d.bump), Restored: at, Host: "first",
	}
}

func mustDecide(t *testing.T, o Options, h history, now time.Time) identity {
	t.Helper()
	d, err := o.decide(testSnapshot, h, now)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestDecideTogether: the second host of a restore that was given neither token nor bump joins the first one's cluster for a while; later it must not.
func TestDecideTogether(t *testing.T) {
	first := mustDecide(t, threeMembers(), history{highest: 4e9}, testNow)
	if first.bump != 5e9 || first.note != "" {
		t.Errorf("the first host: %+v", first)
	}
	h := history{highest: 6e9, restored: []repo.Successor{record(first, testNow)}} // a backup came in between
	soon := mustDecide(t, threeMembers(), h, testNow.Add(30*time.Minute))
	if soon.token != first.token || soon.bump != first.bump || soon.cluster.ID != first.cluster.ID || !strings.Contains(soon.note, "further member") {
		t.Errorf("half an hour later: %+v, want as %+v with a note", soon, first)
	}
	late := mustDecide(t, threeMembers(), h, testNow.Add(48*time.Hour))
	if late.token == first.token || late.cluster.ID == first.cluster.ID || late.bump <= first.bump {
		t.Errorf("two days later: %+v, want another cluster, beyond %+v", late, first)
	}
	// What the first host printed for the others works at any time.
	o := threeMembers()
	o.InitialClusterToken, o.BumpRevision = first.token, &first.bump
	pinned := mustDecide(t, o, h, testNow.Add(48*time.Hour))
	if pinned.cluster.ID != first.cluster.ID || pinned.bump != first.bump || pinned.note == "" {
		t.Errorf("with the first host's values: %+v", pinned)
	}
}

// TestDecideRefuses: what could let two histories share a cluster ID, or is no use, is refused.
func TestDecideRefuses(t *testing.T) {
	with := func(change func(*Options)) Options {
		o := threeMembers()
		change(&o)
		return o
	}
	first := mustDecide(t, threeMembers(), history{highest: 1000}, testNow)
	other := record(first, testNow)
	other.From = repo.NewSnapshotID(testNow)
	exact := mustDecide(t, with(func(o *Options) { o.BumpRevision = zero() }), history{}, testNow)
	big, negative := int64(datadir.MaxRevision), int64(-1)
	for name, c := range map[string]struct {
		o    Options
		h    history
		code fail.Code
		says string
	}{
		"the ID of a cluster that lived": {with(func(o *Options) { o.InitialClusterToken = first.token }), history{lived: map[repo.ClusterID]string{repo.ClusterID(first.cluster.ID): "the old one"}}, fail.Unsafe, "the old one"},
		"the token of another restore":   {with(func(o *Options) { o.InitialClusterToken = first.token }), history{restored: []repo.Successor{other}}, fail.Unsafe, "would not be equal"},
		"an exact restore of long ago":   {with(func(o *Options) { o.BumpRevision = zero() }), history{restored: []repo.Successor{record(exact, testNow.Add(-24*time.Hour))}}, fail.Unsafe, "may have run since"},
		"a bump beyond the limit":        {with(func(o *Options) { o.BumpRevision = &big }), history{}, fail.Unsafe, "beyond"},
		"a bump below zero":              {with(func(o *Options) { o.BumpRevision = &negative }), history{}, fail.Unsafe, "beyond"},
		"no bump left":                   {threeMembers(), history{highest: datadir.MaxRevision}, fail.Unsafe, "beyond"},
		"mark-compacted alone":           {with(func(o *Options) { o.BumpRevision, o.MarkCompacted = zero(), true }), history{}, fail.Usage, "--mark-compacted"},
		"a name that is not a member":    {with(func(o *Options) { o.Name = "x" }), history{}, fail.Unsafe, `"x" in the initial cluster`},
		"another member's URL":           {with(func(o *Options) { o.InitialAdvertisePeerURLs = []string{"http://127.0.0.1:2"} }), history{}, fail.Unsafe, "--initial-advertise-peer-urls"},
		"one URL twice":                  {with(func(o *Options) { o.InitialCluster = "a=http://127.0.0.1:1,b=http://127.0.0.1:1" }), history{}, fail.Unsafe, "duplicate"},
		"no URL":                         {with(func(o *Options) { o.InitialAdvertisePeerURLs = []string{"127.0.0.1"} }), history{}, fail.Usage, "--initial-advertise-peer-urls"},
		"no list":                        {with(func(o *Options) { o.InitialCluster = "a" }), history{}, fail.Usage, "--initial-cluster"},
	} {
		_, err := c.o.decide(testSnapshot, c.h, testNow)
		if fail.ExitCode(err) != c.code || err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: exit %d, %v; want exit %d saying %q", name, fail.ExitCode(err), err, c.code, c.says)
		}
		if fail.HintOf(err) == "" {
			t.Errorf("%s: no hint with %v", name, err)
		}
		c.o.AllowSameClusterID = true
		if _, err := c.o.decide(testSnapshot, c.h, testNow); strings.Contains(name, "restore") && err != nil || strings.Contains(name, "lived") && err != nil {
			t.Errorf("%s, allowed: %v", name, err)
		}
	}
}

// TestDecideLater: a file that tells its hash only at its end is decided on when it was read.
func TestDecideLater(t *testing.T) {
	o := threeMembers()
	early, err := o.decide(subject{}, history{}, testNow)
	if err != nil || early.token != "" || early.cluster != nil || early.bump != bumpUnit {
		t.Errorf("before: %+v, %v", early, err)
	}
	late, err := o.decide(subject{sum: testSnapshot.sum}, history{}, testNow)
	fromRepo := mustDecide(t, o, history{highest: 1000}, testNow)
	if err != nil || late.token != fromRepo.token || late.bump != fromRepo.bump {
		t.Errorf("after: %+v, %v; want as from a repository: %+v", late, err, fromRepo)
	}
}
