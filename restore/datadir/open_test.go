package datadir

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"etcd-steward/integration/lab"
)

// TestSkipScanFiles: whatever a bbolt file looks like - page size, a list of free pages in it, a damaged meta page, grown beyond its
// pages - an edit keeps all its content and bbolt's own check passes afterwards.
func TestSkipScanFiles(t *testing.T) {
	damageMeta := func(slot int64) func(t *testing.T, path string) {
		return func(t *testing.T, path string) { writeAt(t, path, []byte("damaged"), slot*int64(os.Getpagesize())+30) }
	}
	for name, c := range map[string]struct {
		options bbolt.Options
		spoil   func(t *testing.T, path string)
	}{
		"as etcd writes it":       {options: bbolt.Options{NoFreelistSync: true}},
		"with a list":             {},
		"pages of 1 KiB":          {options: bbolt.Options{NoFreelistSync: true, PageSize: 1024}},
		"pages of 64 KiB":         {options: bbolt.Options{NoFreelistSync: true, PageSize: 64 << 10}},
		"first meta page damaged": {options: bbolt.Options{NoFreelistSync: true}, spoil: damageMeta(0)},
		"other meta page damaged": {options: bbolt.Options{NoFreelistSync: true}, spoil: damageMeta(1)},
		"longer than its pages": {options: bbolt.Options{NoFreelistSync: true}, spoil: func(t *testing.T, path string) {
			st, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(path, st.Size()+1<<20); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "db")
			want := fill(t, path, c.options)
			if c.spoil != nil {
				c.spoil(t, path)
				if name != "longer than its pages" {
					want = read(t, path) // a damaged meta page takes its transaction with it
				}
			}
			want["added"] = "by the edit"
			for round := range 2 { // the second one finds what the first left
				if err := edit(path, func(tx *bbolt.Tx) error { return tx.Bucket([]byte("b")).Put([]byte("added"), []byte("by the edit")) }); err != nil {
					t.Fatalf("round %d: %v", round, err)
				}
				if got := read(t, path); len(got) != len(want) || got["added"] != want["added"] {
					t.Errorf("round %d: %d keys, want %d", round, len(got), len(want))
				}
			}
		})
	}
}

// fill writes a file with several levels of pages, overflow pages and free pages.
func fill(t *testing.T, path string, o bbolt.Options) map[string]string {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, &o)
	if err != nil {
		t.Fatal(err)
	}
	for round := range 5 {
		err := db.Update(func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte("b"))
			for i := 0; i < 500 && err == nil; i++ {
				err = b.Put(fmt.Appendf(nil, "%04d", i), bytes.Repeat([]byte{byte(round)}, 10+i%50*200))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return read(t, path)
}

func read(t *testing.T, path string) map[string]string {
	t.Helper()
	got := map[string]string{}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{NoFreelistSync: true, Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	err = db.View(func(tx *bbolt.Tx) error {
		for err := range tx.Check() {
			t.Errorf("bbolt check: %v", err)
		}
		return tx.Bucket([]byte("b")).ForEach(func(k, v []byte) error {
			got[string(k)] = string(v)
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func writeAt(t *testing.T, path string, b []byte, offset int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(b, offset); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestDamagedFiles: a file that is no database, cut off or full of wrong bytes gives an error or a directory, never a crash. (A restore checks
// every byte before it comes here; this is the second line.)
func TestDamagedFiles(t *testing.T) {
	s := takeSnapshot(t, "3.6", variety)
	whole, err := os.ReadFile(s.path)
	if err != nil {
		t.Fatal(err)
	}
	whole = whole[:len(whole)-32]
	b := bootstraps(t, "new", 1)[0]
	build := func(content []byte) error {
		dir := filepath.Join(t.TempDir(), "data")
		if err := os.MkdirAll(filepath.Dir(DBPath(dir)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(DBPath(dir), content, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Build(Config{Dir: dir, Bootstrap: b, Bump: 7})
		return err
	}
	for name, content := range map[string][]byte{
		"empty": {}, "text": []byte("this is no database"), "zeros": make([]byte, 1<<20), "one page": whole[:4096], "half": whole[:len(whole)/8192*4096],
		"no data": append(bytes.Clone(whole[:2*4096]), make([]byte, len(whole)-2*4096)...),
	} {
		if err := build(content); err == nil {
			t.Errorf("%s: no error", name)
		} else {
			t.Logf("%s: %v", name, err)
		}
	}
	seed := lab.Seed(t)
	r := rand.New(rand.NewPCG(seed, 0))
	failed := 0
	for range 60 {
		content := bytes.Clone(whole)
		for range 200 {
			content[r.IntN(len(content))] ^= 1 << r.IntN(8)
		}
		if build(content) != nil {
			failed++
		}
	}
	t.Logf("%d of 60 damaged files refused", failed)
}
