package repo

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"etcd-steward/backup/store"
	"etcd-steward/backup/store/faults"
	"etcd-steward/integration/lab"
	"etcd-steward/internal/fail"
)

// pruneRig has five backups, an abandoned upload and an old plan's mark; the plan removes the first three backups and the upload.
type pruneRig struct {
	st      store.Store
	r       *Repo
	backups []*Manifest
	upload  *Manifest
	plan    *Plan
}

func newPruneRig(t *testing.T, st store.Store) *pruneRig {
	t.Helper()
	p := &pruneRig{st: st, r: openRepo(t, st)}
	tl := Timeline{clusterA, 1}
	if err := p.r.Admit(t.Context(), clusterA, day); err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		m := takeBackup(t, p.r, tl, Revision(10+i), day.Add(time.Duration(i)*time.Hour))
		p.backups = append(p.backups, m)
		if err := p.r.PutVerification(t.Context(), Verification{ID: m.ID, Level: LevelBytes, OK: true, At: day, Host: "h"}); err != nil {
			t.Fatal(err)
		}
	}
	var data []byte
	p.upload, data = newManifest(tl, 12, day.Add(90*time.Minute))
	if err := p.r.PutData(t.Context(), p.upload, source(data)); err != nil {
		t.Fatal(err)
	}
	c := catalog(t, p.r)
	var remove []Removal
	var keep []Kept
	for _, e := range c.Entries {
		switch {
		case !e.Complete():
			remove = append(remove, RemovalOf(e, "an upload that never ended"))
		case len(remove) < 4 && e.Revision < 13:
			remove = append(remove, RemovalOf(e, "no rule keeps it"))
		default:
			keep = append(keep, Kept{ID: e.ID, Timeline: e.Timeline, Revision: e.Revision, Why: []string{"last 2"}})
		}
	}
	p.plan = p.r.NewPlan(day, "m1", "last 2", remove, keep)
	return p
}

func (p *pruneRig) put(t *testing.T) {
	t.Helper()
	if err := p.r.PutPlan(t.Context(), p.plan); err != nil {
		t.Fatal(err)
	}
}

// checkDone: what was to go is gone without a trace, what was to stay is whole.
func (p *pruneRig) checkDone(t *testing.T) {
	t.Helper()
	r := openRepo(t, p.st)
	c := catalog(t, r)
	if n := len(c.Backups()); n != 2 || len(c.Entries) != 2 || len(c.Verified) != 2 {
		t.Fatalf("%d backups, %d entries, %d marks are left, want 2 of each", n, len(c.Entries), len(c.Verified))
	}
	for i, e := range c.Backups() {
		if m, err := r.Manifest(t.Context(), e); err != nil || m.ID != p.backups[3+i].ID {
			t.Fatalf("what is left: %v, %v", m, err)
		}
	}
}

func TestExecute(t *testing.T) {
	st, _ := fileStore(t)
	p := newPruneRig(t, st)
	if _, err := p.r.Execute(t.Context(), p.plan, ExecuteOptions{}); err == nil {
		t.Fatal("a plan that is not stored was executed")
	}
	if n := len(catalog(t, p.r).Backups()); n != 5 {
		t.Fatalf("%d backups, want all 5: the plan was not stored", n)
	}
	p.put(t)
	if err := p.r.PutPlan(t.Context(), p.plan); !errors.Is(err, store.Exists) {
		t.Errorf("the plan again: %v, want %v", err, store.Exists)
	}
	stored, err := p.r.Plan(t.Context(), p.plan.ID)
	if diff := cmp.Diff(p.plan, stored); err != nil || diff != "" {
		t.Fatalf("%v\n%s", err, diff)
	}
	changed := *p.plan
	changed.Keep = nil
	if _, err := p.r.Execute(t.Context(), &changed, ExecuteOptions{}); err == nil {
		t.Fatal("another plan than the stored one was executed")
	}
	var reported []SnapshotID
	got, err := p.r.Execute(t.Context(), p.plan, ExecuteOptions{Now: day, Report: func(r Removed) { reported = append(reported, r.ID) }})
	want := Pruned{Plan: p.plan.ID, Finished: day, Gone: 4, Bytes: planBytes(p.plan)}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Fatalf("%v\n%s", err, diff)
	}
	if len(reported) != 4 {
		t.Errorf("reported %v", reported)
	}
	p.checkDone(t)
	if open, err := p.r.UnfinishedPlans(t.Context()); err != nil || open != nil {
		t.Errorf("unfinished plans: %v, %v", open, err)
	}
	if !exists(t, p.r.Store(), planKey(p.plan.ID)) {
		t.Error("the plan is gone: nobody can see why backups were removed")
	}
}

