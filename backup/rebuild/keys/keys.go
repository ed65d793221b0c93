// Package keys answers what a key or a range of keys was at a restore point, how it came to be so, and what differs between two
// points, out of a snapshot's db file and the change log; nothing is restored, and the file is not changed.
//
// Memory is bounded whatever the number and the size of the keys: what does not fit is read in several passes. It shows keys and
// values as etcd has them; what a value means is for restore/kube.
package keys

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"maps"
	"slices"

	"etcd-steward/backup/changes"
	"etcd-steward/backup/dbfile"
	"etcd-steward/backup/rebuild"
	"etcd-steward/backup/repo"
	"etcd-steward/backup/revision"
)

// Range is a range of keys as etcd knows it: Key alone when End is nil; from Key on when End is one zero byte; else from Key up to, but
// not including, End.
type Range struct {
	Key, End []byte
}

// Prefix is the range of the keys that begin with p; all keys when it is empty.
func Prefix(p string) Range {
	end := []byte(p)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i] < 0xff {
			end[i]++
			return Range{Key: []byte(p), End: end[:i+1]}
		}
	}
	return Range{Key: []byte(p), End: []byte{0}}
}

// Has says whether the range holds key.
func (r Range) Has(key []byte) bool {
	switch {
	case r.End == nil:
		return bytes.Equal(key, r.Key)
	case bytes.Equal(r.End, []byte{0}):
		return bytes.Compare(key, r.Key) >= 0
	}
	return bytes.Compare(key, r.Key) >= 0 && bytes.Compare(key, r.End) < 0
}

// Point is a restore point, and where to read it from.
type Point struct {
	// File is the db file of a snapshot. It may be of a later revision than the point, if its history reaches back so far.
	File *dbfile.File
	// Segments continue it up to the point; none are needed when the file reaches it.
	Segments []rebuild.Segment
	// Revision is the restore point's.
	Revision revision.Revision
	// Timeline is what every segment must be of; the zero value does not check.
	Timeline repo.Timeline
	// Budget is how many bytes of keys, and of values from segments, one pass keeps; 0 means 48 MiB.
	Budget int
}

// ErrCompacted means that the file's history does not reach back to the restore point.
var ErrCompacted = errors.New("history was compacted above the restore point")

const defaultBudget = 48 << 20

// entryOverhead is what a key takes beside its bytes.
const entryOverhead = 128

// Get gives the keys of a range that exist at the point, in order of the keys. A KeyValue is valid until the next one. The iteration ends
// after an error.
func Get(ctx context.Context, p Point, r Range) iter.Seq2[changes.KeyValue, error] {
	budget := p.Budget
	if budget <= 0 {
		budget = defaultBudget
	}
	return func(yield func(changes.KeyValue, error) bool) {
		// Each pass keeps the lowest keys that fit, and the next begins behind them.
		for more := true; more; {
			s := pass{Range: r, budget: budget, live: map[string]entry{}}
			if err := s.read(ctx, p); err != nil {
				yield(changes.KeyValue{}, err)
				return
			}
			for _, k := range slices.Sorted(maps.Keys(s.live)) {
				kv, err := s.live[k].load(p.File)
				if !yield(kv, err) || err != nil {
					return
				}
			}
			if more = s.bound != nil; more {
				r.Key = s.bound
			}
		}
	}
}

// entry is where the newest put of a key is.
type entry struct {
	rev   revision.Revision
	sub   int64
	value []byte // the marshalled KeyValue, when it is from a segment
}

func (e entry) load(f *dbfile.File) (changes.KeyValue, error) {
	if e.value != nil {
		return changes.ParseKeyValue(e.value)
	}
	r, found, err := f.Put(e.rev, e.sub)
	if err == nil && !found {
		err = dbfile.ErrDamaged
	}
	if err != nil {
		return changes.KeyValue{}, err
	}
	return changes.ParseKeyValue(r.Value)
}

// pass collects the lowest keys of a range that fit into the budget.
type pass struct {
	Range
	budget int
	live   map[string]entry
	size   int
	bound  []byte // keys from here on were given up; nil when none was
}

// read walks the file and then the log.
func (s *pass) read(ctx context.Context, p Point) error {
	rev, compact, err := p.File.Revisions()
	if err != nil {
		return err
	}
	if p.Revision < compact {
		return ErrCompacted
	}
	err = p.File.Records(ctx, 0, p.Revision, false, func(r dbfile.Record) (bool, error) {
		key, err := r.Key()
		if err == nil && s.wants(key) {
			s.take(key, entry{rev: r.Revision, sub: r.Sub}, r.Tombstone)
		}
		return true, err
	})
	if err != nil || rev >= p.Revision {
		return err
	}
	return rebuild.Stream(ctx, rebuild.StreamOptions{Segments: p.Segments, After: rev, Last: p.Revision, Timeline: p.Timeline}, func(r *changes.Record) error {
		if r.Kind != changes.KindEvent {
			return nil
		}
		kv, err := changes.ParseKeyValue(r.Event.Value)
		if err == nil && s.wants(kv.Key) {
			s.take(kv.Key, entry{value: bytes.Clone(r.Event.Value)}, r.Event.Tombstone())
		}
		return err
	})
}

func (s *pass) wants(key []byte) bool {
	return s.Has(key) && len(key) > 0 && (s.bound == nil || bytes.Compare(key, s.bound) < 0)
}

func (s *pass) take(key []byte, e entry, tombstone bool) {
	if old, ok := s.live[string(key)]; ok {
		s.size -= len(key) + len(old.value) + entryOverhead
		delete(s.live, string(key))
	}
	if tombstone {
		return
	}
	s.size += len(key) + len(e.value) + entryOverhead
	s.live[string(key)] = e
	if s.size > s.budget && len(s.live) > 1 {
		s.giveUp()
	}
}

// giveUp leaves the higher half of the keys to another pass. The lowest key always stays, so every pass gets further.
func (s *pass) giveUp() {
	all := slices.Sorted(maps.Keys(s.live))
	n := 1
	for size := 0; n < len(all); n++ {
		size += len(all[n-1]) + len(s.live[all[n-1]].value) + entryOverhead
		if size > s.budget/2 {
			break
		}
	}
	if n == len(all) {
		n--
	}
	s.bound = []byte(all[n])
	for _, k := range all[n:] {
		s.size -= len(k) + len(s.live[k].value) + entryOverhead
		delete(s.live, k)
	}
}
