package rebuild

import (
	"context"
	"errors"
	"fmt"
	"io"

	"etcd-steward/backup/changes"
	"etcd-steward/backup/repo"
	"etcd-steward/backup/revision"
)

// StreamOptions say what Stream reads.
type StreamOptions struct {
	// Segments are a cover, in order of their first revision. Where they overlap, the earlier one is believed.
	Segments []Segment
	// After and Last bound the events: those of the revisions After+1 to Last. All of them must be there.
	After, Last revision.Revision
	// Timeline is what every segment must be of; the zero value does not check.
	Timeline repo.Timeline
	// ReadAhead is how many segments are fetched and decoded at the same time; 0 means 2.
	ReadAhead int
}

// Stream gives the events of a range of revisions, each once and in order, and all other records of the segments as they come. The record
// is valid during the call. What was given may be believed when Stream returns without error, and not before: a segment's
// damage shows at its end.
func Stream(ctx context.Context, o StreamOptions, visit func(*changes.Record) error) error {
	segs, err := reach(o.Segments, o.After, o.Last)
	if err != nil {
		return err
	}
	p := startPipeline(ctx, segs, o.Timeline, o.ReadAhead)
	defer p.close()
	s := streamer{after: o.After, last: o.Last, visit: visit}
	for i, seg := range segs {
		s.at = seg.First
		if err := s.segment(p, p.outs[i]); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return &SegmentError{Segment: seg.Name, Revision: s.at, Err: err}
		}
		s.after = max(s.after, seg.Last)
	}
	return nil
}

// streamer gives the events that lie in the range and were not given by an earlier segment.
type streamer struct {
	after, last revision.Revision
	at          revision.Revision // of the event being read
	visit       func(*changes.Record) error
}

func (s *streamer) segment(p *pipeline, chunks <-chan *chunk) error {
	var rec changes.Record
	for c := range chunks {
		data, marks := c.data, c.marks
		for i := range c.items {
			it := &c.items[i]
			var r *changes.Record
			if it.keyLen == 0 {
				r, marks = &marks[0], marks[1:]
			} else {
				rec = changes.Record{Kind: changes.KindEvent, Event: changes.Event{Key: it.key, KeyLen: it.keyLen, Value: data[:it.size]}}
				data = data[it.size:]
				main, _ := rec.Event.Revision()
				if s.at = revision.Revision(main); s.at <= s.after || s.at > s.last {
					continue
				}
				r = &rec
			}
			if err := s.visit(r); err != nil {
				return err
			}
		}
		end := c.err
		p.release(c)
		if errors.Is(end, io.EOF) {
			return nil
		}
		if end != nil {
			return end
		}
	}
	return fmt.Errorf("read ahead: %w", context.Canceled)
}
