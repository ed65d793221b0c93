package host

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

// TestDetect compares what is found in every tree of testdata with what its last file says.
func TestDetect(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d trees: %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			a, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			last := len(a.Files) - 1
			want := string(a.Files[last].Data)
			a.Files = a.Files[:last]
			if diff := cmp.Diff(want, describe(Detect(unpack(t, a)))); diff != "" {
				t.Errorf("found (-want +got):\n%s", diff)
			}
		})
	}
}

// describe is a machine in words.
func describe(m *Machine) string {
	var b strings.Builder
	or := func(s string, err error) string {
		switch {
		case err != nil:
			return err.Error()
		case s == "":
			return "-"
		}
		return s
	}
	workload := func(w *Workload) {
		fmt.Fprintf(&b, "%s %s: %s, %s", w.Program, w.Name, w.Kind, strings.TrimPrefix(w.File(), "/"))
		if w.Container {
			fmt.Fprintf(&b, ", container %s", w.Image)
		}
		if w.User != "" {
			fmt.Fprintf(&b, ", runs as %s", w.User)
		}
		if w.Held {
			fmt.Fprint(&b, ", held")
		}
		fmt.Fprintf(&b, "\n  files: %s\n", strings.Join(w.Files, " "))
	}
	for i := range m.Etcds {
		e := &m.Etcds[i]
		workload(&e.Workload)
		fmt.Fprintf(&b, "  member %s, data %s, wal %s\n", e.Member(), or(e.DataDir()), or(e.WALDir()))
		fmt.Fprintf(&b, "  clients %s, advertised %s\n", strings.Join(e.URLs("listen-client-urls"), " "), strings.Join(e.URLs("advertise-client-urls"), " "))
		fmt.Fprintf(&b, "  peers %s, advertised %s\n", strings.Join(e.URLs("listen-peer-urls"), " "), strings.Join(e.URLs("initial-advertise-peer-urls"), " "))
		var initial []string
		for _, name := range slices.Sorted(maps.Keys(e.InitialCluster())) {
			initial = append(initial, name+"="+strings.Join(e.InitialCluster()[name], "+"))
		}
		fmt.Fprintf(&b, "  initial %s, %s, token %s\n", strings.Join(initial, " "), e.Value("initial-cluster-state"), e.Value("initial-cluster-token"))
		if e.Unclear != nil {
			fmt.Fprintf(&b, "  unclear: %v\n", e.Unclear)
		}
		if len(e.Ignored) > 0 {
			fmt.Fprintf(&b, "  ignored: %s\n", strings.Join(slices.Sorted(maps.Keys(e.Ignored)), " "))
		}
	}
	for i := range m.Parts {
		workload(&m.Parts[i].Workload)
		if s := m.Parts[i].EtcdServers(); s != nil {
			fmt.Fprintf(&b, "  asks %s\n", strings.Join(s, " "))
		}
	}
	if m.Owner != nil {
		fmt.Fprintf(&b, "owner %s\n", m.Owner.Name)
	}
	for _, p := range m.Problems {
		fmt.Fprintf(&b, "problem %s\n", p)
	}
	return b.String()
}

// TestPassedVariable: `docker run -e NAME` hands on what the unit says of NAME, and nothing else of the unit's variables.
func TestPassedVariable(t *testing.T) {
	root := t.TempDir()
	put(t, root, "etc/systemd/system/etcd.service", `[Service]
Environment=ETCD_NAME=m7 ETCD_DATA_DIR=/not/seen
ExecStart=/usr/bin/docker run --rm -e ETCD_NAME -v /srv/etcd:/data etcd:1 etcd --data-dir=/data
`)
	e := only(t, root)
	if dir, err := e.DataDir(); err != nil || e.Member() != "m7" || dir != "/srv/etcd" {
		t.Errorf("got %s in %s, %v", e.Member(), dir, err)
	}
	m := Detect(root)
	if _, err := m.Configure(e, map[string]string{"name": "m8"}, "t"); err != nil || e.Member() != "m8" {
		t.Errorf("changed: %s, %v", e.Member(), err)
	}
}

// TestWrapped: a unit that runs etcd by a program that is not known is named, and not passed over as if there were none.
func TestWrapped(t *testing.T) {
	for command, want := range map[string]bool{
		"/usr/bin/nice -n -5 /usr/local/bin/etcd --name=a": true,
		"/usr/bin/tar -C /backup /var/lib/etcd":            false,
		"/usr/local/bin/backup etcd":                       false,
		"/opt/bin/run /usr/local/bin/etcdctl get a":        false,
	} {
		root := t.TempDir()
		put(t, root, "etc/systemd/system/any.service", "[Service]\nExecStart="+command+"\n")
		m := Detect(root)
		if got := len(m.Problems) > 0; got != want || len(m.Etcds) > 0 {
			t.Errorf("%s: problems %v, etcds %d", command, m.Problems, len(m.Etcds))
		}
	}
}
