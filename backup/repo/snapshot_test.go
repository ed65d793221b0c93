package repo

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"etcd-steward/backup/store"
	"etcd-steward/backup/store/faults"
	"etcd-steward/internal/fail"
)

func TestManifestRoundTrip(t *testing.T) {
	st, _ := fileStore(t)
	r := openRepo(t, st)
	m := takeBackup(t, r, Timeline{clusterA, 1}, 10, day)
	e, err := r.FindID(t.Context(), m.ID)
	if err != nil {
		t.Fatal(err)
	}
	got, err := r.Manifest(t.Context(), e)
	if diff := cmp.Diff(m, got); err != nil || diff != "" {
		t.Fatalf("%v\n%s", err, diff)
	}
	body, err := r.Data(t.Context(), m, 5, 7)
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 20)
	n, _ := body.Read(buf)
	if err := body.Close(); err != nil || string(buf[:n]) != string(getRaw(t, r.Store(), m.Object.Key)[5:12]) {
		t.Fatalf("Data: %x, %v", buf[:n], err)
	}
	if _, err := r.FindID(t.Context(), NewSnapshotID(day)); err == nil || fail.HintOf(err) == "" {
		t.Errorf("an ID that is not there: %v", err)
	}
	if want := []string{ManifestKey(m.Timeline, 10, m.ID), m.Object.Key}; len(keysOf(t, r.Store())) != 2 || !exists(t, r.Store(), want[0]) || !exists(t, r.Store(), want[1]) {
		t.Errorf("objects %q, want %q", keysOf(t, r.Store()), want)
	}
}

// A manifest is believed only where it lies, about what it says, with its data there. The listing is believed in nothing.
func TestManifestChecks(t *testing.T) {
	st, _ := fileStore(t)
	r := openRepo(t, st)
	tl := Timeline{clusterA, 1}
	m := takeBackup(t, r, tl, 10, day)
	other := takeBackup(t, r, tl, 11, day.Add(time.Hour))
	e, _ := catalog(t, r).Find(m.ID)
	key := ManifestKey(tl, 10, m.ID)
	sealed := getRaw(t, r.Store(), key)

	bare := Entry{Timeline: tl, Revision: 10, ID: m.ID} // a listing that lags
	wrong := e
	wrong.Data.Size++
	for name, e := range map[string]Entry{"listed": e, "not listed": bare, "listed wrongly": wrong} {
		if _, err := r.Manifest(t.Context(), e); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	foreign := *m
	foreign.Cluster = "other"
	foreignDoc, err := EncodeManifest(&foreign)
	if err != nil {
		t.Fatal(err)
	}
	for name, doc := range map[string][]byte{
		"another backup's":         getRaw(t, r.Store(), ManifestKey(tl, 11, other.ID)),
		"another cluster's":        foreignDoc,
		"damaged":                  append([]byte{' '}, sealed...),
		"inconsistent":             reseal(t, sealed, `"size": 512`, `"size": 513`),
		"with a wrong object name": reseal(t, sealed, `"key": "cdf8`, `"key": "cdf9`),
	} {
		putRaw(t, r.Store(), key, doc)
		if _, err := r.Manifest(t.Context(), e); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), string(m.ID)) {
			t.Errorf("%s: %v, want %v with the ID", name, err, ErrDamaged)
		}
	}
	newer, err := Seal("snapshot", 2, m)
	if err != nil {
		t.Fatal(err)
	}
	putRaw(t, r.Store(), key, newer)
	if _, err := r.Manifest(t.Context(), e); !errors.Is(err, ErrNewerFormat) {
		t.Errorf("newer: %v, want %v", err, ErrNewerFormat)
	}
	putRaw(t, r.Store(), key, sealed)

	data := getRaw(t, r.Store(), m.Object.Key)
	putRaw(t, r.Store(), m.Object.Key, data[1:])
	if _, err := r.Manifest(t.Context(), bare); !errors.Is(err, ErrDamaged) {
		t.Errorf("shorter data: %v, want %v", err, ErrDamaged)
	}
	if err := r.Store().Delete(t.Context(), m.Object.Key); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Manifest(t.Context(), bare); !errors.Is(err, ErrNoData) || errors.Is(err, ErrDamaged) {
		t.Errorf("no data: %v, want %v", err, ErrNoData)
	}
	if err := r.Store().Delete(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Manifest(t.Context(), e); !errors.Is(err, store.NotFound) {
		t.Errorf("no manifest: %v, want %v", err, store.NotFound)
	}
}