func planBytes(p *Plan) (n int64) {
	for _, rm := range p.Remove {
		n += rm.Bytes
	}
	return n
}

// A prune that dies at any operation is resumed: what had begun is ended, what had not begun is left to a new plan. At no moment is
// there a manifest whose data is gone.
func TestExecuteDies(t *testing.T) {
	template, from := fileStore(t)
	rig := newPruneRig(t, template)
	rig.put(t)
	for at := 0; ; at++ {
		st, dir := fileStore(t)
		if err := os.CopyFS(filepath.Join(dir, "main"), os.DirFS(filepath.Join(from, "main"))); err != nil {
			t.Fatal(err)
		}
		p := &pruneRig{st: st, r: openRepo(t, st), backups: rig.backups, upload: rig.upload, plan: rig.plan}
		n := 0
		hooks := faults.Hooks{Before: func(_ context.Context, op, key string) error {
			if n++; n > at && at%2 == 0 {
				return faults.Dead(op, key)
			}
			return nil
		}, After: func(_ context.Context, op, key string) error {
			if n > at && at%2 == 1 { // the answer is lost instead
				return faults.Dead(op, key)
			}
			return nil
		}}
		dying, err := OpenReadOnly(st, "main")
		if err != nil {
			t.Fatal(err)
		}
		dying.store = scoped{st: faults.Wrap(st, hooks), prefix: "main/"}
		_, err = dying.Execute(t.Context(), p.plan, ExecuteOptions{Now: day})
		if err == nil {
			if at < 20 {
				t.Fatalf("a prune of %d operations", at)
			}
			p.checkDone(t)
			return
		}
		c := catalog(t, p.r)
		if len(c.MissingData()) > 0 {
			t.Fatalf("death after %d operations: %+v have lost their data", at, c.MissingData())
		}
		before := len(c.Backups())
		open, err := p.r.UnfinishedPlans(t.Context())
		if err != nil || len(open) > 1 {
			t.Fatalf("death after %d operations: unfinished %v, %v", at, open, err)
		}
		for _, plan := range open {
			if _, err := p.r.Execute(t.Context(), plan, ExecuteOptions{Now: day, BegunOnly: true}); err != nil {
				t.Fatal(err)
			}
			c := catalog(t, p.r)
			if len(c.Backups()) != before || len(c.Unfinished()) > 0 {
				t.Fatalf("death after %d operations, resumed: %d backups of %d, %d half removed", at, len(c.Backups()), before, len(c.Unfinished()))
			}
		}
		if open, err := p.r.UnfinishedPlans(t.Context()); err != nil || open != nil {
			t.Fatalf("resumed plans are still unfinished: %v, %v", open, err)
		}
		// Or the whole plan again, however often.
		for range 2 {
			if _, err := p.r.Execute(t.Context(), p.plan, ExecuteOptions{Now: day}); err != nil {
				t.Fatal(err)
			}
		}
		p.checkDone(t)
	}
}

// The janitor role of docs/SECURITY.md may read documents, but not read or look at data.
func TestExecuteAsJanitor(t *testing.T) {
	st, _ := fileStore(t)
	p := newPruneRig(t, st)
	p.put(t)
	janitor := openRepo(t, faults.Wrap(st, faults.Hooks{Before: func(_ context.Context, op, key string) error {
		if (op == "get" || op == "head") && strings.Contains(key, ".db.zst") {
			return &store.Error{Op: op, Key: key, Kind: store.Denied}
		}
		return nil
	}}))
	got, err := janitor.Execute(t.Context(), p.plan, ExecuteOptions{Now: day})
	if err != nil || got.Gone != 4 {
		t.Fatalf("%+v, %v; want 4 gone", got, err)
	}
	p.checkDone(t)
	if err := st.Delete(t.Context(), "main/"+p.backups[4].Object.Key); err != nil {
		t.Fatal(err)
	}
	gone := Entry{Timeline: p.backups[4].Timeline, Revision: p.backups[4].Database.Revision, ID: p.backups[4].ID}
	if _, err := janitor.Manifest(t.Context(), gone); !errors.Is(err, ErrNoData) {
		t.Errorf("data that is gone, to a janitor: %v, want %v", err, ErrNoData)
	}
}

