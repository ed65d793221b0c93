package restore

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"etcd-steward/internal/atomicfile"
)

// journalName is the note in the data directory's working folder that the last steps have begun.
const journalName = "placing.json"

// journal is written before the first rename, so that the next run can tell what an interrupted one had done: finished, or not and with what to take back.
type journal struct {
	// WAL is the rename of a write-ahead log with a place of its own; it comes before the data directory's, which finishes the restore.
	WAL *move `json:"wal,omitempty"`
}

type move struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// write puts the journal into the data directory's working folder.
func (j journal) write(work string) error {
	b, err := json.Marshal(j)
	if err != nil {
		return err
	}
	return atomicfile.Write(filepath.Join(work, journalName), b, 0o600)
}

// readJournal gives the journal in a working folder. One that is not there, or cannot be read, says that no rename was made.
func readJournal(work string) (j journal, ok bool) {
	b, err := os.ReadFile(filepath.Join(work, journalName))
	if err != nil || json.Unmarshal(b, &j) != nil {
		return journal{}, false
	}
	if j.WAL != nil && (scratchOf(j.WAL.From) == "" || j.WAL.To == "") {
		return journal{}, false
	}
	return j, true
}

// finishedIn says whether the restore that a working folder belongs to had given the data directory its name.
func finishedIn(p place, work string) bool {
	_, ok := readJournal(work)
	names, err := os.ReadDir(filepath.Join(work, filepath.Base(p.built)))
	return ok && (errors.Is(err, os.ErrNotExist) || p.inside && err == nil && len(names) == 0)
}

// scratchOf is the working folder that a path is in, "" when it is in none.
func scratchOf(path string) string {
	for dir := filepath.Dir(path); dir != "/" && dir != "."; dir = filepath.Dir(dir) {
		name := filepath.Base(dir)
		if i := strings.LastIndex(name, scratchInfix); i >= 0 && isScratch(name, name[:i]) {
			return dir
		}
	}
	return ""
}

// undo takes the rename back if it was made.
func (m move) undo() error {
	if _, err := os.Lstat(m.From); err == nil {
		return nil
	}
	if _, err := os.Lstat(m.To); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for _, dir := range []string{m.To, filepath.Dir(m.To)} {
		if err := refuseHeld("", dir); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Dir(m.From), 0o700); err != nil {
		return err
	}
	if err := rename(m.To, m.From); err != nil {
		return err
	}
	return syncRename(m.To, m.From)
}
