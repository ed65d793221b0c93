package host

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"etcd-steward/internal/fail"
)

// TestWAL: etcd makes the folder of its WAL anew, beside it. Where its user cannot do that, it is said before etcd panics.
func TestWAL(t *testing.T) {
	const uid, gid = 4711, 4712
	for name, c := range map[string]struct {
		dirs map[string]string // below the root: mode and, when it is etcd's, "etcd"
		wal  string
		want string // of the refusal
	}{
		"not apart":                {nil, "", ""},
		"inside of the data":       {map[string]string{"var/lib/etcd": "700 etcd"}, "/var/lib/etcd/wal", ""},
		"above it nothing":         {nil, "/srv/wal/etcd", ""},
		"above it root's":          {map[string]string{"srv": "755"}, "/srv/wal", "may not write in /srv"},
		"above it etcd's":          {map[string]string{"srv/wal": "700 etcd"}, "/srv/wal/etcd", ""},
		"above it anybody's":       {map[string]string{"srv": "1777"}, "/srv/wal", ""},
		"its own folder is etcd's": {map[string]string{"srv": "755", "srv/wal": "700 etcd"}, "/srv/wal", "may not write in /srv"},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			text := "[Service]\nUser=etcd\nExecStart=/usr/bin/etcd --data-dir=/var/lib/etcd"
			if c.wal != "" {
				text += " --wal-dir=" + c.wal
			}
			put(t, root, "etc/systemd/system/etcd.service", text+"\n")
			for dir, what := range c.dirs {
				var mode uint32
				fmt.Sscanf(what, "%o", &mode)
				if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := unix.Chmod(filepath.Join(root, dir), mode); err != nil {
					t.Fatal(err)
				}
				if strings.HasSuffix(what, "etcd") {
					if err := os.Chown(filepath.Join(root, dir), uid, gid); err != nil {
						t.Skip("needs root")
					}
				}
			}
			m := Detect(root)
			err := m.CheckWAL(only(t, root), uid, gid)
			if (err != nil) != (c.want != "") || err != nil && (fail.ExitCode(err) != fail.Unsafe || !strings.Contains(err.Error(), c.want) || fail.HintOf(err) == "") {
				t.Fatalf("got %v, hint %q", err, fail.HintOf(err))
			}
			if err := m.CheckWAL(only(t, root), 0, 0); err != nil {
				t.Errorf("root: %v", err)
			}
			if c.want != "" || c.wal == "" || os.Getuid() != 0 {
				return
			}
			for range 2 {
				if err := m.PrepareWAL(only(t, root), uid, gid); err != nil {
					t.Fatal(err)
				}
			}
			if st, err := os.Stat(filepath.Join(root, filepath.Dir(c.wal))); err != nil || !may(st, uid, gid, 0o3) {
				t.Errorf("the folder above: %v, %v", st, err)
			}
		})
	}
	root := t.TempDir()
	put(t, root, "etc/kubernetes/manifests/etcd.yaml", `metadata: {name: etcd}
spec:
  containers: [{command: [etcd, --data-dir=/var/lib/etcd, --wal-dir=/wal], volumeMounts: [{name: w, mountPath: /wal}, {name: d, mountPath: /var/lib/etcd}]}]
  volumes: [{name: w, hostPath: {path: /srv/wal}}, {name: d, hostPath: {path: /var/lib/etcd}}]
`)
	if err := Detect(root).CheckWAL(only(t, root), 0, 0); fail.ExitCode(err) != fail.Unsafe || !strings.Contains(err.Error(), "mount point of its container") {
		t.Errorf("a mount point of a container: got %v", err)
	}
}

// said is systemd that says one thing of every unit.
type said struct {
	Services
	is State
}

func (s said) State(context.Context, string) (State, error) { return s.is, nil }

// TestProcess: a process without a known number has no number in what people read.
func TestProcess(t *testing.T) {
	for want, st := range map[string]State{
		"":                                   {Active: "inactive"},
		"process 12":                         {Active: "active", PID: 12},
		"systemd starts it again and again":  {Active: "activating", Sub: "auto-restart"},
		"systemd says activating, start-pre": {Active: "activating", Sub: "start-pre"},
	} {
		c := &Control{Machine: &Machine{Root: t.TempDir()}, Services: said{is: st}}
		if got, err := c.Process(t.Context(), &Workload{Name: "etcd", Kind: Unit, Unit: "etcd.service"}); err != nil || got != want {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	}
}
