package backup

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"etcd-steward/backup/changes/cover"
	"etcd-steward/backup/repo"
	"etcd-steward/backup/repo/retention"
	"etcd-steward/backup/store"
	"etcd-steward/integration/lab"
	"etcd-steward/internal/fail"
)

// daily adds a backup a day for five days, at the revisions 10, 20 and so on, and between them segments of two revisions each, up to 59.
func (r *rig) daily(t *testing.T, now time.Time) (line repo.Timeline) {
	t.Helper()
	for day := range 5 {
		at := now.Add(-time.Duration(5-day) * 24 * time.Hour)
		content, info := snapshotFile(t, 10*day+9)
		line = r.add(t, content, info, at, false).Timeline
		for i := range 5 {
			first := info.Revision + repo.Revision(2*i) + 1
			r.segmentOf(t, line, first, min(first+1, info.Revision+9), at.Add(time.Duration(i+1)*4*time.Hour), true)
		}
		r.segmentOf(t, line, info.Revision+10, info.Revision+10, at.Add(23*time.Hour), true)
	}
	return line
}

func (r *rig) windows(t *testing.T) []cover.Window {
	t.Helper()
	c, err := r.repo.Catalog(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return cover.Windows(cover.Snapshots(c), c.Segments)
}

var twoDays = retention.Policy{Last: 2, AnyMoment: 48 * time.Hour}

// TestPruneSegments: what is older than the window of any moment goes, by a plan that was stored, and every moment within it stays a restore point.
func TestPruneSegments(t *testing.T) {
	r := newRig(t)
	r.daily(t, time.Now())
	if ws := r.windows(t); len(ws) != 1 || ws[0].From != 10 || ws[0].To != 60 || ws[0].Segments != 30 {
		t.Fatalf("before: %+v", ws)
	}
	before := r.objects(t)
	o := PruneOptions{Repo: r.repo, Policy: twoDays, Host: "h", DryRun: true}
	res, err := Prune(t.Context(), o)
	if err != nil || len(res.Segments) != 2 || res.Segments[0].Keep || !res.Segments[1].Keep || res.Segments[0].Segments+res.Segments[1].Segments != 30 {
		t.Fatalf("dry run: %+v, %v", res, err)
	}
	if f := res.Segments[0]; f.First != 11 || f.Last != 30 || f.Segments != 12 || f.Bytes == 0 || !f.Newest.Before(time.Now().Add(-48*time.Hour)) {
		t.Errorf("what goes: %+v", f)
	}
	if !slices.Equal(before, r.objects(t)) {
		t.Error("a dry run changed the repository")
	}
	o.DryRun = false
	if res, err = Prune(t.Context(), o); err != nil || res.SegmentsRemoved != 12 || res.Removed != 2 || len(res.Plans) != 1 {
		t.Fatalf("%+v, %v", res, err)
	}
	p, err := r.repo.Plan(t.Context(), res.Plans[0])
	if err != nil || len(p.Segments) != 1 || len(p.Segments[0].Keys) != 12 || !strings.Contains(p.Segments[0].Why, "2d") {
		t.Errorf("the plan: %+v, %v", p, err)
	}
	if ws := r.windows(t); len(ws) != 1 || ws[0].From != 30 || ws[0].To != 60 {
		t.Errorf("after: %+v", ws)
	}
	rep, err := Verify(t.Context(), VerifyOptions{Repo: r.repo, All: true, Identities: []age.Identity{r.id}, Scratch: t.TempDir()})
	if err != nil || !rep.OK {
		t.Errorf("after: %+v, %v", rep, err)
	}
	if res, err = Prune(t.Context(), o); err != nil || res.SegmentsRemoved != 0 || len(res.Plans) != 0 {
		t.Errorf("once more: %+v, %v", res, err)
	}
	// Without any window, what follows the newest backup stays.
	o.Policy.AnyMoment = 0
	if res, err = Prune(t.Context(), o); err != nil || res.SegmentsRemoved != 12 {
		t.Errorf("without a window: %+v, %v", res, err)
	}
	if ws := r.windows(t); len(ws) != 2 || ws[1].From != 50 || ws[1].To != 60 {
		t.Errorf("without a window: %+v", ws)
	}
}

// TestPruneSegmentsOverdue: segments of long ago are not removed by a policy that was perhaps mistyped, unless it is meant.
func TestPruneSegmentsOverdue(t *testing.T) {
	r := newRig(t)
	r.daily(t, time.Now().Add(-20*24*time.Hour))
	content, info := snapshotFile(t, 60)
	r.add(t, content, info, time.Now().Add(-time.Hour), false)
	o := PruneOptions{Repo: r.repo, Policy: retention.Policy{Last: 50, AnyMoment: 24 * time.Hour}, Host: "h"}
	if _, err := Prune(t.Context(), o); fail.ExitCode(err) != fail.Unsafe || !strings.Contains(err.Error(), "segments") {
		t.Errorf("got %v", err)
	}
	o.DryRun = true
	if res, err := Prune(t.Context(), o); err != nil || !strings.Contains(res.Refused, "segments") {
		t.Errorf("dry run: %+v, %v", res, err)
	}
	o.DryRun, o.AllowLarge = false, true
	if res, err := Prune(t.Context(), o); err != nil || res.SegmentsRemoved == 0 {
		t.Errorf("meant: %+v, %v", res, err)
	}
}

// TestPruneSegmentsDies: a prune that dies at any deletion leaves every moment of the window, and the next one ends its work.
func TestPruneSegmentsDies(t *testing.T) {
	for _, dies := range []int{0, 3, 4, 9, 15} {
		r := newRig(t)
		r.daily(t, time.Now())
		dying, err := repo.Open(t.Context(), &mortal{Store: r.st, left: dies}, "main")
		if err != nil {
			t.Fatal(err)
		}
		o := PruneOptions{Repo: dying, Policy: twoDays, Host: "h"}
		if _, err := Prune(t.Context(), o); !errors.Is(err, store.Unavailable) {
			t.Fatalf("dies at %d: %v", dies, err)
		}
		ws := r.windows(t)
		if last := ws[len(ws)-1]; last.From > 30 || last.To != 60 {
			t.Errorf("died at %d: %+v", dies, ws)
		}
		o.Repo = r.open(t)
		o.Now = func() time.Time { return time.Now().Add(pruneTTL + time.Second) }
		if _, err := Prune(t.Context(), o); err != nil {
			t.Fatalf("after dying at %d: %v", dies, err)
		}
		if ws := r.windows(t); len(ws) != 1 || ws[0].From != 30 || ws[0].To != 60 || ws[0].Segments != 18 {
			t.Errorf("died at %d, and after the next prune: %+v", dies, ws)
		}
	}
}

// TestPruneSegmentsLocked: on a real store with Object Lock, locked segments stay and are counted, and go when they may.
func TestPruneSegmentsLocked(t *testing.T) {
	s3 := lab.StartS3(t, lab.S3Options{ObjectLock: true})
	plain, locking := s3.StoreConfig(), s3.StoreConfig()
	locking.S3.ObjectLock = store.ObjectLock{Mode: "governance", Days: 3}
	r := &rig{term: 2}
	var err error
	if r.id, err = age.GenerateX25519Identity(); err != nil {
		t.Fatal(err)
	}
	if r.st, err = store.Open(t.Context(), plain); err != nil {
		t.Fatal(err)
	}
	r.repo = r.open(t)
	if err := r.repo.Admit(t.Context(), testCluster, time.Now()); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	line := r.daily(t, now)
	// Two old segments are written under a lock, beside those that overlap them.
	if r.st, err = store.Open(t.Context(), locking); err != nil {
		t.Fatal(err)
	}
	r.repo = r.open(t)
	for _, first := range []repo.Revision{11, 21} {
		r.segmentOf(t, line, first, first+3, now.Add(-100*time.Hour), true)
	}
	o := PruneOptions{Repo: r.repo, Policy: twoDays, Host: "h"}
	res, err := Prune(t.Context(), o)
	if err != nil || res.SegmentsRemoved != 12 || res.SegmentsLocked != 2 || res.SegmentsLockedUntil.Before(now.Add(70*time.Hour)) {
		t.Errorf("%+v, %v", res, err)
	}
	c, err := r.repo.Catalog(t.Context())
	if err != nil || len(c.Segments) != 18+2 {
		t.Errorf("%d segments are left, %v", len(c.Segments), err)
	}
}
