package plan

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"etcd-steward/internal/atomicfile"
	"etcd-steward/internal/fail"
)

// A journal is a file of lines: 16 digits of a SHA-256, a space, JSON. It only grows; what was appended is on disk. A line that was torn by a crash can only be
// the last one, and is dropped: it was not acknowledged. Damage anywhere else is an error.

const (
	maxLine     = 64 << 10
	maxJournal  = 16 << 20
	sumDigits   = 16
	claimedLine = Mark("claimed") // from here on only what the board says of earlier lines counts: another machine may have been at it
)

// ErrBusy means that another process on this machine executes the same part of the plan.
var ErrBusy = errors.New("another process on this machine is executing it")

// Line is one line of a journal.
type Line struct {
	Seq    int             `json:"seq"`
	At     time.Time       `json:"at"`
	Plan   string          `json:"plan"`
	Party  string          `json:"party"`
	What   Mark            `json:"what"`
	Step   string          `json:"step,omitempty"`
	Result json.RawMessage `json:"result,omitempty"`
	Error  string          `json:"error,omitempty"`
}

// Journal is what a party of a plan has done on this machine. While it is open, no other process can open it.
type Journal struct {
	f           *os.File
	plan, party string
	seq         int
	size        int64
	marks       map[string]Line
	broken      error // an append failed in the middle: nothing may follow
}

// OpenJournal opens, or begins, the journal of a party below dir, and keeps the plan beside it. [ErrBusy] (refused) means that another process has it open.
func OpenJournal(dir string, p *Plan, party string) (_ *Journal, err error) {
	folder := filepath.Join(dir, p.ID)
	if err := makeFolder(folder); err != nil {
		return nil, err
	}
	if err := keepPlan(folder, p); err != nil {
		return nil, err
	}
	path := filepath.Join(folder, "journal-"+party+".log")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the journal of plan %s: %w", p.ID, err)
	}
	j := &Journal{f: f, plan: p.ID, party: party, marks: map[string]Line{}}
	defer func() {
		if err != nil {
			unlockFile(f) // which does nothing if the lock is another's
		}
	}()
	if err := lockFile(f); errors.Is(err, ErrBusy) {
		return nil, fail.Refused(fmt.Errorf("party %s of plan %s: %w", party, p.ID, ErrBusy), "watch it: steward plan status "+p.ID+" --watch")
	} else if err != nil {
		return nil, err
	}
	if err := j.load(); err != nil {
		return nil, fail.Refused(fmt.Errorf("read %s: %w", path, err), "rename it, then the same command goes on by what the store says")
	}
	return j, atomicfile.SyncDir(folder)
}

// lockFile keeps other processes on this machine out until unlockFile, or the end of this one.
func lockFile(f *os.File) error {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	switch {
	case errors.Is(err, syscall.EWOULDBLOCK):
		return ErrBusy
	case err != nil:
		return fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return nil
}

// unlockFile lets others in and closes the file. Closing alone would not do while another goroutine starts a program: until that is executed it has the file too.
func unlockFile(f *os.File) {
	_ = syscall.Flock(int(f.Fd()), syscall.LOCK_UN)
	_ = f.Close()
}

// makeFolder makes a folder that only its owner may read, and its name durable.
func makeFolder(folder string) error {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return fail.New(fail.Failed, fmt.Errorf("make the folder for journals: %w", err), "run it as root, or name another folder with --state-dir")
	}
	dir := filepath.Dir(folder)
	return errors.Join(atomicfile.SyncDir(dir), atomicfile.SyncDir(filepath.Dir(dir)))
}

