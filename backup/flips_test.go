package backup

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path"
	"strings"
	"sync"
	"testing"
	"time"

	"filippo.io/age"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"etcd-steward/backup/changes"
	"etcd-steward/backup/repo"
	"etcd-steward/integration/lab"
)

// damages is how often the repository is damaged: promise "10,000 random flips over every object kind: all found, none restored".
const damages = 10_000

// TestEveryFlipIsFound damages one object of a repository at a time, by one flipped bit or by cutting it, at random places of every kind of
// object. verify must find each, and nothing that was damaged may come back from export.
func TestEveryFlipIsFound(t *testing.T) {
	n := damages
	if testing.Short() {
		n = 400
	} else if lab.Racing {
		n = 1000
		t.Logf("%d of %d under the race detector: make test runs all of them without it", n, damages)
	}
	seed := lab.Seed(t)
	var all sync.WaitGroup
	const shards = 2
	for shard := range shards {
		r := fullRig(t)
		all.Go(func() { r.damage(t, rand.New(rand.NewPCG(seed, uint64(shard))), n/shards) })
	}
	all.Wait()
}

// fullRig is a small repository with objects of every kind.
func fullRig(t *testing.T) *rig {
	r := newRig(t)
	content, info := snapshotFile(t, 40)
	now := time.Now()
	first := r.add(t, content, info, now.Add(-2*time.Hour), true)
	second := r.add(t, content, info, now.Add(-time.Hour), false)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(r.repo.AddSuccessor(t.Context(), repo.Successor{ClusterID: 0xc2, From: first.ID, Timeline: first.Timeline, Revision: first.Database.Revision, Restored: now, Host: "h"}))
	must(r.repo.PutVerification(t.Context(), repo.Verification{ID: first.ID, Level: repo.LevelDatabase, OK: true, At: now, Host: "h", Seconds: 1}))
	plan := r.repo.NewPlan(now, "h", "last 1", nil, []repo.Kept{{ID: second.ID, Timeline: second.Timeline, Revision: second.Database.Revision, Why: []string{"last"}}})
	must(r.repo.PutPlan(t.Context(), plan))
	_, err := r.repo.Execute(t.Context(), plan, repo.ExecuteOptions{})
	must(err)
	rev := second.Database.Revision
	last := r.addSegments(t, second.Timeline, rev-5, 40)
	must(r.repo.PutRecorded(t.Context(), repo.Recorded{Timeline: second.Timeline, Highest: last, Through: last, Time: now, Host: "h"}))
	must(r.repo.PutVerifiedRanges(t.Context(), second.Timeline, 1, []repo.VerifiedRange{{First: rev + 1, Last: last, Level: repo.LevelContent, OK: true, At: now, Host: "h"}}))
	return r
}

// damage damages, verifies, tries to export, and repairs, n times.
func (r *rig) damage(t *testing.T, rng *rand.Rand, n int) {
	keys := r.objects(t)
	kinds := map[string]int{}
	for i := 0; n > 0; i++ {
		key := keys[rng.IntN(len(keys))]
		if _, ok := backupOf(key); !ok && !repo.IsSegmentKey(key) && i%3 != 0 {
			continue // documents are small, and for each of them all backups are verified
		}
		good, err := os.ReadFile(r.file(key))
		if err != nil {
			t.Error(err)
			return
		}
		bad, what := mutate(rng, good)
		if err := os.WriteFile(r.file(key), bad, 0o600); err != nil {
			t.Error(err)
			return
		}
		r.mustFind(t, key, what)
		if err := os.WriteFile(r.file(key), good, 0o600); err != nil {
			t.Error(err)
			return
		}
		kinds[kindOf(key)]++
		n--
		if t.Failed() {
			t.Errorf("%s of %s was not dealt with (number %d)", what, key, i)
			return
		}
	}
	if t.Logf("damaged: %v", kinds); len(kinds) < 12 {
		t.Error("not every kind of object was damaged")
	}
	// What verify says is worth something only if the repository is good without the damage.
	if rep, err := Verify(t.Context(), r.verifyOptions(t)); err != nil || !rep.OK {
		t.Errorf("the repaired repository: %+v, %v", rep, err)
	}
}

func mutate(rng *rand.Rand, good []byte) (bad []byte, what string) {
	bad = bytes.Clone(good)
	if rng.IntN(5) == 0 {
		return bad[:rng.IntN(len(bad))], "a truncation"
	}
	bad[rng.IntN(len(bad))] ^= 1 << rng.IntN(8)
	return bad, "a flipped bit"
}

func (r *rig) verifyOptions(t *testing.T) VerifyOptions {
	ro, err := repo.Open(t.Context(), readOnly{r.st}, "main")
	if err != nil {
		return VerifyOptions{}
	}
	return VerifyOptions{Repo: ro, All: true, Identities: []age.Identity{r.id}, Scratch: t.TempDir(), Host: "h"}
}