func TestValidate(t *testing.T) {
	for name, change := range map[string]func(m *Manifest){
		"ID":            func(m *Manifest) { m.ID = "x" },
		"cluster":       func(m *Manifest) { m.Cluster = "a/b" },
		"timeline":      func(m *Manifest) { m.Timeline.Cut = 0 },
		"revision 0":    func(m *Manifest) { m.Database.Revision = 0 },
		"compaction":    func(m *Manifest) { m.Database.CompactRevision = 11 },
		"compaction -1": func(m *Manifest) { m.Database.CompactRevision = -1 },
		"odd size":      func(m *Manifest) { m.Database.Size = 511 },
		"no size":       func(m *Manifest) { m.Database.Size = 0 },
		"huge size":     func(m *Manifest) { m.Database.Size = 1<<63 - 512 },
		"key":           func(m *Manifest) { m.Object.Key = "../etc/passwd" },
		"unencrypted":   func(m *Manifest) { m.Object.Recipients = nil },
		"no blocks":     func(m *Manifest) { m.Object.Blocks = nil },
		"more blocks":   func(m *Manifest) { m.Object.Blocks = append(m.Object.Blocks, Block{Size: 1}) },
		"empty block":   func(m *Manifest) { m.Object.Blocks[0].Size = 0 },
		"long block":    func(m *Manifest) { m.Object.Blocks[0].Size = 401 },
		"huge block":    func(m *Manifest) { m.Object.Blocks[0].Size, m.Object.Size = 1<<21, 1<<22 },
		"block size 0":  func(m *Manifest) { m.Object.BlockSize = 0 },
		"block size":    func(m *Manifest) { m.Object.BlockSize = MaxBlockSize + 1 },
		"made from x":   func(m *Manifest) { m.MadeFrom = &MadeFrom{Snapshot: "x", Revision: 10} },
		"made from a hole": func(m *Manifest) {
			m.MadeFrom = &MadeFrom{Snapshot: m.ID, Revision: 4, First: 6, Last: 10, Segments: 1}
		},
		"made from nothing": func(m *Manifest) { m.MadeFrom = &MadeFrom{Snapshot: m.ID, Revision: 9} },
		"made of more": func(m *Manifest) {
			m.MadeFrom = &MadeFrom{Snapshot: m.ID, Revision: 4, First: 5, Last: 11, Segments: 1}
		},
		"proven later": func(m *Manifest) {
			m.MadeFrom = &MadeFrom{Snapshot: m.ID, Revision: 12, Proof: &MemberProof{Revision: 11}}
		},
	} {
		m, _ := newManifest(Timeline{clusterA, 1}, 10, day)
		if err := m.Validate(); err != nil {
			t.Fatal(err)
		}
		change(m)
		if err := m.Validate(); err == nil {
			t.Errorf("%s: %+v is valid", name, m)
		}
		if _, err := EncodeManifest(m); err == nil {
			t.Errorf("%s: it is written", name)
		}
	}
}

// TestMadeFrom: how a snapshot was made is read back as it was written, and is not there for one that was streamed.
func TestMadeFrom(t *testing.T) {
	m, _ := newManifest(Timeline{clusterA, 1}, 10, day)
	plain, err := EncodeManifest(m)
	if err != nil || bytes.Contains(plain, []byte("made_from")) {
		t.Errorf("a streamed one: %v\n%s", err, plain)
	}
	for name, from := range map[string]*MadeFrom{
		"forward": {
			Snapshot: m.ID, Revision: 4, First: 5, Last: 10, Segments: 2, AssumedLeases: 1, Made: day, Seconds: 0.5, Host: "h", Steward: "test",
			Proof: &MemberProof{Revision: 9, CompactRevision: 3, HashKV: 7, MemberID: "00000000000000aa", Time: day},
		},
		"back": {Snapshot: m.ID, Revision: 12, Made: day},
	} {
		m.MadeFrom = from
		doc, err := EncodeManifest(m)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got, err := DecodeManifest(doc)
		if d := cmp.Diff(m, got); err != nil || d != "" {
			t.Errorf("%s: %v (-want +got):\n%s", name, err, d)
		}
	}
}

