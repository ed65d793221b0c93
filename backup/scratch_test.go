package backup

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"etcd-steward/internal/fail"
)

// TestScratch: what a killed run left is swept, what a running one uses is not, and too little room is said before anything is fetched.
func TestScratch(t *testing.T) {
	dir := t.TempDir()
	running, err := newScratch(dir, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(dir, "steward-scratch-left")
	if err := errors.Join(os.Mkdir(left, 0o700), os.WriteFile(filepath.Join(left, "db"), []byte("secret"), 0o600), os.WriteFile(filepath.Join(dir, "mine"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	second, err := newScratch(dir, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what a killed run left is still there: %v", err)
	}
	for _, path := range []string{running.path(), second.path(), filepath.Join(dir, "mine")} {
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
	}
	running.remove()
	second.remove()
	if names, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(names) != 1 {
		t.Errorf("left: %v, %v", names, err)
	}
	if s, err := newScratch(dir, 1<<60); s != nil || err == nil || fail.HintOf(err) == "" {
		t.Errorf("an exabyte: %v, %v", s, err)
	}
}
