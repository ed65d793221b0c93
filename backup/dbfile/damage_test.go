package dbfile

import (
	"bytes"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unsafe"

	bolt "go.etcd.io/bbolt"
	"go.etcd.io/etcd/server/v3/lease"
)

// sample is a db file with branch pages, overflow pages, inline buckets and free pages, as etcd writes it: without a list of them.
func sample(t *testing.T) []byte {
	t.Helper()
	s := newStore(t)
	rng := rand.New(rand.NewPCG(5, 5))
	for i := range 900 {
		s.step(rng, 80)
		if i%50 == 0 {
			s.kv.Put(fmt.Appendf(nil, "big-%d", i), make([]byte, 9000), lease.NoLease)
			s.kv.Commit()
		}
	}
	return read(t, s.snapshot())
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// withFreelist rewrites a db file with a stored list of its free pages.
func withFreelist(t *testing.T, data []byte) []byte {
	t.Helper()
	path := write(t, t.TempDir(), data)
	db, err := bolt.Open(path, 0o600, &bolt.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Update(func(tx *bolt.Tx) error { return tx.Bucket([]byte("meta")).Put([]byte("x"), []byte("y")) }); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return read(t, path)
}

func write(t *testing.T, dir string, data []byte) string {
	t.Helper()
	path := filepath.Join(dir, "db")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// use does everything that can be done with a file.
func use(t *testing.T, path string) error {
	t.Helper()
	f, err := Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, _, err1 := f.Revisions()
	_, err2 := f.Info(t.Context())
	_, err3 := f.HashKV(t.Context(), 500, 100)
	return errors.Join(err1, err2, err3, f.Check(t.Context()))
}

// TestFlippedBits: whatever bit of a file is wrong, nothing crashes, and no error is of an unknown kind. Half of the flips hit what
// describes the structure; those are mostly found even without the hash that the trailer carries.
func TestFlippedBits(t *testing.T) {
	for name, data := range map[string][]byte{"etcd": sample(t), "freelist": withFreelist(t, sample(t))} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const seed, flips = 11, 1200
			rng := rand.New(rand.NewPCG(seed, 0))
			dir, found := t.TempDir(), 0
			path := write(t, dir, data)
			if err := use(t, path); err != nil {
				t.Fatalf("the whole file: %v", err)
			}
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			for range flips {
				at := rng.IntN(len(data))
				if rng.IntN(2) == 0 { // a page's header or its first elements
					at = at/4096*4096 + rng.IntN(min(96, len(data)-at/4096*4096))
				}
				b := []byte{data[at] ^ 1<<rng.IntN(8)}
				if _, err := f.WriteAt(b, int64(at)); err != nil {
					t.Fatal(err)
				}
				if err := use(t, path); errors.Is(err, ErrDamaged) {
					found++
				} else if err != nil {
					t.Fatalf("seed %d: byte %d as %#x: %v", seed, at, b[0], err)
				}
				if _, err := f.WriteAt(data[at:at+1], int64(at)); err != nil {
					t.Fatal(err)
				}
			}
			t.Logf("found %d of %d flips", found, flips)
			if found < flips/4 {
				t.Errorf("found %d of %d flips: fewer than those of headers and elements", found, flips)
			}
		})
	}
}

// TestTruncated: a file that ends early is refused at every length, and a file that shrinks while it is read is an error, not a signal.
func TestTruncated(t *testing.T) {
	data := sample(t)
	dir := t.TempDir()
	for n := 0; n < len(data); n += 4096 + n/8 {
		if err := use(t, write(t, dir, data[:n])); !errors.Is(err, ErrDamaged) {
			t.Errorf("%d of %d bytes: got %v, want ErrDamaged", n, len(data), err)
		}
	}
	path := write(t, dir, data)
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := os.Truncate(path, 8192); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Info(t.Context()); !errors.Is(err, ErrDamaged) {
		t.Errorf("Info of a file that was truncated while open: got %v, want ErrDamaged", err)
	}
	if err := f.Check(t.Context()); !errors.Is(err, ErrDamaged) {
		t.Errorf("Check of a file that was truncated while open: got %v, want ErrDamaged", err)
	}
}