// What is put is what the manifest says, exclusively, and nothing else is left behind.
func TestPutRefuses(t *testing.T) {
	st, _ := fileStore(t)
	r := openRepo(t, st)
	m, data := newManifest(Timeline{clusterA, 1}, 10, day)
	wrong := append([]byte{1}, data...)
	renamed := *m
	renamed.Object.Key = "repository.json"
	short := source(data)
	short.Reader = source(data[:9]).Reader
	for name, c := range map[string]struct {
		m   *Manifest
		src store.Source
	}{
		"another size": {m, source(wrong)},
		"another hash": {m, store.Source{Reader: source(data).Reader, Size: int64(len(data)), SHA256: [32]byte{1}}},
		"no hash":      {m, store.Source{Reader: source(data).Reader, Size: int64(len(data))}},
		"a lie":        {m, store.Source{Reader: source(wrong[:len(data)]).Reader, Size: int64(len(data)), SHA256: m.Object.SHA256}},
		"an early end": {m, short},
		"another key":  {&renamed, source(data)},
	} {
		if err := r.PutData(t.Context(), c.m, c.src); err == nil {
			t.Errorf("%s: stored", name)
		}
	}
	foreign := *m
	foreign.Cluster = "other"
	if err := r.PutManifest(t.Context(), &foreign); err == nil {
		t.Error("another cluster's manifest is stored")
	}
	if got := keysOf(t, st); got != nil {
		t.Fatalf("objects %q are left behind", got)
	}
	if err := r.PutData(t.Context(), m, source(data)); err != nil {
		t.Fatal(err)
	}
	if err := r.PutData(t.Context(), m, source(data)); !errors.Is(err, store.Exists) {
		t.Errorf("data again: %v, want %v", err, store.Exists)
	}
	for range 2 { // the same manifest again is a copy that is resumed
		if err := r.PutManifest(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	changed := *m
	changed.Source.Host = "elsewhere"
	if err := r.PutManifest(t.Context(), &changed); !errors.Is(err, store.Exists) {
		t.Errorf("a changed manifest: %v, want %v", err, store.Exists)
	}
}

// A store that dies at any operation leaves either no backup or a whole one.
func TestDeathWhileWriting(t *testing.T) {
	for at := range 8 {
		st, _ := fileStore(t)
		n := 0
		dying := faults.Wrap(st, faults.Hooks{Before: func(_ context.Context, op, key string) error {
			if n++; n > at {
				return faults.Dead(op, key)
			}
			return nil
		}})
		m, data := newManifest(Timeline{clusterA, 1}, 10, day)
		r, err := Open(t.Context(), dying, "main")
		if err == nil {
			err = r.Admit(t.Context(), clusterA, day)
		}
		if err == nil {
			err = r.PutData(t.Context(), m, source(data))
		}
		if err == nil {
			err = r.PutManifest(t.Context(), m)
		}
		c := catalog(t, openRepo(t, st))
		if (err == nil) != (len(c.Backups()) == 1) || len(c.MissingData()) > 0 || err != nil && !errors.Is(err, store.Unreachable) {
			t.Errorf("death after %d operations: %v; %d backups, %d without data", at, err, len(c.Backups()), len(c.MissingData()))
		}
	}
}

func TestVerifications(t *testing.T) {
	st, _ := fileStore(t)
	r := openRepo(t, st)
	id := NewSnapshotID(day)
	if v, ok, err := r.Verification(t.Context(), id); ok || err != nil {
		t.Fatalf("never verified: %+v, %t, %v", v, ok, err)
	}
	at := func(h int) time.Time { return day.Add(time.Duration(h) * time.Hour) }
	for i, c := range []struct {
		v    Verification
		want int // index of the verdict so far
	}{
		0: {Verification{Level: LevelBytes, OK: true, At: at(0)}, 0},
		1: {Verification{Level: LevelDeep, OK: true, At: at(1), RestoreSeconds: 4.5}, 1},
		2: {Verification{Level: LevelBytes, OK: true, At: at(2)}, 1}, // a look at the bytes does not hide that it was booted
		3: {Verification{Level: LevelDatabase, Problem: "HashKV differs", At: at(3)}, 3},
		4: {Verification{Level: LevelBytes, OK: true, At: at(4)}, 3}, // its bytes are as stored, but what they say is wrong
		5: {Verification{Level: LevelDeep, OK: true, At: at(5)}, 5},
		6: {Verification{Level: LevelBytes, Problem: "a flipped bit", At: at(6)}, 6},
		7: {Verification{Level: LevelBytes, OK: true, At: at(7)}, 5}, // the failure is cured, and what was proven stands
	} {
		c.v.ID, c.v.Host, c.v.Seconds = id, "h", 1
		if err := r.PutVerification(t.Context(), c.v); err != nil {
			t.Fatal(err)
		}
		got, ok, err := r.Verification(t.Context(), id)
		if err != nil || !ok || !got.At.Equal(at(c.want)) {
			t.Errorf("after %d: %+v, %t, %v; want number %d", i, got, ok, err, c.want)
		}
	}
	for name, v := range map[string]Verification{
		"no ID":               {Level: LevelBytes, OK: true, At: day},
		"no level":            {ID: id, OK: true, At: day},
		"no time":             {ID: id, Level: LevelBytes, OK: true},
		"a problem but OK":    {ID: id, Level: LevelBytes, OK: true, Problem: "x", At: day},
		"not OK but no cause": {ID: id, Level: LevelBytes, At: day},
	} {
		if err := r.PutVerification(t.Context(), v); err == nil {
			t.Errorf("%s: recorded", name)
		}
	}
	// A damaged mark is no mark, and is replaced; another's mark is not believed.
	other := NewSnapshotID(day)
	putRaw(t, r.Store(), verifiedKey(other), getRaw(t, r.Store(), verifiedKey(id)))
	putRaw(t, r.Store(), verifiedKey(id), []byte("{}"))
	for _, id := range []SnapshotID{id, other} {
		if v, ok, err := r.Verification(t.Context(), id); ok || err != nil {
			t.Errorf("a mark that is wrong: %+v, %t, %v", v, ok, err)
		}
	}
	if err := r.PutVerification(t.Context(), Verification{ID: id, Level: LevelBytes, OK: true, At: day, Host: "h"}); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := r.Verification(t.Context(), id); !ok || err != nil {
		t.Errorf("after it was replaced: %t, %v", ok, err)
	}
}
