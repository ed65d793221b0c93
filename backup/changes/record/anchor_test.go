package record

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"testing"
	"time"

	"etcd-steward/backup/repo"
	"etcd-steward/backup/store"
	"etcd-steward/integration/lab"
)

// publish makes a snapshot's data and manifest: for the recorder, only what they say of themselves matters.
func (r *rig) publish(t repo.Timeline, rev int64, auth uint64) {
	r.t.Helper()
	data := bytes.Repeat([]byte{1}, 400)
	id := repo.NewSnapshotID(time.Now())
	m := &repo.Manifest{
		ID: id, Cluster: "test", Timeline: t,
		Database: repo.Database{Revision: repo.Revision(rev), Size: 512, AuthRevision: auth},
		Source:   repo.Source{Quorum: true, RaftTerm: 1, Host: "test"},
		Object: repo.Object{
			Key: repo.DataKey(t, repo.Revision(rev), id, true), Size: 400, SHA256: sha256.Sum256(data), Recipients: []string{"age1test"},
			BlockSize: 1 << 20, Blocks: []repo.Block{{Size: 200}},
		},
	}
	if err := r.repo.PutData(r.t.Context(), m, store.Source{Reader: bytes.NewReader(data), Size: 400, SHA256: m.Object.SHA256}); err != nil {
		r.t.Fatal(err)
	}
	if err := r.repo.PutManifest(r.t.Context(), m); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) clusterID() repo.ClusterID {
	r.t.Helper()
	resp, err := r.cli.Get(r.t.Context(), "x")
	if err != nil {
		r.t.Fatal(err)
	}
	return repo.ClusterID(resp.Header.ClusterId)
}

// TestKilledAtFirst: a recorder that ends before it has stored anything leaves no hole, though a newer snapshot is taken before the next one begins.
func TestKilledAtFirst(t *testing.T) {
	for _, with := range []string{"a snapshot", "none"} {
		t.Run(with, func(t *testing.T) {
			r := newRig(t, lab.EtcdOptions{})
			first := r.put(10)
			line := repo.Timeline{Cluster: r.clusterID(), Cut: 1}
			if err := r.repo.Admit(t.Context(), line.Cluster, time.Now()); err != nil {
				t.Fatal(err)
			}
			if with != "none" {
				r.publish(line, first, 1)
			}
			o := r.options()
			o.Flush = time.Hour
			killed := r.start(o)
			lab.Eventually(t, 30*time.Second, "a mark", func() error {
				_, ok, err := r.repo.Recorded(t.Context(), line)
				if err == nil && !ok {
					err = errors.New("none")
				}
				return err
			})
			if with == "none" {
				r.publish(line, first, 1)
			}
			r.put(20)
			// As if it was killed: what it has goes neither to the store nor to the spool of the next one, nor is the turn given back.
			r.down.Store(true)
			_ = killed.stop()
			r.down.Store(false)
			r.publish(line, r.put(5), 1)
			run := r.start(r.options())
			last := r.put(5)
			run.waitStored(last)
			_ = run.stop()
			l := r.read(line)
			if int64(l.from) != first+1 {
				t.Fatalf("the log begins at %d, want %d", l.from, first+1)
			}
			r.mustEqual(l, first+1, last)
			if n := run.got(SignalGap); n != 0 {
				t.Errorf("%d gaps", n)
			}
		})
	}
}

// TestBehindSnapshot: with a snapshot in the repository and no segment, the log begins right behind it, and nothing is demanded; a log that is
// further behind than a watch should be asked for goes on behind a newer snapshot.
func TestBehindSnapshot(t *testing.T) {
	r := newRig(t, lab.EtcdOptions{})
	at := r.put(10)
	line := repo.Timeline{Cluster: r.clusterID(), Cut: 1}
	if err := r.repo.Admit(t.Context(), line.Cluster, time.Now()); err != nil {
		t.Fatal(err)
	}
	r.publish(line, at, 1)
	r.put(5)
	o := r.options()
	run := r.start(o)
	run.waitState(Recording)
	last := r.put(5)
	run.waitStored(last)
	_ = run.stop()
	if len(run.signals) != 0 {
		t.Fatalf("signals %+v", run.signals)
	}
	l := r.read(line)
	if int64(l.from) != at+1 {
		t.Fatalf("the log begins at %d, want %d", l.from, at+1)
	}
	r.mustEqual(l, at+1, last)

	at = r.put(100)
	r.publish(line, at, 1)
	r.put(10)
	o.CatchUpMax = 50
	run = r.start(o)
	gap := run.has(SignalGap)
	if gap.NeedFull || gap.From != repo.Revision(last+1) || gap.To != repo.Revision(at) {
		t.Fatalf("got %+v, want the gap from %d to the snapshot at %d", gap, last+1, at)
	}
	end := r.put(5)
	run.waitStored(end)
	_ = run.stop()
	r.mustEqual(r.segmentsFrom(line, repo.Revision(at+1)), at+1, end)
}

// TestRightsChangedMeanwhile: the auth revision is compared with the newest snapshot's, not with what some recorder saw.
func TestRightsChangedMeanwhile(t *testing.T) {
	r := newRig(t, lab.EtcdOptions{})
	line := repo.Timeline{Cluster: r.clusterID(), Cut: 1}
	if err := r.repo.Admit(t.Context(), line.Cluster, time.Now()); err != nil {
		t.Fatal(err)
	}
	r.publish(line, r.put(3), 1)
	if _, err := r.cli.UserAdd(t.Context(), "eve", "x"); err != nil {
		t.Fatal(err)
	}
	run := r.start(r.options())
	if s := run.has(SignalAuth); !s.NeedFull || s.Timeline != line {
		t.Fatalf("got %+v", s)
	}
}
