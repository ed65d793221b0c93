package record

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"

	"etcd-steward/backup/changes"
	"etcd-steward/backup/changes/watch"
	"etcd-steward/backup/repo"
)

// holeError says that a watch left out the revisions between Have and Next. Another watch may still give them.
type holeError struct{ Have, Next repo.Revision }

func (e *holeError) Error() string {
	return fmt.Sprintf("the watch left out revisions %d to %d", e.Have+1, e.Next-1)
}

// repeatError says that a watch went back: it gave Got, which it had given before.
type repeatError struct{ Have, Got repo.Revision }

func (e *repeatError) Error() string {
	return fmt.Sprintf("the watch gave revision %d again, after %d", e.Got, e.Have)
}

// otherHistoryError says that a revision that was recorded is not what it was.
type otherHistoryError struct{ Revision repo.Revision }

func (e *otherHistoryError) Error() string {
	return fmt.Sprintf("revision %d holds other events than were recorded", e.Revision)
}

// fingerprint is a revision and the hash of its event records.
type fingerprint struct {
	Revision repo.Revision
	SHA256   repo.SHA256
}

// markEvery is how close time marks are while events come.
const markEvery = 100 * time.Millisecond

// tail is the end of the change log: it turns what a watch says into records, whole revision after whole revision, and holds those of
// the segment that is open. Its rules are the contiguity that is promised: no hole, no repeat, nothing half.
type tail struct {
	buf buffer
	// have is the last revision that is recorded whole, stored or in buf; first is the first one in buf.
	have, first repo.Revision
	// main and sub are those of the last event that the watch gave; beyond have when its revision is not whole yet.
	main repo.Revision
	sub  int64
	open bool // more events of main may follow: its message has not ended
	// events is the number in buf of whole revisions, length their bytes; partial and last are those of the revision that is not whole, and where
	// the last whole one begins in buf.
	events, partial int64
	length, last    int64
	since           time.Time // when the first event in buf came
	leases          []int64   // of events since leases were taken; bounded by leasesMax

	check   fingerprint // what the revision must be when the watch passes it; zero: nothing to check
	sum     hash.Hash
	checked int // events of the check's revision seen

	mark  changes.TimeMark // the last in buf, or before it
	quiet time.Time        // when have was last known to be the newest revision

	event   changes.Event
	scratch []byte
	value   []byte
}

const leasesMax = 10000

// resume prepares for a watch that begins at a revision, at most one after have. What it gives again is checked and left out.
func (t *tail) resume(from repo.Revision, check fingerprint) {
	t.rollback()
	t.main, t.open = from-1, false
	t.check, t.checked = check, 0
	if t.sum == nil {
		t.sum = sha256.New()
	}
	t.sum.Reset()
}

// rollback forgets a revision that is not whole.
func (t *tail) rollback() {
	t.buf.Truncate(t.length)
	t.partial = 0
	t.main, t.open = t.have, false
}

// restart puts the end of the log elsewhere, behind a gap or at the start. What was recorded must have been sealed.
func (t *tail) restart(have repo.Revision) error {
	t.have = have
	return t.reset()
}

// reset empties buf after its revisions were sealed.
func (t *tail) reset() error {
	t.events, t.partial, t.length, t.last, t.first = 0, 0, 0, 0, 0
	t.rollback()
	return t.buf.Reset()
}

// empty says whether there is no whole revision in buf.
func (t *tail) empty() bool { return t.events == 0 }

// halfway says whether buf ends in a revision that is not whole.
func (t *tail) halfway() bool { return t.partial > 0 }

// response takes one message of the watch.
func (t *tail) response(r *watch.Response, now time.Time) error {
	if r.Progress() {
		return t.progress(r.Revision, now)
	}
	if err := r.Each(func(c *watch.Change) error { return t.change(c, now) }); err != nil {
		return err
	}
	if r.Fragment || r.Events == 0 {
		return nil
	}
	t.whole()
	t.open = false
	if err := t.compare(t.main); err != nil {
		return err
	}
	return t.timeMark(now)
}

