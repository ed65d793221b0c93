package envelope

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"

	"etcd-steward/backup/repo"
)

const smallBlock = 32 << 10

// Every flipped bit of an object is found, by Decode with and without the whole object's sum and by CheckBytes, and nothing that is wrong is
// written: 1,500 seeded offsets per kind of object, and every byte of the age header.
func TestFlips(t *testing.T) {
	id := classic(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 2))
	content := mixed(seed, 3*smallBlock-777)
	for name, to := range map[string][]age.Recipient{"plain": nil, "encrypted": {id.Recipient()}} {
		t.Run(name, func(t *testing.T) {
			stored, s := sealWith(t, content, Options{Recipients: to}, smallBlock)
			opts := DecodeOptions{Identities: []age.Identity{id}, Workers: 1}
			for i := range 1500 {
				at := rng.IntN(len(stored))
				if i < 300 {
					at = i // the header, the nonce, the first frame's header
				}
				flipped := slices.Clone(stored)
				flipped[at] ^= 1 << rng.IntN(8)
				opts.WholeObject = i%2 == 0
				dst := &memory{b: make([]byte, len(content))}
				err := Decode(t.Context(), s.Object("k"), s.ContentSize, fetchFrom(flipped), dst, opts)
				if !errors.Is(err, ErrDamaged) {
					t.Fatalf("byte %d flipped: %v, want %v", at, err, ErrDamaged)
				}
				if !strings.Contains(err.Error(), "object k") {
					t.Fatalf("byte %d flipped: %q does not name the object", at, err)
				}
				checkWritten(t, dst.b, content)
				if err := CheckBytes(t.Context(), s.Object("k"), fetchFrom(flipped), nil); !errors.Is(err, ErrDamaged) {
					t.Fatalf("byte %d flipped: CheckBytes: %v, want %v", at, err, ErrDamaged)
				}
			}
		})
	}
}

// checkWritten: every block is as it was, or untouched.
func checkWritten(t *testing.T, got, content []byte) {
	t.Helper()
	for off := 0; off < len(content); off += smallBlock {
		end := min(off+smallBlock, len(content))
		if !bytes.Equal(got[off:end], content[off:end]) && !bytes.Equal(got[off:end], make([]byte, end-off)) {
			t.Fatalf("the block at %d was written with bytes that are wrong", off)
		}
	}
}

// Lengths, order and tables: each kind of damage is found, and says where.
func TestDamage(t *testing.T) {
	id := classic(t)
	content := mixed(9, 4*smallBlock)
	for name, to := range map[string][]age.Recipient{"plain": nil, "encrypted": {id.Recipient()}} {
		stored, s := sealWith(t, content, Options{Recipients: to}, smallBlock)
		for _, c := range damages(stored, s) {
			t.Run(name+"/"+c.name, func(t *testing.T) {
				opts := DecodeOptions{Identities: []age.Identity{id}}
				err := Decode(t.Context(), c.o, s.ContentSize+c.more, fetchFrom(c.stored), nil, opts)
				if !errors.Is(err, ErrDamaged) || !strings.Contains(fmt.Sprint(err), "object k") {
					t.Errorf("Decode: %v, want %v with the object's name", err, ErrDamaged)
				}
				if c.sound {
					return
				}
				if err := CheckBytes(t.Context(), c.o, fetchFrom(c.stored), nil); !errors.Is(err, ErrDamaged) {
					t.Errorf("CheckBytes: %v, want %v", err, ErrDamaged)
				}
			})
		}
	}
}

type damage struct {
	name   string
	stored []byte
	o      repo.Object
	more   int64 // content than there is
	sound  bool  // the stored bytes are; the manifest is not
}

func sumOf(b []byte) repo.SHA256 { return sha256.Sum256(b) }

func damages(stored []byte, s Sealed) []damage {
	o := s.Object("k")
	with := func(change func(*repo.Object)) repo.Object {
		c := o
		c.Blocks = slices.Clone(o.Blocks)
		change(&c)
		return c
	}
	swapped := slices.Clone(stored)
	n, m := o.Blocks[0].Size, o.Blocks[1].Size
	copy(swapped, stored[n:n+m])
	copy(swapped[m:], stored[:n])
	return []damage{
		{name: "empty", stored: nil, o: o},
		{name: "truncated by one", stored: stored[:len(stored)-1], o: o},
		{name: "truncated in the middle", stored: stored[:len(stored)/2], o: o},
		{name: "longer by one", stored: append(slices.Clone(stored), 0), o: o},
		{name: "twice", stored: slices.Concat(stored, stored), o: o},
		{name: "longer, and the manifest agrees", stored: append(slices.Clone(stored), 0), o: with(func(o *repo.Object) { o.Size++ })},
		{name: "frames swapped", stored: swapped, o: o},
		{name: "table swapped", stored: stored, sound: true, o: with(func(o *repo.Object) { o.Blocks[0], o.Blocks[1] = o.Blocks[1], o.Blocks[0] })},
		{name: "table moved by one byte", stored: stored, sound: true, o: with(func(o *repo.Object) { o.Blocks[0].Size++; o.Blocks[1].Size-- })},
		{name: "a frame fewer", stored: stored, more: -smallBlock, sound: true, o: with(func(o *repo.Object) { o.Blocks = o.Blocks[:3] })},
		{name: "less content", stored: stored, more: -1, sound: true, o: o},
		{name: "other block size", stored: stored, sound: true, o: with(func(o *repo.Object) { o.BlockSize++ }), more: 1},
		{name: "no blocks", stored: stored, sound: true, o: with(func(o *repo.Object) { o.Blocks = nil })},
		{name: "size of nothing", stored: stored, o: with(func(o *repo.Object) { o.Size = 0 })},
	}
}

