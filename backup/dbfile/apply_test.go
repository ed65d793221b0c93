package dbfile_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	bolt "go.etcd.io/bbolt"

	"etcd-steward/backup/dbfile"
	"etcd-steward/backup/revision"
)

// contents is a whole db file: bucket by bucket, key by key.
type contents map[string]map[string]string

func readAll(t *testing.T, path string) contents {
	t.Helper()
	db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	all := contents{}
	if err := db.View(func(tx *bolt.Tx) error {
		return tx.ForEach(func(name []byte, b *bolt.Bucket) error {
			m := map[string]string{}
			all[string(name)] = m
			return b.ForEach(func(k, v []byte) error { m[string(k)] = string(v); return nil })
		})
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

func sameContents(t *testing.T, want, got contents) {
	t.Helper()
	if reflect.DeepEqual(want, got) { // cmp takes seconds for so much
		return
	}
	t.Fatalf("(-want +got):\n%.2000s", cmp.Diff(want, got))
}

func writeAll(t *testing.T, all contents) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "db")
	db, err := bolt.Open(path, 0o600, &bolt.Options{NoSync: true, NoFreelistSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.Update(func(tx *bolt.Tx) error {
		for name, m := range all {
			b, err := tx.CreateBucket([]byte(name))
			for _, k := range slices.Sorted(maps.Keys(m)) {
				err = errors.Join(err, b.Put([]byte(k), []byte(m[k])))
			}
			if err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return path
}

func revKey(rev, sub int64) []byte {
	return dbfile.Record{Revision: revision.Revision(rev), Sub: sub}.AppendKey(nil)
}

// value is a KeyValue with a key and, as filler, its value.
func value(key string, filler int) []byte {
	b := append([]byte{1<<3 | 2, byte(len(key))}, key...)
	if filler > 0 {
		b = append(b, 5<<3|2, byte(filler&0x7f)|0x80, byte(filler>>7&0x7f)|0x80, byte(filler>>14))
		b = append(b, strings.Repeat("x", filler)...)
	}
	return b
}

// sampleFile has n revisions of one change each, from revision 2 on, and everything else that etcd keeps.
func sampleFile(n int) contents {
	all := contents{
		"key":   {},
		"meta":  {"consistent_index": "\x00\x00\x00\x00\x00\x00\x01\x00", "term": "\x00\x00\x00\x00\x00\x00\x00\x02", "confState": "{}", "storageVersion": "3.6.0"},
		"lease": {"\x00\x00\x00\x00\x00\x00\x00\x07": "\x08\x07\x10\x3c\x18\x05"}, // ID 7, TTL 60, remaining 5
		"auth":  {"authRevision": "\x00\x00\x00\x00\x00\x00\x00\x01"}, "authUsers": {}, "members": {"1": "{}"}, "alarm": {},
	}
	for i := range int64(n) {
		all["key"][string(revKey(i+2, 0))] = string(value(fmt.Sprint("key", i%100), 40))
	}
	return all
}

func edit(t *testing.T, path string, o dbfile.EditOptions, fn func(e *dbfile.Edit)) {
	t.Helper()
	e, err := dbfile.OpenEdit(t.Context(), path, o)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Abort()
	fn(e)
	if err := e.Finish(); err != nil {
		t.Fatal(err)
	}
}

// TestEdit: what is put is there, what is rewound is gone, and nothing else in the file changes; whatever the batch.
func TestEdit(t *testing.T) {
	for _, batch := range []int{0, 1, 1000} {
		all := sampleFile(16_000) // a rewind takes several batches
		path := writeAll(t, all)
		sum := bytes.Repeat([]byte("s"), 32)
		f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
		if err == nil {
			_, err = f.Write(sum)
		}
		if err = errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
		edit(t, path, dbfile.EditOptions{BatchBytes: batch}, func(e *dbfile.Edit) {
			if rev, compact := e.Revisions(); rev != 16_001 || compact != 0 {
				t.Fatalf("revisions %d, %d", rev, compact)
			}
			if n, err := e.Rewind(t.Context(), 5_000); n != 11_001 || err != nil {
				t.Fatal(n, err)
			}
			for i := int64(5_001); i < 5_300; i++ {
				for sub := range 1 + i%3 {
					k, v := revKey(i, sub), value(fmt.Sprint("new", sub), int(i)*int(i%7))
					if ok, err := e.Put(k, v); !ok || err != nil {
						t.Fatal(i, ok, err)
					}
					all["key"][string(k)] = string(v)
					clear(v) // it is the caller's again
				}
			}
		})
		maps.DeleteFunc(all["key"], func(k, v string) bool {
			return k > string(revKey(5_000, 1)) && !strings.HasPrefix(v[2:], "new")
		})
		sameContents(t, all, readAll(t, path))
		f2, err := dbfile.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := f2.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
		for rev, subs := range map[revision.Revision]int64{2: 1, 5_000: 1, 5_002: 2, 5_299: 2} {
			for sub := range subs + 1 {
				r, found, err := f2.Put(rev, sub)
				if err != nil || found != (sub < subs) || found && string(r.Value) != all["key"][string(revKey(int64(rev), sub))] {
					t.Errorf("lookup of %d/%d: %v, %v", rev, sub, found, err)
				}
			}
		}
		f2.Close()
	}
}

// TestEditAbort: without Finish nothing but whole batches is in the file, and a closed Edit does nothing.
func TestEditAbort(t *testing.T) {
	path := writeAll(t, sampleFile(10))
	e, err := dbfile.OpenEdit(t.Context(), path, dbfile.EditOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Put(revKey(12, 0), value("k", 0)); err != nil {
		t.Fatal(err)
	}
	e.Abort()
	if d := cmp.Diff(sampleFile(10), readAll(t, path)); d != "" {
		t.Fatal(d)
	}
	if _, err := e.Put(revKey(12, 0), value("k", 0)); err == nil {
		t.Error("put after abort")
	}
	if e.Finish() == nil {
		t.Error("finish after abort")
	}
	e.Abort()
}

// TestEditOrder: records that do not follow are refused, each with its revision; those that the file has are compared.
func TestEditOrder(t *testing.T) {
	all := sampleFile(10) // 2 to 11
	all["meta"]["finishedCompactRev"] = string(revKey(4, 0))
	all["meta"]["scheduledCompactRev"] = string(revKey(5, 0))
	delete(all["key"], string(revKey(3, 0)))
	path := writeAll(t, all)
	same := []byte(all["key"][string(revKey(6, 0))])
	for name, tc := range map[string]struct {
		key, value []byte
		ok         bool
	}{
		"a gap":                         {revKey(13, 0), value("k", 0), false},
		"a first change that is not 0":  {revKey(12, 1), value("k", 0), false},
		"one more of the file's newest": {revKey(11, 1), value("k", 0), false},
		"another value":                 {revKey(6, 0), value("k", 0), false},
		"not in the file":               {revKey(6, 1), same, false},
		"compacted away":                {revKey(3, 0), same, true},
		"compacted, another value":      {revKey(4, 0), value("k", 0), false},
		"the same":                      {revKey(6, 0), same, true},
	} {
		e, err := dbfile.OpenEdit(t.Context(), path, dbfile.EditOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if rev, compact := e.Revisions(); rev != 11 || compact != 5 {
			t.Fatalf("revisions %d, %d", rev, compact)
		}
		written, err := e.Put(tc.key, tc.value)
		var re *dbfile.RecordError
		if written || (err == nil) != tc.ok || err != nil && !errors.As(err, &re) {
			t.Errorf("%s: %v, %v", name, written, err)
		}
		if _, err := e.Rewind(t.Context(), 4); err == nil {
			t.Error("rewound below a scheduled compaction")
		}
		e.Abort()
	}
	edit(t, path, dbfile.EditOptions{}, func(e *dbfile.Edit) {
		if _, err := e.Put(revKey(12, 0), value("k", 0)); err != nil {
			t.Fatal(err)
		}
		if err := e.EndSegment(); err != nil {
			t.Fatal(err)
		}
		if _, err := e.Put(revKey(12, 1), value("k", 0)); err == nil {
			t.Error("a revision that was ended went on")
		}
	})
	if _, err := dbfile.OpenEdit(t.Context(), filepath.Join(t.TempDir(), "none"), dbfile.EditOptions{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
}

// TestEditInUse: a file that another process has open, as a running etcd has, is refused, and so is a damaged one.
func TestEditInUse(t *testing.T) {
	path := writeAll(t, sampleFile(1000))
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dbfile.OpenEdit(t.Context(), path, dbfile.EditOptions{}); !errors.Is(err, dbfile.ErrInUse) {
		t.Errorf("in use: %v", err)
	}
	db.Close()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := 3 * 4096; i < len(b); i += 4096 {
		b[i+8] ^= 0xff // the kind of every page
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := dbfile.OpenEdit(t.Context(), path, dbfile.EditOptions{}); !errors.Is(err, dbfile.ErrDamaged) {
		t.Errorf("damaged: %v", err)
	}
}

// TestSetLeases: a lease that stays keeps its bytes, a new one has no remaining time, others go.
func TestSetLeases(t *testing.T) {
	all := sampleFile(3)
	all["lease"]["\x00\x00\x00\x00\x00\x00\x00\x08"] = "\x08\x08\x10\x3c"
	for _, without := range []bool{false, true} {
		if without {
			delete(all, "lease")
		}
		path := writeAll(t, all)
		edit(t, path, dbfile.EditOptions{}, func(e *dbfile.Edit) {
			if err := e.SetLeases([]dbfile.Lease{{ID: 7, TTL: 60}, {ID: -2, TTL: 9}}); err != nil {
				t.Fatal(err)
			}
		})
		want := map[string]string{"\x00\x00\x00\x00\x00\x00\x00\x07": all["lease"]["\x00\x00\x00\x00\x00\x00\x00\x07"], "\xff\xff\xff\xff\xff\xff\xff\xfe": "\x08\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01\x10\x09"}
		if without {
			want["\x00\x00\x00\x00\x00\x00\x00\x07"] = "\x08\x07\x10\x3c"
		}
		if d := cmp.Diff(want, readAll(t, path)["lease"]); d != "" {
			t.Errorf("(-want +got):\n%s", d)
		}
	}
}

// TestCopyAll: without a compaction the copy holds the same, in fewer pages; compacted beyond its revision or into a file that holds
// something, it is refused.
func TestCopyAll(t *testing.T) {
	all := sampleFile(10_000)
	path := writeAll(t, all)
	edit(t, path, dbfile.EditOptions{}, func(e *dbfile.Edit) {
		if _, err := e.Rewind(t.Context(), 4_500); err != nil {
			t.Fatal(err)
		}
	})
	f, err := dbfile.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	dst := filepath.Join(t.TempDir(), "copy")
	if err := f.CopyCompacted(t.Context(), dst, 0); err != nil {
		t.Fatal(err)
	}
	sameContents(t, readAll(t, path), readAll(t, dst))
	was, _ := os.Stat(path)
	is, _ := os.Stat(dst)
	if is.Size() > was.Size()*6/10 || is.Size()%4096 != 0 {
		t.Errorf("%d bytes of %d", is.Size(), was.Size())
	}
	for _, bad := range []revision.Revision{-1, 4_501} {
		if err := f.CopyCompacted(t.Context(), filepath.Join(t.TempDir(), "x"), bad); err == nil {
			t.Errorf("compacted at %d", bad)
		}
	}
	if err := f.CopyCompacted(t.Context(), dst, 0); err == nil {
		t.Error("copied over a file")
	}
}

// TestEditKeySet: a set of 64-bit hashes behaves as a map does, zero included.
func TestEditKeySet(t *testing.T) {
	var s dbfile.KeySet
	want := map[string]bool{}
	for i := range 5000 {
		k := fmt.Sprint(i * i % 3001)
		if s.Has([]byte(k)) != want[k] {
			t.Fatalf("%s: has %v", k, !want[k])
		}
		if s.Add([]byte(k)) == want[k] {
			t.Fatalf("%s: added %v", k, want[k])
		}
		want[k] = true
	}
	if s.Len() != len(want) || !slices.ContainsFunc(slices.Collect(maps.Keys(want)), func(k string) bool { return s.Has([]byte(k)) }) {
		t.Fatalf("%d keys, want %d", s.Len(), len(want))
	}
}
