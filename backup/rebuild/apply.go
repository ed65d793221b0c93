package rebuild

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"

	"etcd-steward/backup/changes"
	"etcd-steward/backup/dbfile"
	"etcd-steward/backup/revision"
)

// applier brings one file to the target.
type applier struct {
	edit   *dbfile.Edit
	opts   Options
	segs   []Segment
	res    Result
	at     revision.Revision // of the last event read
	leases leases
}

// begin rewinds a file that is beyond the target, and decides which segments are needed.
func (a *applier) begin(ctx context.Context) (err error) {
	a.res.Revision = a.opts.Target
	a.res.Snapshot, a.res.CompactRevision = a.edit.Revisions()
	switch {
	case a.opts.Target < 1:
		return fmt.Errorf("there is no revision %d", a.opts.Target)
	case a.opts.Target < a.res.CompactRevision:
		return fmt.Errorf("%w: the snapshot's history was compacted at revision %d", ErrMissing, a.res.CompactRevision)
	}
	if a.segs, err = reach(a.opts.Segments, a.res.Snapshot, a.opts.Target); err != nil {
		return err
	}
	have, err := a.edit.Leases()
	if err != nil {
		return err
	}
	a.leases = newLeases(have, a.res.Snapshot, a.opts.Target)
	if a.res.Snapshot <= a.opts.Target {
		return nil
	}
	if a.leases.undone, err = a.edit.TouchedAbove(ctx, a.opts.Target); err != nil {
		return err
	}
	a.res.Removed, err = a.edit.Rewind(ctx, a.opts.Target)
	return err
}

// segments applies the log.
func (a *applier) segments(ctx context.Context) error {
	p := startPipeline(ctx, a.segs, a.opts.Timeline, a.opts.ReadAhead)
	defer p.close()
	for i, s := range a.segs {
		a.at = s.First
		if err := a.segment(ctx, p, p.outs[i]); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return &SegmentError{Segment: s.Name, Revision: a.at, Err: err}
		}
	}
	return nil
}

func (a *applier) segment(ctx context.Context, p *pipeline, chunks <-chan *chunk) error {
	whole := false
	for c := range chunks {
		if err := a.chunk(c); err != nil {
			return err
		}
		end := c.err
		p.release(c)
		if whole = errors.Is(end, io.EOF); !whole && end != nil {
			return end
		}
		if a.opts.Progress != nil {
			a.opts.Progress(a.res.Applied, min(a.at, a.opts.Target))
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	if !whole {
		return context.Canceled // nothing else ends a segment without an error
	}
	return contradiction(a.edit.EndSegment())
}

func (a *applier) chunk(c *chunk) error {
	data, marks := c.data, c.marks
	for i := range c.items {
		it := &c.items[i]
		if it.keyLen == 0 {
			a.mark(&marks[0])
			marks = marks[1:]
			continue
		}
		value := data[:it.size]
		data = data[it.size:]
		if err := a.event(it, value); err != nil {
			return err
		}
	}
	return nil
}

func (a *applier) event(it *item, value []byte) error {
	ev := changes.Event{Key: it.key, KeyLen: it.keyLen}
	main, _ := ev.Revision()
	a.at = revision.Revision(main)
	if a.at > a.opts.Target {
		return nil
	}
	written, err := a.edit.Put(ev.Bytes(), value)
	if err != nil {
		return contradiction(err)
	}
	if written {
		a.res.Applied++
		a.leases.attached(it.lease)
	}
	return nil
}

// contradiction says so of an error about a record that does not fit.
func contradiction(err error) error {
	var r *dbfile.RecordError
	if errors.As(err, &r) {
		return fmt.Errorf("%w: %w", ErrContradiction, err)
	}
	return err
}

// proofsMax bounds what a log full of proofs costs.
const proofsMax = 1024

func (a *applier) mark(m *changes.Record) {
	switch m.Kind {
	case changes.KindTime:
		a.res.When.mark(m.Time, a.opts.Target)
	case changes.KindLeases:
		a.leases.record(m.Leases)
	case changes.KindProof:
		if m.Proof.Revision > a.opts.Target || m.Proof.CompactRevision < a.res.CompactRevision {
			return
		}
		a.res.Proofs = append(a.res.Proofs, m.Proof)
		if len(a.res.Proofs) > 2*proofsMax {
			a.res.Proofs = newestProofs(a.res.Proofs)
		}
	}
}

// end checks that the target was reached, and writes the leases.
func (a *applier) end(ctx context.Context) error {
	if got, _ := a.edit.Revisions(); got != a.opts.Target {
		return fmt.Errorf("%w: %d to %d", ErrMissing, got+1, a.opts.Target)
	}
	a.res.Proofs = newestProofs(a.res.Proofs)
	if err := a.leases.complete(ctx, a.edit); err != nil {
		return err
	}
	if len(a.leases.unknown()) > 0 {
		a.lookBehind(ctx)
	}
	a.res.Assumed = a.leases.unknown()
	set := a.leases.all()
	a.res.Leases = len(set)
	return a.edit.SetLeases(set)
}

// behindMax is how many segments behind the target may tell of leases: a recorder asks for a lease within seconds of the first key
// that is attached to it.
const behindMax = 2

// lookBehind reads what the segments behind the target say of leases. One that cannot be read is no part of the restore point: then a
// TTL is assumed.
func (a *applier) lookBehind(ctx context.Context) {
	n := 0
	for _, s := range a.opts.Segments {
		if s.First <= a.opts.Target {
			continue
		}
		if n++; n > behindMax {
			return
		}
		seen := leases{later: map[int64]int64{}}
		err := eachRecord(ctx, s, a.opts.Timeline, func(_ changes.Header, r *changes.Record) error {
			if r.Kind == changes.KindLeases {
				seen.seenLater(r.Leases)
			}
			return nil
		})
		if err != nil {
			return
		}
		maps.Copy(a.leases.later, seen.later)
	}
}