// craft changes a file's structure on purpose; the result must be refused with words that say why.
type craft struct {
	name, want string
	change     func(t *testing.T, c *crafted)
}

// crafted is a file that a test writes into, page by page.
type crafted struct {
	data []byte
	tree tree
}

func (c *crafted) page(id uint64) []byte { return c.data[id*4096 : (id+1)*4096] }

// find returns the first page from id on with these flags that a walk of the key bucket meets.
func (c *crafted) find(t *testing.T, flags uint16) uint64 {
	t.Helper()
	buckets, err := c.tree.buckets()
	if err != nil {
		t.Fatal(err)
	}
	for id := buckets["key"].root; ; {
		p, err := c.tree.page(id)
		if err != nil {
			t.Fatal(err)
		}
		if p.flags == flags {
			return id
		}
		if _, id, err = p.branch(0); err != nil {
			t.Fatal(err)
		}
	}
}

// setMeta changes a field of both meta pages and their checksums.
func (c *crafted) setMeta(at int, v uint64) {
	for page := range 2 {
		b := c.data[page*4096+pageHeaderSize:]
		order.PutUint64(b[at:], v)
		h := fnv.New64a()
		_, _ = h.Write(b[:metaSumAt])
		order.PutUint64(b[metaSumAt:], h.Sum64())
	}
}

var crafts = []craft{
	{"circle", "circle", func(t *testing.T, c *crafted) {
		id := c.find(t, branchFlag)
		order.PutUint64(c.page(id)[pageHeaderSize+8:], id)
	}},
	{"twice", "not in order", func(t *testing.T, c *crafted) {
		b := c.page(c.find(t, branchFlag))
		copy(b[pageHeaderSize+elementSize+8:][:8], b[pageHeaderSize+8:])
	}},
	{"count", "cannot hold", func(t *testing.T, c *crafted) { order.PutUint16(c.page(c.find(t, leafFlag))[10:], 60000) }},
	{"overflow", "flows over", func(t *testing.T, c *crafted) { order.PutUint32(c.page(c.find(t, leafFlag))[12:], 1<<31) }},
	{"reach", "reaches beyond", func(t *testing.T, c *crafted) {
		order.PutUint32(c.page(c.find(t, leafFlag))[pageHeaderSize+12:], ^uint32(0))
	}},
	{"kind", "no known kind", func(t *testing.T, c *crafted) { order.PutUint16(c.page(c.find(t, leafFlag))[8:], 0x40) }},
	{"pages", "it should have", func(_ *testing.T, c *crafted) { c.setMeta(40, 1<<50) }},
	{"root", "reference to page", func(_ *testing.T, c *crafted) { c.setMeta(16, 1<<40) }},
	{"page size", "pages of 0 bytes", func(_ *testing.T, c *crafted) { c.setMeta(8, 0) }},
	{"freelist", "reference to page", func(_ *testing.T, c *crafted) { c.setMeta(32, 1<<40) }},
	{"freelist kind", "no list of free pages", func(t *testing.T, c *crafted) { c.setMeta(32, c.find(t, leafFlag)) }},
	{"revision", "no revision", func(t *testing.T, c *crafted) {
		id := c.find(t, leafFlag)
		p, err := c.tree.page(id)
		if err != nil {
			t.Fatal(err)
		}
		_, key, _, err := p.leaf(0)
		if err != nil {
			t.Fatal(err)
		}
		at := bytes.Index(c.page(id), key)
		c.page(id)[at+8] = '-'
	}},
}

// TestCrafted: files made with intent are refused quickly, with the reason.
func TestCrafted(t *testing.T) {
	data := sample(t)
	for _, craft := range crafts {
		t.Run(craft.name, func(t *testing.T) {
			c := &crafted{data: bytes.Clone(data)}
			var err error
			if c.tree, err = openTree(c.data); err != nil {
				t.Fatal(err)
			}
			craft.change(t, c)
			err = use(t, write(t, t.TempDir(), c.data))
			if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), craft.want) {
				t.Errorf("got %v, want ErrDamaged that says %q", err, craft.want)
			}
		})
	}
}

