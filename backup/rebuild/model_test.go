package rebuild_test

import (
	"bytes"
	"context"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"etcd-steward/backup/changes"
	"etcd-steward/backup/dbfile"
	"etcd-steward/backup/rebuild"
	"etcd-steward/backup/repo"
	"etcd-steward/backup/revision"
	"etcd-steward/integration/lab"
)

var timeline = repo.Timeline{Cluster: 0xabc, Cut: 1}

// newRand is where random choices come from: see lab.Seed.
func newRand(t testing.TB) *rand.Rand {
	t.Helper()
	return rand.New(rand.NewPCG(lab.Seed(t), 7))
}

// change is one record of a model history.
type change struct {
	rev, sub  int64
	key       string
	tombstone bool
	value     []byte // the KeyValue
	lease     int64
}

func (c change) event() changes.Event {
	ev := changes.Event{Value: c.value}
	ev.SetRevision(c.rev, c.sub, c.tombstone)
	return ev
}

// history is a model of etcd's key space: what was changed at each revision. Revision 1 is the empty store.
type history struct {
	changes []change
	kv      map[string]changes.KeyValue
	rev     int64
}

func newHistory() *history { return &history{kv: map[string]changes.KeyValue{}, rev: 1} }

// op is a put, or with del a deletion, which does nothing when there is no such key.
type op struct {
	key   string
	value []byte
	lease int64
	del   bool
}

// txn makes one revision of ops, unless none changes anything.
func (h *history) txn(ops ...op) {
	sub := int64(0)
	for _, o := range ops {
		c := change{rev: h.rev + 1, sub: sub, key: o.key, tombstone: o.del, lease: o.lease}
		if o.del {
			if _, ok := h.kv[o.key]; !ok {
				continue
			}
			delete(h.kv, o.key)
			c.value = changes.AppendTombstone(nil, []byte(o.key))
		} else {
			kv := h.kv[o.key]
			if kv.Version == 0 {
				kv.CreateRevision = c.rev
			}
			kv.Key, kv.Value, kv.ModRevision, kv.Lease = []byte(o.key), o.value, c.rev, o.lease
			kv.Version++
			h.kv[o.key] = kv
			c.value = changes.AppendKeyValue(nil, kv)
		}
		h.changes = append(h.changes, c)
		sub++
	}
	if sub > 0 {
		h.rev++
	}
}

// random adds n revisions over few keys.
func (h *history) random(rng *rand.Rand, n int) {
	for last := h.rev + int64(n); h.rev < last; {
		var ops []op
		seen := map[string]bool{}
		for range 1 + rng.IntN(4) {
			k := fmt.Sprintf("key-%02d", rng.IntN(40))
			if seen[k] {
				continue
			}
			seen[k] = true
			o := op{key: k, del: rng.IntN(4) == 0}
			if !o.del {
				o.value = []byte(fmt.Sprint("value ", rng.Uint64()))
				if rng.IntN(5) == 0 {
					o.lease = 1 + rng.Int64N(5)
				}
			}
			ops = append(ops, o)
		}
		h.txn(ops...)
	}
}

// until are the changes up to a revision of which a store compacted at c has all but those that the compaction removed.
func (h *history) until(rev, c int64) []change {
	newest := map[string]change{}
	for _, x := range h.changes {
		if x.rev <= c {
			newest[x.key] = x
		}
	}
	var out []change
	for _, x := range h.changes {
		if x.rev > rev {
			break
		}
		n := newest[x.key]
		if x.rev > c || x.rev == n.rev && x.sub == n.sub && (!x.tombstone || x.rev == c) {
			out = append(out, x)
		}
	}
	return out
}

// hash is HashKV by the letter of etcd's server, storage/mvcc/hash.go, over a store that was compacted at c.
func (h *history) hash(rev, c int64) uint32 {
	keep := map[string]change{}
	for _, x := range h.changes {
		if x.rev <= rev {
			keep[x.key] = x
		}
	}
	for k, x := range keep {
		if x.tombstone {
			delete(keep, k)
		}
	}
	sum := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	sum.Write([]byte("key"))
	for _, x := range h.until(rev, c) {
		k, ok := keep[x.key]
		if x.rev <= c && len(keep) > 0 && (!ok || k.rev != x.rev || k.sub != x.sub) || x.rev == c && x.tombstone {
			continue
		}
		ev := x.event()
		sum.Write(ev.Bytes())
		sum.Write(x.value)
	}
	return sum.Sum32()
}

