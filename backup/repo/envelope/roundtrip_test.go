package envelope

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"filippo.io/age"

	"etcd-steward/backup/repo"
	"etcd-steward/integration/lab"
)

// memory is a destination that remembers what was written, and how often.
type memory struct {
	mu      sync.Mutex
	b       []byte
	written int
}

func (m *memory) WriteAt(p []byte, off int64) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.written += len(p)
	return copy(m.b[off:], p), nil
}

func classic(t testing.TB) *age.X25519Identity {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func hybrid(t testing.TB) *age.HybridIdentity {
	t.Helper()
	id, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// mixed is content whose blocks compress very differently: noise, zeros, text.
func mixed(seed uint64, size int) []byte {
	b := likeKubernetes(seed, size)
	r := rand.NewChaCha8([32]byte{byte(seed)})
	_, _ = r.Read(b[:size/3])
	clear(b[size/3 : size/2])
	return b
}

// Whatever is written in pieces of any size comes back, and the description of the object is true.
func TestRoundTrip(t *testing.T) {
	const block = 64 << 10
	x, y, pq := classic(t), classic(t), hybrid(t)
	keys := map[string]struct {
		to   []age.Recipient
		with []age.Identity
	}{
		"plain":          {nil, nil},
		"plain with key": {nil, []age.Identity{x}},
		"classic":        {[]age.Recipient{x.Recipient()}, []age.Identity{x}},
		"second of two":  {[]age.Recipient{x.Recipient(), y.Recipient()}, []age.Identity{y}},
		"key among many": {[]age.Recipient{y.Recipient()}, []age.Identity{pq, x, y}},
		"hybrid":         {[]age.Recipient{pq.Recipient()}, []age.Identity{pq}},
	}
	for name, key := range keys {
		t.Run(name, func(t *testing.T) {
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			rng := rand.New(rand.NewPCG(seed, 1))
			for _, size := range []int{1, 33, block - 1, block, block + 1, 3*block - 1, 3 * block, 5*block + 1 + rng.IntN(block)} {
				for workers := 1; workers <= 3; workers++ {
					content := mixed(seed, size)
					var stored bytes.Buffer
					w, err := newWriter(&stored, Options{Recipients: key.to, Workers: workers, VerifyEncoded: workers == 2}, block)
					if err != nil {
						t.Fatal(err)
					}
					piece := make([]byte, 2*block)
					for rest := content; len(rest) > 0; {
						n := copy(piece[:1+rng.IntN(len(piece))], rest)
						if k, err := w.Write(piece[:n]); k != n || err != nil {
							t.Fatalf("Write: %d, %v", k, err)
						}
						clear(piece) // Write must not have kept it
						rest = rest[n:]
					}
					s, err := w.Close()
					if err != nil {
						t.Fatal(err)
					}
					checkSealed(t, s, stored.Bytes(), content, key.to)
					readBack(t, s, stored.Bytes(), content, DecodeOptions{Identities: key.with, Workers: workers, WholeObject: true})
					readBack(t, s, stored.Bytes(), content, DecodeOptions{Identities: key.with})
				}
			}
		})
	}
}

func checkSealed(t *testing.T, s Sealed, stored, content []byte, to []age.Recipient) {
	t.Helper()
	if s.Size != int64(len(stored)) || s.ContentSize != int64(len(content)) || len(s.Recipients) != len(to) {
		t.Fatalf("sealed says %d bytes of %d, %d recipients; want %d of %d, %d", s.Size, s.ContentSize, len(s.Recipients), len(stored), len(content), len(to))
	}
	if err := s.Object("k").Validate(s.ContentSize); err != nil {
		t.Fatal(err)
	}
	if err := CheckBytes(t.Context(), s.Object("k"), fetchFrom(stored), nil); err != nil {
		t.Fatal(err)
	}
	if len(to) > 0 && bytes.Contains(stored, []byte("\x28\xb5\x2f\xfd")) && len(stored) < 1<<16 {
		t.Fatal("an encrypted object shows a zstd frame")
	}
}

func readBack(t *testing.T, s Sealed, stored, content []byte, opts DecodeOptions) {
	t.Helper()
	var done int64
	opts.Progress = func(n int64) {
		if n < done {
			t.Errorf("progress went back from %d to %d", done, n)
		}
		done = n
	}
	dst := &memory{b: make([]byte, len(content))}
	if err := Decode(t.Context(), s.Object("k"), s.ContentSize, fetchFrom(stored), dst, opts); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(dst.b, content) || dst.written != len(content) {
		t.Fatalf("%d bytes came back (%d written), other than the %d that went in", len(dst.b), dst.written, len(content))
	}
	if done != s.Size {
		t.Fatalf("progress ended at %d, want %d", done, s.Size)
	}
	opts.Progress = nil
	if err := Decode(t.Context(), s.Object("k"), s.ContentSize, fetchFrom(stored), nil, opts); err != nil {
		t.Fatal(err)
	}
}

// An object spans many parts and blocks of the real sizes.
func TestRoundTripRealSizes(t *testing.T) {
	id := classic(t)
	content := mixed(3, 3*BlockSize+12345)
	stored, s := sealWith(t, content, Options{Recipients: []age.Recipient{id.Recipient()}, Workers: 2}, BlockSize)
	if len(stored) < 2*partSize {
		t.Fatalf("the object has %d bytes: the test should need several parts", len(stored))
	}
	readBack(t, s, stored, content, DecodeOptions{Identities: []age.Identity{id}, WholeObject: true})
}

// No lock-in: the real age and zstd read what was written.
func TestStockTools(t *testing.T) {
	ageTool := lab.Tool(t, "age")
	zstd, err := exec.LookPath("zstd")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("zstd is not installed")
		}
		t.Skip("zstd is not installed: apt-get install zstd")
	}
	for name, id := range map[string]interface{ String() string }{"classic": classic(t), "hybrid": hybrid(t)} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			identity, object := filepath.Join(dir, "id"), filepath.Join(dir, "object")
			if err := os.WriteFile(identity, []byte(id.String()+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			ids, err := LoadIdentities(identity)
			if err != nil {
				t.Fatal(err)
			}
			content := mixed(5, BlockSize+BlockSize/2)
			stored, _ := sealWith(t, content, Options{Recipients: []age.Recipient{recipientOf(t, ids[0])}}, BlockSize)
			if err := os.WriteFile(object, stored, 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command("sh", "-c", fmt.Sprintf("%s -d -i %s -o frames %s && %s -d -c frames", ageTool, identity, object, zstd))
			cmd.Dir, cmd.Stderr = dir, os.Stderr
			got, err := cmd.Output()
			if err != nil || !bytes.Equal(got, content) {
				t.Fatalf("age -d | zstd -d: %d bytes, %v; want the %d bytes that were sealed", len(got), err, len(content))
			}
		})
	}
}

func recipientOf(t *testing.T, id age.Identity) age.Recipient {
	t.Helper()
	switch id := id.(type) {
	case *age.X25519Identity:
		return id.Recipient()
	case *age.HybridIdentity:
		return id.Recipient()
	}
	t.Fatalf("identity of type %T", id)
	return nil
}

// A Validate that is broken would let everything pass.
func TestObjectOfOtherSize(t *testing.T) {
	_, s := sealWith(t, mixed(1, 100<<10), Options{}, 64<<10)
	for _, size := range []int64{-1, 0, 1, 64 << 10, 128<<10 + 1, 1 << 62} {
		if err := s.Object("k").Validate(size); err == nil {
			t.Errorf("an object of 2 blocks is valid for %d bytes of content", size)
		}
	}
	bad := s.Object("k")
	bad.BlockSize = repo.MaxBlockSize + 1
	if err := bad.Validate(100 << 10); err == nil {
		t.Error("a block size beyond the maximum is valid")
	}
}