func (t *tail) change(c *watch.Change, now time.Time) error {
	if c.Revision == t.main && t.open {
		t.sub++
	} else if err := t.next(c.Revision); err != nil {
		return err
	}
	t.event.SetRevision(int64(t.main), t.sub, c.Tombstone)
	t.event.Value = c.Record
	if c.Tombstone {
		t.value = changes.AppendTombstone(t.value[:0], c.Key)
		t.event.Value = t.value
	}
	t.scratch = changes.AppendEvent(t.scratch[:0], &t.event)
	if len(t.scratch) > changes.MaxEvent {
		return fmt.Errorf("an event of %d bytes at revision %d, more than a segment may hold", len(t.scratch), t.main)
	}
	if t.main == t.check.Revision {
		t.sum.Write(t.scratch)
		t.checked++
	}
	if t.main <= t.have {
		return nil
	}
	if t.partial == 0 && t.events == 0 {
		t.first, t.since = t.main, now
	}
	t.partial++
	if c.Lease != 0 && len(t.leases) < leasesMax {
		t.leases = append(t.leases, c.Lease)
	}
	_, err := t.buf.Write(t.scratch)
	return err
}

// next begins the revision that an event is the first of.
func (t *tail) next(rev repo.Revision) error {
	switch {
	case rev <= t.main:
		return &repeatError{Have: t.main, Got: rev}
	case rev != t.main+1 && rev > t.have+1:
		return &holeError{Have: max(t.main, t.have), Next: rev}
	}
	t.whole()
	if err := t.compare(rev - 1); err != nil {
		return err
	}
	t.main, t.sub, t.open = rev, 0, true
	if rev == t.have+1 {
		return t.quietMark()
	}
	return nil
}

// whole counts the revision at the end of buf as complete: the next one has begun, or the message has ended.
func (t *tail) whole() {
	if t.partial == 0 {
		return
	}
	t.last, t.length = t.length, t.buf.Len()
	t.events += t.partial
	t.partial, t.have = 0, t.main
}

// compare ends the check when the watch has passed its revision.
func (t *tail) compare(passed repo.Revision) error {
	c := t.check
	if c.Revision == 0 || passed < c.Revision {
		return nil
	}
	t.check = fingerprint{}
	// Not one event of it: a compaction at this very revision has taken what it held (etcd before 3.5.18 takes tombstones).
	if t.checked > 0 && !bytes.Equal(t.sum.Sum(nil), c.SHA256[:]) {
		return &otherHistoryError{Revision: c.Revision}
	}
	return nil
}

// progress takes the member's word that everything up to a revision has been sent.
func (t *tail) progress(rev repo.Revision, now time.Time) error {
	if t.halfway() {
		return fmt.Errorf("the watch reports progress in the middle of revision %d", t.main)
	}
	if rev > max(t.main, t.have) {
		// Every revision has an event.
		return &holeError{Have: max(t.main, t.have), Next: rev + 1}
	}
	if rev < t.have {
		return nil // a member that lags
	}
	t.main = t.have
	t.quiet = now
	return t.compare(t.have)
}

// quietMark says of the revision before the one that begins how long it was the newest.
func (t *tail) quietMark() error {
	if t.quiet.IsZero() || t.quiet.Sub(t.mark.Time) < markEvery {
		return nil
	}
	return t.putMark(t.quiet)
}

// timeMark says when the last whole revision had been seen. A clock that went back says nothing until it has come back to where it was.
func (t *tail) timeMark(now time.Time) error {
	if t.empty() || now.Sub(t.mark.Time) < markEvery {
		return nil
	}
	return t.putMark(now)
}

// lastMark sees to it that a segment's last revision has a time, however close it follows the mark before: it may stay the newest for long.
func (t *tail) lastMark(now time.Time) error {
	if t.mark.Revision == t.have || now.Before(t.mark.Time) {
		return nil
	}
	return t.putMark(now)
}

func (t *tail) putMark(at time.Time) error {
	t.mark = changes.TimeMark{Revision: t.have, Time: at}
	if _, err := t.buf.Write(changes.AppendTime(nil, t.mark)); err != nil {
		return err
	}
	t.length = t.buf.Len()
	return nil
}

// fingerprint is that of the last whole revision in buf; false when buf holds none.
func (t *tail) fingerprint() (fingerprint, bool, error) {
	if t.empty() || t.events == 0 {
		return fingerprint{}, false, nil
	}
	f := fingerprint{Revision: t.have}
	sum := sha256.New()
	s := changes.NewSplitter(t.buf.Section(t.last, t.length))
	for {
		kind, record, err := s.Next()
		if errors.Is(err, io.EOF) {
			sum.Sum(f.SHA256[:0])
			return f, true, nil
		}
		if err != nil {
			return fingerprint{}, false, err
		}
		if kind == changes.KindEvent {
			sum.Write(record)
		}
	}
}