// TestCheckEdit: a record that a wrong bit makes a bucket is found before bbolt follows it into memory that is not the file's; so is damage on the way to the last
// key. What an edit does not come to is not looked at.
func TestCheckEdit(t *testing.T) {
	data := sample(t)
	check := func(data []byte) error {
		f, err := Open(write(t, t.TempDir(), data))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		return f.CheckEdit()
	}
	for name, whole := range map[string][]byte{"as etcd writes it": data, "with a list": withFreelist(t, data)} {
		if err := check(whole); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	data = withFreelist(t, data) // its meta bucket has a record
	tr, err := openTree(data)
	if err != nil {
		t.Fatal(err)
	}
	buckets, err := tr.buckets()
	if err != nil {
		t.Fatal(err)
	}
	key := tr.pageOf(t, buckets["key"].root)
	child := func(i int) uint64 {
		_, id, err := key.branch(i)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	if key.flags != branchFlag || key.count < 3 {
		t.Fatalf("the sample is too small: %d", key.count)
	}
	for name, c := range map[string]struct {
		change func(b []byte)
		want   bool
	}{
		"a record becomes a bucket":    {func(b []byte) { b[tr.firstOf(t, buckets["meta"])] |= bucketLeafFlag }, true},
		"the last page of keys":        {func(b []byte) { order.PutUint16(b[child(key.count-1)*uint64(tr.pageSize)+8:], 0x77) }, true},
		"a page of keys in the middle": {func(b []byte) { order.PutUint16(b[child(1)*uint64(tr.pageSize)+8:], 0x77) }, false},
	} {
		b := bytes.Clone(data)
		c.change(b)
		if err := check(b); errors.Is(err, ErrDamaged) != c.want || err != nil && !c.want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func (t *tree) pageOf(tt *testing.T, id uint64) page {
	tt.Helper()
	p, err := t.page(id)
	if err != nil {
		tt.Fatal(err)
	}
	return p
}

// firstOf is where in the file the first element of a bucket of one page is.
func (t *tree) firstOf(tt *testing.T, b bucket) uint64 {
	tt.Helper()
	at := b.root * uint64(t.pageSize)
	if b.root == 0 {
		at = uint64(uintptr(unsafe.Pointer(&b.inline[0])) - uintptr(unsafe.Pointer(&t.data[0]))) // old copies of it are in free pages
	} else if p := t.pageOf(tt, b.root); p.flags != leafFlag || p.count == 0 {
		tt.Fatalf("page %d has no record", p.id)
	}
	return at + pageHeaderSize
}

// TestNotADatabase: what is no database at all.
func TestNotADatabase(t *testing.T) {
	dir := t.TempDir()
	garbage := make([]byte, 100<<10)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range garbage {
		garbage[i] = byte(rng.Uint32())
	}
	for name, data := range map[string][]byte{"empty": nil, "short": []byte("hello"), "zeros": make([]byte, 64<<10), "garbage": garbage} {
		if err := use(t, write(t, dir, data)); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: got %v, want ErrDamaged", name, err)
		}
	}
	if _, err := Open(dir); err == nil {
		t.Error("a folder was opened")
	}
	if _, err := Open(filepath.Join(dir, "nothing")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that does not exist: %v", err)
	}
}

// TestInUse: a file that a member runs on is refused at once, and closing gives it free.
func TestInUse(t *testing.T) {
	path := write(t, t.TempDir(), sample(t))
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); !errors.Is(err, ErrInUse) {
		t.Errorf("got %v, want ErrInUse", err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	before := read(t, path)
	if err := use(t, path); err != nil {
		t.Error(err)
	}
	if !bytes.Equal(before, read(t, path)) {
		t.Error("reading changed the file")
	}
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if _, err := f.Info(t.Context()); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Info after Close: got %v, want os.ErrClosed", err)
	}
}