// keepPlan keeps the plan on this machine; one that is kept already must be the same to the byte.
func keepPlan(folder string, p *Plan) error {
	doc, err := p.Encode()
	if err != nil {
		return err
	}
	path := filepath.Join(folder, planLeaf)
	have, err := os.ReadFile(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return atomicfile.Write(path, doc, 0o600)
	case err != nil:
		return fmt.Errorf("read the plan that is kept here: %w", err)
	case !bytes.Equal(have, doc):
		return fail.Refused(fmt.Errorf("%w: %s has another one of the same name", ErrTampered, path), "nothing was done; find out who changed it, there or in the store")
	}
	return nil
}

// load reads the file and drops a torn end.
func (j *Journal) load() error {
	raw, err := io.ReadAll(io.LimitReader(j.f, maxJournal+1))
	if err != nil {
		return err
	}
	lines, good, err := parseJournal(raw)
	if err != nil {
		return err
	}
	for _, l := range lines {
		if l.Plan != j.plan || l.Party != j.party {
			return fmt.Errorf("line %d is of party %s of plan %s", l.Seq, l.Party, l.Plan)
		}
		j.apply(l)
	}
	j.size = int64(good)
	if good == len(raw) {
		return nil
	}
	return errors.Join(j.f.Truncate(j.size), j.f.Sync())
}

// parseJournal gives the lines, and how many bytes they have. Bytes behind the last newline, or a last line that does not add up, are a torn end.
func parseJournal(raw []byte) (lines []Line, good int, err error) {
	if len(raw) > maxJournal {
		return nil, 0, fmt.Errorf("longer than the %d bytes that a journal may have", maxJournal)
	}
	for good < len(raw) {
		end := bytes.IndexByte(raw[good:], '\n')
		if end < 0 {
			return lines, good, nil
		}
		l, err := parseLine(raw[good : good+end])
		if err == nil && l.Seq != len(lines)+1 {
			err = fmt.Errorf("it has number %d", l.Seq)
		}
		next := good + end + 1
		if err != nil && next == len(raw) {
			return lines, good, nil
		}
		if err != nil {
			return lines, good, fmt.Errorf("line %d is damaged: %w", len(lines)+1, err)
		}
		lines, good = append(lines, l), next
	}
	return lines, good, nil
}

func parseLine(raw []byte) (Line, error) {
	var l Line
	if len(raw) > maxLine || len(raw) < sumDigits+1 || raw[sumDigits] != ' ' {
		return l, errors.New("it is no line of a journal")
	}
	if body := raw[sumDigits+1:]; lineSum(body) != string(raw[:sumDigits]) {
		return l, errors.New("its checksum does not match")
	}
	return l, strictly(raw[sumDigits+1:], &l)
}

func lineSum(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])[:sumDigits]
}

// apply takes a line into account.
func (j *Journal) apply(l Line) {
	j.seq = l.Seq
	if l.What == claimedLine {
		clear(j.marks)
		return
	}
	j.marks[l.Step] = l
}

// Append writes one line, and returns when it is on disk.
func (j *Journal) Append(l Line) error {
	if j.broken != nil {
		return j.broken
	}
	l.Seq, l.At, l.Plan, l.Party = j.seq+1, now(), j.plan, j.party
	body, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("journal of plan %s: %w", j.plan, err)
	}
	line := append([]byte(lineSum(body)+" "), append(body, '\n')...)
	if len(line) > maxLine || j.size+int64(len(line)) > maxJournal {
		return fmt.Errorf("journal of plan %s: a line of %d bytes is more than fits", j.plan, len(line))
	}
	if _, err = j.f.Write(line); err == nil {
		err = j.f.Sync()
	}
	if err != nil {
		j.broken = fmt.Errorf("journal of plan %s: %w", j.plan, err)
		return j.broken
	}
	j.size += int64(len(line))
	j.apply(l)
	return nil
}

// Mark is how a step stands by this journal.
func (j *Journal) Mark(step string) Mark { return j.marks[step].What }

// Result is what a step returned that is done by this journal.
func (j *Journal) Result(step string) json.RawMessage { return j.marks[step].Result }

// Close lets others open it.
func (j *Journal) Close() { unlockFile(j.f) }