// mustFind says that the damage to key is noticed by whoever looks, and that nothing comes of a damaged backup.
func (r *rig) mustFind(t *testing.T, key, what string) {
	opened, err := repo.Open(t.Context(), readOnly{r.st}, "main")
	if key == "repository.json" {
		if err == nil {
			t.Errorf("a repository with a damaged identity was opened")
		}
		return
	}
	if err != nil {
		t.Error(err)
		return
	}
	o := VerifyOptions{Repo: opened, Identities: []age.Identity{r.id}, Scratch: r.dir + "-scratch", Host: "h"}
	id, isBackup := backupOf(key)
	if o.All = !isBackup; isBackup {
		o.IDs = []repo.SnapshotID{id}
	}
	rep, err := Verify(t.Context(), o)
	if err != nil {
		t.Errorf("verify could not look: %v", err)
		return
	}
	if rep.OK {
		t.Errorf("%s of %s was not found: %+v", what, key, rep)
		return
	}
	for _, v := range rep.Backups {
		if v.OK == (isBackup && v.ID == id) {
			t.Errorf("the verdict on %s after %s of %s: ok %v (%s)", v.ID, what, key, v.OK, v.Problem)
		}
	}
	if repo.IsSegmentKey(key) {
		if len(rep.Changes) != 1 || len(rep.Changes[0].Findings) == 0 || rep.Changes[0].Findings[0].Key != key {
			t.Errorf("%s of segment %s: %+v", what, key, rep.Changes)
		}
		seg, err := repo.ParseSegmentKey(key)
		if err == nil { // what was damaged may not come back from the change log either
			_, err = o.segmentContent(t.Context(), seg)
		}
		if err == nil {
			t.Errorf("%s of segment %s: it was read", what, key)
		}
		return
	}
	if !isBackup {
		if len(rep.DamagedDocuments) != 1 || rep.DamagedDocuments[0].Key != key {
			t.Errorf("damaged documents: %v, want %s", rep.DamagedDocuments, key)
		}
		return
	}
	var out bytes.Buffer
	if _, err := Export(t.Context(), ExportOptions{Repo: opened, Point: Point{ID: id}, Identities: o.Identities, Stream: &out, Scratch: o.Scratch}); err == nil || out.Len() > 0 {
		t.Errorf("%s of %s: export gave %d bytes, error %v", what, key, out.Len(), err)
	}
}

// backupOf is the backup that an object belongs to.
func backupOf(key string) (repo.SnapshotID, bool) {
	if !strings.Contains(key, "/snapshots/") {
		return "", false
	}
	_, id, _ := strings.Cut(path.Base(key), "-")
	id, _, _ = strings.Cut(id, ".")
	return repo.SnapshotID(id), true
}

// addSegments adds a change log of one-key revisions from first on, in segments encrypted and not, two of which overlap.
func (r *rig) addSegments(t *testing.T, line repo.Timeline, first repo.Revision, n int) (last repo.Revision) {
	t.Helper()
	for i, part := range [][2]int{{0, n / 2}, {n/2 - 3, n - 5}, {n - 5, n}} {
		last = first + repo.Revision(part[1]) - 1
		r.segmentOf(t, line, first+repo.Revision(part[0]), last, time.Now(), i != 1)
	}
	return last
}

// segmentOf adds one of one-key revisions, closed at a time.
func (r *rig) segmentOf(t *testing.T, line repo.Timeline, first, last repo.Revision, at time.Time, encrypted bool) repo.Segment {
	t.Helper()
	var events []changes.Event
	for rev := int64(first); rev <= int64(last); rev++ {
		kv := mvccpb.KeyValue{Key: fmt.Appendf(nil, "/changed/%d", rev), Value: fmt.Appendf(nil, "plain-value-%d", rev), CreateRevision: rev, ModRevision: rev, Version: 1}
		value, err := proto.Marshal(&kv)
		if err != nil {
			t.Fatal(err)
		}
		ev := changes.Event{Value: value}
		ev.SetRevision(rev, 0, false)
		events = append(events, ev)
	}
	h := changes.Header{ClusterID: line.Cluster, Timeline: line, First: first, Last: last, EtcdVersion: "3.7.3", Host: "h", Steward: "test", Created: at}
	return r.addSegment(t, h, events, nil, encrypted, at)
}

// kindOf is the kind of an object by its key.
func kindOf(key string) string {
	if _, ok := backupOf(key); ok {
		_, ending, _ := strings.Cut(key, ".")
		return ending
	}
	if repo.IsSegmentKey(key) {
		_, ending, _ := strings.Cut(key, ".")
		return ending
	}
	if i := strings.LastIndex(key, "/"); i >= 0 {
		return key[:i]
	}
	return key
}
