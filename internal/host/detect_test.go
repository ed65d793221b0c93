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
