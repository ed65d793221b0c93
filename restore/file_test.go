package restore

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"
	"filippo.io/age/armor"
	"github.com/klauspost/compress/zstd"

	"etcd-steward/internal/fail"
	"etcd-steward/restore/datadir"
)

// packed are a snapshot's bytes in every wrapping that a person may have downloaded.
func packed(t *testing.T, plain []byte, to *age.X25519Recipient) map[string][]byte {
	t.Helper()
	e, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	zst := e.EncodeAll(plain, nil)
	encrypted := func(b []byte, armored bool) []byte {
		var out bytes.Buffer
		var dst io.Writer = &out
		closeArmor := func() error { return nil }
		if armored {
			a := armor.NewWriter(&out)
			dst, closeArmor = a, a.Close
		}
		w, err := age.Encrypt(dst, to)
		if err != nil {
			t.Fatal(err)
		}
		_, err = w.Write(b)
		if err := errors.Join(err, w.Close(), closeArmor()); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}
	return map[string][]byte{
		"a.db": plain, "b.db.zst": zst, "c.db.zst.age": encrypted(zst, false), "d.db.age": encrypted(plain, false), "named-wrongly.txt": encrypted(zst, true),
	}
}

// TestFromFile: a person with nothing but a file restores it, however it is wrapped, and gets what a restore from the repository gives.
func TestFromFile(t *testing.T) {
	s := snapshotOf(t, "3.6")
	plain, err := os.ReadFile(s.path)
	if err != nil {
		t.Fatal(err)
	}
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	all := memberOptions(t, t.TempDir(), 3)
	r, _ := folderRepo(t)
	publish(t, r, s, nil, nil)
	fromRepo := all[1]
	fromRepo.Repo = r
	want, err := DataDir(t.Context(), fromRepo)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, content := range packed(t, plain, identity.Recipient()) {
		o := all[0]
		o.File, o.DataDir, o.Identities = filepath.Join(dir, name), filepath.Join(dir, "data-"+name), []age.Identity{identity}
		if err := os.WriteFile(o.File, content, 0o600); err != nil {
			t.Fatal(err)
		}
		res, err := DataDir(t.Context(), o)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if res.HashKV != s.hash || res.Revision != s.revision || res.CompactRevision != s.compact || res.NewRevision != s.revision+bumpUnit || res.Recorded {
			t.Errorf("%s: %+v", name, res)
		}
		if res.Token != want.Token || res.ClusterID != want.ClusterID {
			t.Errorf("%s: cluster %s with token %s, from the repository %s with %s", name, res.ClusterID, res.Token, want.ClusterID, want.Token)
		}
		if !strings.Contains(strings.Join(res.Notes, "\n"), "--adopt") {
			t.Errorf("%s: no word about the daemons in %q", name, res.Notes)
		}
	}
}

// TestWrongFile: a file that is damaged, cut off, without its hash, encrypted to somebody else, or no snapshot at all.
func TestWrongFile(t *testing.T) {
	s := snapshotOf(t, "3.6")
	plain, err := os.ReadFile(s.path)
	if err != nil {
		t.Fatal(err)
	}
	mine, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	other, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	wraps := packed(t, plain, mine.Recipient())
	flip := func(b []byte, at int) []byte {
		b = bytes.Clone(b)
		b[at] ^= 4
		return b
	}
	raw := plain[:len(plain)-trailerSize]
	zst, encrypted := wraps["b.db.zst"], wraps["c.db.zst.age"]
	for name, c := range map[string]struct {
		content []byte
		by      age.Identity
		code    fail.Code
		says    string
	}{
		"a flipped bit":            {flip(plain, len(plain)/2), mine, fail.Wanting, "damaged"},
		"a flipped trailer":        {flip(plain, len(plain)-1), mine, fail.Wanting, "damaged"},
		"a flipped bit under zstd": {flip(zst, len(zst)/2), mine, fail.Wanting, ""},
		"a flipped bit under age":  {flip(encrypted, len(encrypted)/2), mine, fail.Wanting, ""},
		"cut off":                  {plain[:len(plain)/2], mine, fail.Wanting, "damaged db file"},
		"cut off under zstd":       {zst[:len(zst)/2], mine, fail.Wanting, "unexpected EOF"},
		"cut off under age":        {encrypted[:len(encrypted)/2], mine, fail.Wanting, ""},
		"no trailer":               {raw, mine, fail.Unsafe, "no SHA-256 at its end"},
		"another's":                {encrypted, other, fail.Failed, "decrypt"},
		"a flipped header bit":     {flip(encrypted, 3), mine, fail.Failed, "neither an etcd database"},
		"a flipped header sum":     {flip(encrypted, bytes.Index(encrypted, []byte("\n--- "))+8), mine, fail.Wanting, "decrypt"},
		"nobody's":                 {encrypted, nil, fail.Failed, "no identity"},
		"text":                     {[]byte("# not a snapshot, whatever its name says, and longer than its head\n"), mine, fail.Failed, "neither an etcd database"},
		"empty":                    {nil, mine, fail.Wanting, ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			o := memberOptions(t, dir, 1)[0]
			if o.File = filepath.Join(dir, "file.db"); c.by != nil {
				o.Identities = []age.Identity{c.by}
			}
			if err := os.WriteFile(o.File, c.content, 0o600); err != nil {
				t.Fatal(err)
			}
			wantFailure(t, o, c.code, c.says)
			// What the first bytes tell is told by a dry run.
			if slices.Contains([]string{"another's", "nobody's", "text", "a flipped header sum"}, name) {
				if p, err := Prepare(t.Context(), o); fail.ExitCode(err) != c.code || !strings.Contains(err.Error(), c.says) {
					t.Errorf("the plan: %+v, %v", p, err)
				}
			}
		})
	}
	dir := t.TempDir()
	o := memberOptions(t, dir, 1)[0]
	o.File, o.SkipHashCheck = filepath.Join(dir, "copied.db"), true
	if err := os.WriteFile(o.File, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	if res, err := DataDir(t.Context(), o); err != nil || res.HashKV != s.hash {
		t.Errorf("without a trailer, accepted: %+v, %v", res, err)
	}
	if err := os.WriteFile(o.File, flip(plain, len(plain)/2), 0o600); err != nil {
		t.Fatal(err)
	}
	o.DataDir += "-2"
	wantFailure(t, o, fail.Wanting, "damaged") // a trailer that is there is believed
	if _, err := os.Stat(datadir.DBPath(o.DataDir)); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}
