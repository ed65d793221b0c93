// Package walls holds the walls between the rooms, as docs/ARCHITECTURE.md draws them. It has tests only.
package walls

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
)

const module = "etcd-steward/"

type pkg struct {
	ImportPath  string
	Dir         string
	Imports     []string
	GoFiles     []string
	TestGoFiles []string
}

func packages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Dir,Imports,GoFiles,TestGoFiles", "./...")
	cmd.Dir = "../.."
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("go list: %v", err)
		}
		all = append(all, p)
	}
	if len(all) < 10 {
		t.Fatalf("go list shows %d packages: the walls would hold nothing", len(all))
	}
	return all
}

// wall says that nothing below `of` may import anything below `bars`, but for the packages in `except`.
type wall struct {
	of, bars string
	except   []string
	why      string
}

var walls = []wall{
	{of: "backup", bars: "etcd-steward/restore", why: "a backup must not depend on how it is brought back"},
	{of: "backup", bars: "etcd-steward/membership", why: "a backup works on whatever member answers; it changes none"},
	{of: "restore", bars: "etcd-steward/membership", why: "cmd wires what would otherwise cross"},
	{of: "membership", bars: "etcd-steward/backup", why: "the backup before a mutation is a function that membership is given"},
	{of: "membership", bars: "etcd-steward/restore", why: "cmd wires what would otherwise cross"},
	{of: "internal/plan", bars: "etcd-steward/backup", why: "a plan's board and lock are given to it"},
	{of: "internal/plan", bars: "etcd-steward/restore", why: "the engine knows nothing of what its steps do"},
	{of: "internal/plan", bars: "etcd-steward/membership", why: "the engine knows nothing of what its steps do"},
	{of: "internal/plan", bars: "etcd-steward/internal/host", why: "the engine knows nothing of what its steps do"},
	{of: "internal/host", bars: "etcd-steward/backup", why: "what runs here has nothing to do with how it is backed up"},
	{of: "internal/host", bars: "etcd-steward/restore", why: "a machine is the same to all who change it"},
	{of: "internal/host", bars: "etcd-steward/membership", why: "a machine is the same to all who change it"},
	{of: "internal/host", bars: "go.etcd.io/etcd/client", why: "it does not talk to etcd"},
	{of: "", bars: "github.com/coreos/go-systemd/v22/dbus", except: []string{"internal/host", "integration"}, why: "one place starts and stops what runs here"},
	{of: "", bars: "etcd-steward/cmd", why: "programs are not libraries"},
	{of: "", bars: "etcd-steward/integration", except: []string{"integration"}, why: "the lab is for tests"},
	{of: "", bars: "github.com/aws/", except: []string{"backup/store", "integration"}, why: "one place knows S3"},
	{of: "", bars: "go.etcd.io/bbolt", except: []string{"backup/dbfile", "restore/datadir", "integration"}, why: "one place reads etcd's file, one finishes it; the rest asks them"},
	{of: "", bars: "go.etcd.io/etcd/server", except: []string{"backup/dbfile", "restore/datadir", "integration"}, why: "etcd's server packages have no stable API"},
	{of: "", bars: "go.etcd.io/etcd/etcdutl", except: []string{"restore/datadir", "integration"}, why: "one place builds data directories"},
	{of: "", bars: "k8s.io/", except: []string{"restore/kube", "integration"}, why: "etcd needs no Kubernetes"},
	{of: "", bars: "github.com/urfave/cli", except: []string{"cmd"}, why: "flags stay in the programs"},
	{of: "", bars: "github.com/jedib0t/", except: []string{"internal/term"}, why: "terminal output has one place"},
	{of: "backup/store", bars: "etcd-steward/backup", except: nil, why: "the store knows objects, not backups"},
	{of: "backup/repo", bars: "etcd-steward/backup/snapshot", why: "what a repository holds does not depend on how it was taken"},
	{of: "backup/dbfile", bars: "etcd-steward/backup/store", why: "a file is read the same wherever it came from"},
}

// TestWalls fails with the reason of the wall that an import crosses.
func TestWalls(t *testing.T) {
	for _, p := range packages(t) {
		room := strings.TrimPrefix(p.ImportPath, module)
		for _, w := range walls {
			if !within(room, w.of) || withinAny(room, w.except) {
				continue
			}
			for _, imp := range p.Imports {
				if within(imp, strings.TrimSuffix(w.bars, "/")) && !within(imp, module+room) && !within(imp, module+w.ofOrNone()) {
					t.Errorf("%s imports %s: %s", room, imp, w.why)
				}
			}
		}
	}
}

// ofOrNone lets a room import its own sub-rooms: the wall backup/store -> backup does not bar backup/store/faults.
func (w wall) ofOrNone() string {
	if w.of == "" {
		return "\x00"
	}
	return w.of
}

func withinAny(path string, rooms []string) bool {
	for _, r := range rooms {
		if within(path, r) {
			return true
		}
	}
	return false
}

// within says whether path is room or below it; the empty room holds everything.
func within(path, room string) bool {
	return room == "" || path == room || strings.HasPrefix(path, room+"/")
}
