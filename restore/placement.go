package restore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"etcd-steward/internal/fail"
)

// placement is the directories of one restore on their way to their names: the data directory, and the write-ahead log when it has a place of its own.
//
// A crash at any point leaves the data directory as it was, or complete. With two directories there are two renames: the log's comes first, and a journal
// in the working folder lets the next run take it back.
type placement struct {
	data  place
	wal   *place
	locks []*os.File
	step  func(string)
}

func newPlacement(id, dataDir, walDir string) (*placement, error) {
	if walDir != "" && (within(filepath.Clean(walDir), filepath.Clean(dataDir)) || within(filepath.Clean(dataDir), filepath.Clean(walDir))) {
		return nil, nested(dataDir, walDir)
	}
	data, err := newPlace(dataDir, id, "data")
	if err != nil {
		return nil, err
	}
	pl := &placement{data: data, step: func(string) {}}
	if walDir == "" {
		return pl, nil
	}
	wal, err := newPlace(walDir, id, "wal")
	if err != nil {
		return nil, err
	}
	if within(wal.final, data.final) || within(data.final, wal.final) { // through links
		return nil, nested(dataDir, walDir)
	}
	pl.wal = &wal
	return pl, nil
}

func nested(dataDir, walDir string) error {
	return fail.New(fail.Usage, fmt.Errorf("--wal-dir %s and --data-dir %s: one is inside the other", walDir, dataDir), "leave --wal-dir out for the usual place inside the data directory")
}

func within(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }

func (pl *placement) places() []place {
	if pl.wal == nil {
		return []place{pl.data}
	}
	return []place{pl.data, *pl.wal}
}

// walBuilt is where the write-ahead log is built; "" for its usual place in the data directory.
func (pl *placement) walBuilt() string {
	if pl.wal == nil {
		return ""
	}
	return pl.wal.built
}

// leftovers are the working folders of interrupted restores to either place.
func (pl *placement) leftovers() (all []string, err error) {
	for _, p := range pl.places() {
		found, err := p.leftovers()
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

// interrupted are the journals of restores that had begun with the last steps and did not finish.
func (pl *placement) interrupted() (all []journal, err error) {
	old, err := pl.data.leftovers()
	for _, work := range old {
		if j, ok := readJournal(work); ok && !finishedIn(pl.data, work) {
			all = append(all, j)
		}
	}
	return all, err
}

// placedByOld says whether what is in the log's place was put there by an interrupted restore, which recover takes back.
func (pl *placement) placedByOld() (bool, error) {
	old, err := pl.interrupted()
	for _, j := range old {
		if j.WAL != nil && within(j.WAL.To, pl.wal.final) {
			return true, nil
		}
	}
	return false, err
}

// finishedByOld says whether the data directory was put into its place by a restore that was killed right afterwards.
func (pl *placement) finishedByOld() bool {
	old, err := pl.data.leftovers()
	return err == nil && slices.ContainsFunc(old, func(work string) bool { return finishedIn(pl.data, work) })
}

// recover takes back the first of two renames of an interrupted restore.
func (pl *placement) recover() error {
	old, err := pl.interrupted()
	if err != nil {
		return err
	}
	for _, j := range old {
		if j.WAL == nil {
			continue
		}
		if err := j.WAL.undo(); err != nil {
			return fmt.Errorf("take back what an interrupted restore placed: %w", err)
		}
		if err := os.RemoveAll(scratchOf(j.WAL.From)); err != nil {
			return err
		}
	}
	return nil
}

// clean removes the working folders that interrupted restores left. They hold nothing that is not in the backup.
func (pl *placement) clean() error {
	all, err := pl.leftovers()
	if err != nil {
		return err
	}
	for i := len(all) - 1; i >= 0; i-- { // the log's before the data directory's, which has the journal
		if err := os.RemoveAll(all[i]); err != nil {
			return fmt.Errorf("remove what an interrupted restore left: %w", err)
		}
	}
	return nil
}

// begin makes the working folders and marks them as in use.
func (pl *placement) begin() error {
	for _, p := range pl.places() {
		if err := os.Mkdir(p.work, 0o700); err != nil {
			return err
		}
		lock, err := lockDir(p.work)
		if err != nil {
			return err
		}
		pl.locks = append(pl.locks, lock)
	}
	return os.Mkdir(pl.data.built, 0o700)
}

// finish gives everything its name.
func (pl *placement) finish() (err error) {
	var j journal
	if pl.wal != nil {
		j.WAL = &move{}
		if j.WAL.From, j.WAL.To, err = pl.wal.move(); err != nil {
			return err
		}
	}
	if err := j.write(pl.data.work); err != nil {
		return err
	}
	pl.step("journal written")
	if err := pl.finishLog(j.WAL); err != nil {
		return err
	}
	from, to, err := pl.data.move()
	if err == nil {
		err = rename(from, to)
	}
	if err != nil {
		err = fmt.Errorf("place the data directory: %w", err)
		if j.WAL != nil {
			err = errors.Join(err, j.WAL.undo())
		}
		return err
	}
	pl.step("data directory renamed")
	// From here on the data directory is there, and needs its log: nothing is taken back.
	if err := syncRename(from, to); err != nil {
		return fail.Hint(fmt.Errorf("%s is in its place and complete, but the disk did not confirm that it stays there: sync: %w", pl.data.final, err),
			"look for errors of the disk (dmesg); move away what was placed (mv), and restore to a disk that is well")
	}
	pl.step("data directory placed")
	return nil
}

// finishLog gives a log with a place of its own its name. Without its sync the data directory is not placed, so then it is taken back.
func (pl *placement) finishLog(m *move) error {
	if m == nil {
		return nil
	}
	err := rename(m.From, m.To)
	if err == nil {
		pl.step("log renamed")
		err = syncRename(m.From, m.To)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("place the write-ahead log: %w", err), m.undo())
	}
	pl.step("log placed")
	return nil
}

// end removes the working folders, after success and after failure, and gives the locks back.
func (pl *placement) end() error {
	var err error
	for _, p := range pl.places() {
		err = errors.Join(err, os.RemoveAll(p.work))
	}
	for _, l := range pl.locks {
		err = errors.Join(err, l.Close())
	}
	return err
}

// parentOf is a folder that exists on the file system that a place is on.
func (p place) parentOf() string {
	if p.inside {
		return p.final
	}
	return filepath.Dir(p.final)
}