// What is not as the plan expects stays.
func TestExecuteSpares(t *testing.T) {
	st, _ := fileStore(t)
	p := newPruneRig(t, st)
	p.put(t)
	// The upload was finished after all, one manifest is damaged, one is of a newer format.
	if err := p.r.PutManifest(t.Context(), p.upload); err != nil {
		t.Fatal(err)
	}
	damaged, newer := p.backups[0], p.backups[1]
	putRaw(t, p.r.Store(), ManifestKey(damaged.Timeline, 10, damaged.ID), []byte("{}"))
	doc, err := Seal("snapshot", 2, newer)
	if err != nil {
		t.Fatal(err)
	}
	putRaw(t, p.r.Store(), ManifestKey(newer.Timeline, 11, newer.ID), doc)
	got, err := p.r.Execute(t.Context(), p.plan, ExecuteOptions{Now: day})
	if err != nil || got.Gone != 1 || len(got.Left) != 3 {
		t.Fatalf("%+v, %v; want 1 gone, 3 left", got, err)
	}
	for _, left := range got.Left {
		if left.Kept == "" || left.Gone {
			t.Errorf("left without a reason: %+v", left)
		}
	}
	for _, m := range []*Manifest{p.upload, damaged, newer} {
		if !exists(t, p.r.Store(), m.Object.Key) {
			t.Errorf("the data of %s is gone", m.ID)
		}
	}
}

// Nothing is removed when what should remain does not exist.
func TestExecuteWithoutAnchor(t *testing.T) {
	st, _ := fileStore(t)
	p := newPruneRig(t, st)
	p.put(t)
	for _, m := range p.backups[3:] {
		if err := p.r.Store().Delete(t.Context(), m.Object.Key); err != nil {
			t.Fatal(err)
		}
	}
	_, err := p.r.Execute(t.Context(), p.plan, ExecuteOptions{Now: day})
	if fail.ExitCode(err) != fail.Unsafe || !errors.Is(err, ErrNoData) {
		t.Fatalf("%v, want it refused", err)
	}
	if n := len(catalog(t, p.r).Backups()); n != 3 {
		t.Fatalf("%d backups are left, want the 3 that should have gone", n)
	}
}

// A plan can name nothing but objects of snapshots that it does not keep, in the order of removal.
func TestPlanValidate(t *testing.T) {
	st, _ := fileStore(t)
	p := newPruneRig(t, st)
	for name, change := range map[string]func(p *Plan){
		"ID":              func(p *Plan) { p.ID = "../x" },
		"another cluster": func(p *Plan) { p.Cluster = "other" },
		"identity":        func(p *Plan) { p.Remove[0].Keys = []string{identityKey} },
		"another's data":  func(p *Plan) { p.Remove[0].Keys[1] = p.Remove[1].Keys[1] },
		"data first":      func(p *Plan) { slices.Reverse(p.Remove[0].Keys) },
		"manifest twice":  func(p *Plan) { p.Remove[0].Keys[1] = p.Remove[0].Keys[0] },
		"no keys":         func(p *Plan) { p.Remove[0].Keys = nil },
		"three keys":      func(p *Plan) { p.Remove[0].Keys = append(p.Remove[0].Keys, p.Remove[0].Keys[1]) },
		"no timeline":     func(p *Plan) { p.Remove[0].Timeline = Timeline{} },
		"kept as well":    func(p *Plan) { p.Keep[0].ID = p.Remove[0].ID },
	} {
		plan := *p.plan
		plan.Remove, plan.Keep = nil, slices.Clone(p.plan.Keep)
		for _, rm := range p.plan.Remove {
			rm.Keys = slices.Clone(rm.Keys)
			plan.Remove = append(plan.Remove, rm)
		}
		if _, err := p.r.encodePlan(&plan); err != nil {
			t.Fatal(err)
		}
		change(&plan)
		if err := p.r.PutPlan(t.Context(), &plan); err == nil {
			t.Errorf("%s: stored", name)
		}
	}
}

