package machines

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"

	"etcd-steward/integration/lab"
)

// programs are those that Program has built for this test process: open files whose names are gone, so that nothing is left behind.
var programs = struct {
	sync.Mutex
	files map[string]*os.File
}{files: map[string]*os.File{}}

// Program builds a program of this module (its folder: "cmd/steward") as the machines need it, which have no C library of the host's, once per test process.
// The path that it returns is good for Install, and for running it, as long as this process lives.
func Program(t lab.T, folder string) string {
	t.Helper()
	programs.Lock()
	defer programs.Unlock()
	f := programs.files[folder]
	if f == nil {
		path := filepath.Join(t.TempDir(), "program")
		cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", path, "./"+folder)
		cmd.Dir, cmd.Env = lab.Root(), append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", folder, err, out)
		}
		var err error
		if f, err = os.Open(path); err == nil {
			err = os.Remove(path)
		}
		if err != nil {
			t.Fatalf("build %s: %v", folder, err)
		}
		programs.files[folder] = f
	}
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), f.Fd())
}