// file writes the db file of a store at a revision, compacted at c (0: never).
func (h *history) file(t testing.TB, rev, c int64, leases ...dbfile.Lease) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "db")
	db, err := bolt.Open(path, 0o600, &bolt.Options{NoSync: true, NoFreelistSync: true})
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		b, _ := tx.CreateBucket([]byte("key"))
		m, _ := tx.CreateBucket([]byte("meta"))
		if c > 0 {
			at := dbfile.Record{Revision: revision.Revision(c)}.AppendKey(nil)
			_ = m.Put([]byte("finishedCompactRev"), at)
			_ = m.Put([]byte("scheduledCompactRev"), at)
		}
		_ = m.Put([]byte("consistent_index"), []byte("12345678"))
		for _, x := range h.until(rev, c) {
			ev := x.event()
			if err := b.Put(ev.Bytes(), x.value); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	e, err := dbfile.OpenEdit(t.Context(), path, dbfile.EditOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.SetLeases(leases); err != nil {
		t.Fatal(err)
	}
	if err := e.Finish(); err != nil {
		t.Fatal(err)
	}
	return path
}

// mark is a record that is no event, placed behind the events of a revision.
type mark struct {
	after int64
	rec   changes.Record
}

func leasesSeen(rev int64, complete bool, ls ...changes.Lease) mark {
	return mark{rev, changes.Record{Kind: changes.KindLeases, Leases: changes.Leases{Revision: revision.Revision(rev), Complete: complete, Leases: ls}}}
}

func seenAt(rev int64, at time.Time) mark {
	return mark{rev, changes.Record{Kind: changes.KindTime, Time: changes.TimeMark{Revision: revision.Revision(rev), Time: at}}}
}

func proof(rev, compact int64, hash uint32) mark {
	return mark{rev, changes.Record{Kind: changes.KindProof, Proof: changes.Proof{Revision: revision.Revision(rev), CompactRevision: revision.Revision(compact), Hash: hash, MemberID: 7}}}
}

// content encodes the segment of the revisions first to last of some changes.
func content(t testing.TB, all []change, first, last int64, marks ...mark) []byte {
	t.Helper()
	all = slices.DeleteFunc(slices.Clone(all), func(c change) bool { return c.rev < first || c.rev > last })
	var buf bytes.Buffer
	enc, err := changes.NewEncoder(&buf, changes.Header{
		ClusterID: timeline.Cluster, Timeline: timeline, First: revision.Revision(first), Last: revision.Revision(last),
		Events: int64(len(all)), EtcdVersion: "3.6.16", Host: "h", Steward: "s", Created: time.Unix(1, 0).UTC(),
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range all {
		ev := c.event()
		if err := enc.Event(&ev); err != nil {
			t.Fatal(err)
		}
		if i+1 < len(all) && all[i+1].rev == c.rev {
			continue
		}
		for _, m := range marks {
			if m.after == c.rev {
				put(t, enc, m.rec)
			}
		}
	}
	if err := enc.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func put(t testing.TB, enc *changes.Encoder, r changes.Record) {
	t.Helper()
	var err error
	switch r.Kind {
	case changes.KindTime:
		err = enc.Time(r.Time)
	case changes.KindLeases:
		err = enc.Leases(r.Leases)
	case changes.KindProof:
		err = enc.Proof(r.Proof)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// decoded is an open segment in memory.
type decoded struct{ *changes.Decoder }

func (decoded) Close() error { return nil }

// segment is a segment of a repository, made of its content.
func segment(name string, first, last int64, content []byte) rebuild.Segment {
	return rebuild.Segment{
		Name: name, First: revision.Revision(first), Last: revision.Revision(last),
		Open: func(context.Context) (rebuild.Records, error) {
			d, err := changes.NewDecoder(bytes.NewReader(content))
			if err != nil {
				return nil, err
			}
			return decoded{d}, nil
		},
	}
}

func (h *history) segment(t testing.TB, first, last int64, marks ...mark) rebuild.Segment {
	t.Helper()
	return segment(fmt.Sprintf("%d-%d", first, last), first, last, content(t, h.changes, first, last, marks...))
}

// records reads a file's records.
func records(t testing.TB, path string) (out []change) {
	t.Helper()
	f := open(t, path)
	defer f.Close()
	err := f.Records(t.Context(), 0, 1<<62, false, func(r dbfile.Record) (bool, error) {
		key, err := r.Key()
		out = append(out, change{rev: int64(r.Revision), sub: r.Sub, key: string(key), tombstone: r.Tombstone, value: bytes.Clone(r.Value), lease: r.Lease()})
		return true, err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func open(t testing.TB, path string) *dbfile.File {
	t.Helper()
	f, err := dbfile.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func hashKV(t testing.TB, path string, rev, compact int64) uint32 {
	t.Helper()
	f := open(t, path)
	defer f.Close()
	h, err := f.HashKV(t.Context(), revision.Revision(rev), revision.Revision(compact))
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// leasesOf reads a file's leases: TTL by ID.
func leasesOf(t testing.TB, path string) map[int64]int64 {
	t.Helper()
	e, err := dbfile.OpenEdit(t.Context(), path, dbfile.EditOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Abort()
	ls, err := e.Leases()
	if err != nil {
		t.Fatal(err)
	}
	out := map[int64]int64{}
	for _, l := range ls {
		out[l.ID] = l.TTL
	}
	return out
}
