package changes

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// ErrDisagree means that two segments hold different events for one revision: one of them is not of the history that it claims.
var ErrDisagree = errors.New("two segments disagree")

// Agree reads two segments of one timeline to their ends, and compares the revisions that both hold. Its error is ErrDisagree, or that
// of a segment which cannot be read.
func Agree(a, b *Decoder) error {
	ha, hb := a.Header(), b.Header()
	if ha.Timeline != hb.Timeline {
		return fmt.Errorf("compare segments of timelines %s and %s", ha.Timeline, hb.Timeline)
	}
	first, last := int64(max(ha.First, hb.First)), int64(min(ha.Last, hb.Last))
	for {
		x, err := nextEvent(a, first, last)
		if err != nil {
			return err
		}
		y, err := nextEvent(b, first, last)
		if err != nil {
			return err
		}
		switch {
		case x == nil && y == nil:
			return nil
		case x == nil || y == nil || !bytes.Equal(x.Bytes(), y.Bytes()) || !bytes.Equal(x.Value, y.Value):
			at := x
			if at == nil {
				at = y
			}
			main, _ := at.Revision()
			return fmt.Errorf("%w on revision %d: %d-%d recorded by %s, and %d-%d by %s", ErrDisagree, main, ha.First, ha.Last, ha.Host, hb.First, hb.Last, hb.Host)
		}
	}
}

// nextEvent is the next event of a range; nil when the segment has been read to its end.
func nextEvent(d *Decoder, first, last int64) (*Event, error) {
	for {
		rec, err := d.Next()
		if errors.Is(err, io.EOF) {
			return nil, nil //nolint:nilnil // the end is no error here
		}
		if err != nil {
			return nil, err
		}
		if rec.Kind != KindEvent {
			continue
		}
		if main, _ := rec.Event.Revision(); main >= first && main <= last {
			return &rec.Event, nil
		}
	}
}