// A plan for a huge repository is bounded and says what it left out.
func TestPlanBounded(t *testing.T) {
	st, _ := fileStore(t)
	r := openRepo(t, st)
	var remove []Removal
	var keep []Kept
	tl := Timeline{clusterA, 4294967295}
	for i := range planMax + 50 {
		e := entry(tl, 1<<62, day.Add(time.Duration(i)*time.Hour), true, true)
		remove = append(remove, RemovalOf(e, strings.Repeat("why", 30)))
		keep = append(keep, Kept{ID: NewSnapshotID(day.Add(time.Duration(i) * time.Minute)), Timeline: tl, Revision: 1 << 62, Why: []string{"hourly 2026-11-20 12 +0000", "daily 2026-11-20", "monthly 2026-11"}})
	}
	p := r.NewPlan(day, "host", "policy", remove, keep)
	if p.RemoveLater != 50 || p.KeepMore != 50 || p.Remove[0].ID != remove[0].ID || p.Keep[len(p.Keep)-1].ID != keep[len(keep)-1].ID {
		t.Errorf("%d later, %d more", p.RemoveLater, p.KeepMore)
	}
	doc, err := r.encodePlan(p)
	t.Logf("%d bytes", len(doc))
	if err != nil {
		t.Fatal(err)
	}
}

// On S3, locked backups are reported with the day on which they can go, and stay whole; unlocked ones go.
func TestExecuteLocked(t *testing.T) {
	s3 := lab.StartS3(t, lab.S3Options{ObjectLock: true})
	plainConfig, lockConfig := s3.StoreConfig(), s3.StoreConfig()
	lockConfig.S3.ObjectLock = store.ObjectLock{Mode: "governance", Days: 3}
	plain, err := store.Open(t.Context(), plainConfig)
	if err != nil {
		t.Fatal(err)
	}
	locking, err := store.Open(t.Context(), lockConfig)
	if err != nil {
		t.Fatal(err)
	}
	p := newPruneRig(t, plain)
	tl := Timeline{clusterA, 1}
	locked := takeBackup(t, openRepo(t, locking), tl, 9, day.Add(-time.Hour))
	if until := time.Until(locked.RetainUntil); until < 47*time.Hour || until > 73*time.Hour {
		t.Fatalf("the manifest says that it is locked until %v", locked.RetainUntil)
	}
	// One whose manifest does not know of the lock: the store does.
	unaware, data := newManifest(tl, 8, day.Add(-2*time.Hour))
	if err := openRepo(t, locking).PutData(t.Context(), unaware, source(data)); err != nil {
		t.Fatal(err)
	}
	unaware.RetainUntil = time.Time{}
	if err := p.r.PutManifest(t.Context(), unaware); err != nil {
		t.Fatal(err)
	}
	for _, m := range []*Manifest{locked, unaware} {
		e, err := p.r.FindID(t.Context(), m.ID)
		if err != nil {
			t.Fatal(err)
		}
		p.plan.Remove = append([]Removal{RemovalOf(e, "no rule keeps it")}, p.plan.Remove...)
	}
	p.put(t)
	got, err := p.r.Execute(t.Context(), p.plan, ExecuteOptions{})
	if err != nil || got.Gone != 4 || len(got.Left) != 2 {
		t.Fatalf("%+v, %v; want 4 gone, 2 left", got, err)
	}
	for _, left := range got.Left {
		if !left.LockedUntil.After(time.Now().Add(47*time.Hour)) || left.Kept == "" {
			t.Errorf("left: %+v", left)
		}
	}
	c := catalog(t, p.r)
	for _, m := range []*Manifest{locked, unaware} {
		if e, ok := c.Find(m.ID); !ok || !e.Complete() {
			t.Errorf("locked backup %s is not whole any more", m.ID)
		}
	}
	// A clock that is wrong does not help: the store has the last word.
	got, err = p.r.Execute(t.Context(), p.plan, ExecuteOptions{Now: time.Now().Add(80 * time.Hour)})
	if err != nil || len(got.Left) != 2 || got.Left[0].LockedUntil.IsZero() {
		t.Fatalf("%+v, %v; want 2 left", got, err)
	}
	for _, m := range []*Manifest{locked, unaware} {
		if !exists(t, p.r.Store(), m.Object.Key) {
			t.Errorf("the locked data of %s is gone", m.ID)
		}
	}
	if e, ok := catalog(t, p.r).Find(locked.ID); !ok || !e.Complete() {
		t.Errorf("backup %s, whose manifest is locked too, is not whole any more", locked.ID)
	}
}