// The whole object's sum is compared when it is asked for.
func TestWholeObject(t *testing.T) {
	content := mixed(4, 2*smallBlock)
	stored, s := sealWith(t, content, Options{}, smallBlock)
	o := s.Object("k")
	o.SHA256[0] ^= 1
	if err := Decode(t.Context(), o, s.ContentSize, fetchFrom(stored), nil, DecodeOptions{}); err != nil {
		t.Fatalf("without the sum: %v", err)
	}
	if err := Decode(t.Context(), o, s.ContentSize, fetchFrom(stored), nil, DecodeOptions{WholeObject: true}); !errors.Is(err, ErrDamaged) {
		t.Fatalf("with the sum: %v, want %v", err, ErrDamaged)
	}
}

// FuzzDecode: a hostile object with a hostile manifest neither panics nor makes Decode hold more than it may, and what it returns without error
// is what the table's sums say.
func FuzzDecode(f *testing.F) {
	content := mixed(6, 3*4096+1)
	stored, s := sealWith(f, content, Options{}, 4096)
	f.Add(stored, int64(4096), int64(len(content)), uint8(len(s.Blocks)), int64(0))
	f.Add(stored, int64(repo.MaxBlockSize), int64(len(content)), uint8(1), int64(1))
	f.Add([]byte("\x28\xb5\x2f\xfd\xa4\xff\xff\xff\xff\x01\x00\x00"), int64(1<<20), int64(1<<20), uint8(1), int64(0))
	f.Fuzz(func(t *testing.T, stored []byte, blockSize, contentSize int64, blocks uint8, skew int64) {
		if len(stored) == 0 || blockSize > 1<<22 {
			return
		}
		o := repo.Object{Key: "k", Size: int64(len(stored)), BlockSize: blockSize}
		rest := stored
		for i := range int(blocks) {
			n := min(len(rest), len(stored)/int(blocks)+int(skew)%64)
			if i == int(blocks)-1 {
				n = len(rest)
			}
			if n <= 0 {
				return
			}
			o.Blocks = append(o.Blocks, repo.Block{Size: int64(n), SHA256: sumOf(rest[:n])})
			rest = rest[n:]
		}
		w := &extent{}
		err := Decode(t.Context(), o, contentSize, fetchFrom(stored), w, DecodeOptions{Workers: 1})
		if err == nil && (w.written != contentSize || w.end != contentSize) {
			t.Fatalf("decoded %d bytes up to %d without error, want %d", w.written, w.end, contentSize)
		}
		if err != nil && !errors.Is(err, ErrDamaged) {
			t.Fatalf("%v, want %v", err, ErrDamaged)
		}
	})
}

// extent knows how much was written, and where it ended.
type extent struct{ written, end int64 }

func (e *extent) WriteAt(p []byte, off int64) (int, error) {
	e.written += int64(len(p))
	e.end = max(e.end, off+int64(len(p)))
	return len(p), nil
}

// Errors of the store and of the context are not damage.
func TestUnavailable(t *testing.T) {
	content := mixed(8, 4*smallBlock)
	stored, s := sealWith(t, content, Options{}, smallBlock)
	broken := errors.New("the network is down")
	tests := map[string]Fetch{
		"no answer": func(context.Context, int64, int64) (io.ReadCloser, error) { return nil, broken },
		"in the middle": func(context.Context, int64, int64) (io.ReadCloser, error) {
			return io.NopCloser(io.MultiReader(bytes.NewReader(stored[:99]), failing{broken})), nil
		},
		"behind the end": func(context.Context, int64, int64) (io.ReadCloser, error) {
			return io.NopCloser(io.MultiReader(bytes.NewReader(stored), failing{broken})), nil
		},
	}
	for name, fetch := range tests {
		for _, to := range []string{"Decode", "CheckBytes"} {
			err := CheckBytes(t.Context(), s.Object("k"), fetch, nil)
			if to == "Decode" {
				err = Decode(t.Context(), s.Object("k"), s.ContentSize, fetch, nil, DecodeOptions{})
			}
			if !errors.Is(err, broken) || errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "object k at byte") {
				t.Errorf("%s, %s: %v, want %v with the object and the byte, and no damage", to, name, err, broken)
			}
		}
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }
