package keys

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"time"

	"etcd-steward/backup/changes"
	"etcd-steward/backup/dbfile"
	"etcd-steward/backup/rebuild"
	"etcd-steward/backup/repo"
	"etcd-steward/backup/revision"
)

// HistoryOptions say where the history of keys is read.
type HistoryOptions struct {
	// File is a db file with the history before the first segment; nil to read the segments alone.
	File *dbfile.File
	// FileTime is the time by which all of the file's revisions had come to be, when its snapshot began; zero when it is not known.
	FileTime time.Time
	// Segments hold what came after; a part of them may lie within the file.
	Segments []rebuild.Segment
	// First and Last bound the history. Revisions before the file's compaction, or without a file before the first segment, are left out.
	First, Last revision.Revision
	// Timeline is what every segment must be of; the zero value does not check.
	Timeline repo.Timeline
	// Budget is how many bytes of changes wait for the time mark behind them; 0 means 8 MiB.
	Budget int
}

// Change is one change of a key.
type Change struct {
	Revision revision.Revision
	Sub      int64 // its position among the changes of that revision
	Deleted  bool
	// KeyValue is what the key became; of a deletion it has the key alone.
	KeyValue changes.KeyValue
	// Time is when, as far as the log says.
	Time rebuild.Time
}

const defaultHistoryBudget = 8 << 20

// History gives the changes of a range of keys, oldest first. A Change is valid until the next one; the iteration ends after an error. The
// later of the two times of a change is unknown when more changes of the range than the budget allows lie between two time marks.
func History(ctx context.Context, o HistoryOptions, r Range) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		if o.Budget <= 0 {
			o.Budget = defaultHistoryBudget
		}
		h := historian{opts: o, keys: r, yield: yield}
		err := h.file(ctx)
		if err == nil {
			err = h.log(ctx)
		}
		if err == nil {
			err = h.flush(time.Time{})
		}
		if err != nil && !errors.Is(err, errEnough) {
			yield(Change{}, err)
		}
	}
}

// errEnough means that the iteration was ended from outside.
var errEnough = errors.New("enough")

type historian struct {
	opts  HistoryOptions
	keys  Range
	yield func(Change, error) bool

	waiting []Change // for the time mark behind them
	size    int
	seen    revision.Revision // of the last event
	after   time.Time         // of the last time mark
}

// logFrom is the first revision that is read from the segments.
func (h *historian) logFrom() revision.Revision {
	from := h.opts.Last + 1
	if len(h.opts.Segments) > 0 {
		from = min(from, h.opts.Segments[0].First)
	}
	return max(from, h.opts.First)
}

// file gives what the segments do not have.
func (h *historian) file(ctx context.Context) error {
	if h.opts.File == nil || h.logFrom() <= h.opts.First {
		return nil
	}
	return h.opts.File.Records(ctx, h.opts.First, h.logFrom()-1, false, func(r dbfile.Record) (bool, error) {
		key, err := r.Key()
		if err != nil || len(key) == 0 || !h.keys.Has(key) {
			return true, err
		}
		kv, err := changes.ParseKeyValue(r.Value)
		if err == nil && !h.yield(Change{Revision: r.Revision, Sub: r.Sub, Deleted: r.Tombstone, KeyValue: kv, Time: rebuild.Time{By: h.opts.FileTime}}, nil) {
			err = errEnough
		}
		return true, err
	})
}

// log gives what the segments have. Without a hole between them and the file.
func (h *historian) log(ctx context.Context) error {
	from := h.logFrom()
	if from > h.opts.Last {
		return nil
	}
	after := from - 1
	if h.opts.File != nil {
		rev, _, err := h.opts.File.Revisions()
		if err != nil {
			return err
		}
		after = min(after, rev) // a file that ends before the first segment leaves a hole, and Stream says so
	}
	return rebuild.Stream(ctx, rebuild.StreamOptions{Segments: h.opts.Segments, After: after, Last: h.opts.Last, Timeline: h.opts.Timeline}, h.record)
}

func (h *historian) record(r *changes.Record) error {
	if r.Kind == changes.KindTime {
		return h.mark(r.Time)
	}
	if r.Kind != changes.KindEvent {
		return nil
	}
	main, sub := r.Event.Revision()
	h.seen = revision.Revision(main)
	kv, err := changes.ParseKeyValue(r.Event.Value)
	if err != nil || !h.keys.Has(kv.Key) {
		return err
	}
	if kv, err = changes.ParseKeyValue(bytes.Clone(r.Event.Value)); err != nil {
		return err
	}
	h.waiting = append(h.waiting, Change{
		Revision: h.seen, Sub: sub, Deleted: r.Event.Tombstone(), KeyValue: kv, Time: rebuild.Time{After: h.after},
	})
	if h.size += len(r.Event.Value) + entryOverhead; h.size > h.opts.Budget {
		return h.flush(time.Time{})
	}
	return nil
}

// mark ends the wait of the changes up to the mark's revision. Where segments overlap, marks of earlier revisions come again: they say
// nothing new.
func (h *historian) mark(m changes.TimeMark) error {
	if m.Revision < h.seen {
		return nil
	}
	h.after = m.Time
	return h.flush(m.Time)
}

func (h *historian) flush(by time.Time) error {
	for _, c := range h.waiting {
		c.Time.By = by
		if !h.yield(c, nil) {
			return errEnough
		}
	}
	clear(h.waiting)
	h.waiting, h.size = h.waiting[:0], 0
	return nil
}
