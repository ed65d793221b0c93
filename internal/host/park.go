package host

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"time"

	"etcd-steward/internal/atomicfile"
)

// park moves a static pod's manifest out of the kubelet's folder, for good. One that is there already from before is kept under another name: the one that
// ran last is the one that counts.
func (m *Machine) park(manifest string) error {
	from, to := m.Path(manifest), m.Path(path.Join(m.parkedDir(), path.Base(manifest)))
	if !exists(from) {
		if exists(to) {
			return m.syncParked(manifest)
		}
		return fmt.Errorf("hold: %s is neither there nor held", manifest)
	}
	if err := makeDirs(filepath.Dir(to), 0o700); err != nil {
		return fmt.Errorf("hold: %w", err)
	}
	if exists(to) {
		if err := os.Rename(to, to+".steward-"+AsideSuffix(time.Now())); err != nil {
			return fmt.Errorf("hold: %w", err)
		}
	}
	if err := os.Rename(from, to); err != nil {
		return fmt.Errorf("hold: %w", err)
	}
	return m.syncParked(manifest)
}

// unpark moves it back. What is there already is what the kubelet runs, and stays.
func (m *Machine) unpark(manifest string) error {
	from, to := m.Path(path.Join(m.parkedDir(), path.Base(manifest))), m.Path(manifest)
	switch {
	case exists(to):
		return nil
	case !exists(from):
		return fmt.Errorf("release: %s is neither there nor held", manifest)
	}
	if err := makeDirs(filepath.Dir(to), 0o700); err != nil {
		return fmt.Errorf("release: %w", err)
	}
	if err := os.Rename(from, to); err != nil {
		return fmt.Errorf("release: %w", err)
	}
	return m.syncParked(manifest)
}

// syncParked makes a move durable, also one of before a crash.
func (m *Machine) syncParked(manifest string) error {
	if err := errors.Join(atomicfile.SyncDir(filepath.Dir(m.Path(manifest))), atomicfile.SyncDir(m.Path(m.parkedDir()))); err != nil {
		return fmt.Errorf("move %s: %w", manifest, err)
	}
	return nil
}
