package host

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"etcd-steward/integration/lab"
)

// TestWhose: the IDs in a real WAL are those that etcd itself gives, also after the WAL was cut; without a WAL, or with one that is damaged, there are none.
func TestWhose(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts etcd")
	}
	for _, version := range []string{"3.5", "3.7"} {
		c := lab.StartEtcd(t, lab.EtcdOptions{Version: version, UnsafeNoFsync: true})
		st, err := c.Client(t).Status(t.Context(), c.Endpoint(0))
		if err != nil {
			t.Fatal(err)
		}
		m, e := &Machine{Root: "/"}, &Etcd{Settings: Settings{"data-dir": {Value: c.DataDir(0)}}}
		e.Name, e.Kind = "etcd", Unit
		id, err := m.Whose(e)
		if want := (Identity{Cluster: st.Header.ClusterId, Member: st.Header.MemberId}); err != nil || id != want {
			t.Errorf("%s: %+v, %v, want %+v", version, id, err, want)
		}
		found, err := filepath.Glob(filepath.Join(c.DataDir(0), "member", "wal", "*.wal"))
		if err != nil || len(found) == 0 {
			t.Fatal(found, err)
		}
		segment, err := os.ReadFile(found[0])
		if err != nil {
			t.Fatal(err)
		}
		for n := range 48 { // the two records that matter, cut off anywhere
			if _, err := readIdentity(bytes.NewReader(segment[:n])); n < 40 && !errors.Is(err, ErrNoIdentity) {
				t.Errorf("%s: the first %d bytes: %v, want %v", version, n, err, ErrNoIdentity)
			}
		}
	}
	if _, err := identityIn(t.TempDir()); !errors.Is(err, ErrNoIdentity) {
		t.Errorf("an empty folder: %v, want %v", err, ErrNoIdentity)
	}
}

// FuzzIdentity: whatever a segment holds, reading it ends, and takes little memory.
func FuzzIdentity(f *testing.F) {
	f.Add([]byte{8, 0, 0, 0, 0, 0, 0, 0x84, 8, 4, 16, 0, 26, 0, 0, 0, 0, 0, 0, 0})
	f.Add(bytes.Repeat([]byte{0xff}, 64))
	f.Fuzz(func(t *testing.T, b []byte) {
		if id, err := readIdentity(bytes.NewReader(b)); err == nil && (id.Cluster == 0 || id.Member == 0) {
			t.Errorf("%+v without an error", id)
		}
	})
}
