package changes

import (
	"errors"
	"fmt"

	"etcd-steward/backup/repo"
)

// order checks that a segment's records are whole and in order; the encoder and the decoder hold each other to the same rules.
type order struct {
	header    Header
	main, sub int64 // of the last event; main is First-1 before the first
	events    int64
}

func newOrder(h Header) order { return order{header: h, main: int64(h.First) - 1, sub: -1} }

func (o *order) event(ev *Event) error {
	if ev.KeyLen != KeyLen && ev.KeyLen != TombstoneKeyLen || ev.Key[8] != '_' || ev.KeyLen == TombstoneKeyLen && ev.Key[17] != 't' {
		return errors.New("event whose key is not a revision")
	}
	main, sub := ev.Revision()
	switch {
	case main == o.main && sub == o.sub+1 && o.events > 0:
	case main == o.main+1 && sub == 0:
	default:
		return fmt.Errorf("event %d/%d after %d/%d", main, sub, o.main, o.sub)
	}
	kv, err := ParseKeyValue(ev.Value)
	switch {
	case err != nil:
		return fmt.Errorf("event %d/%d: %w", main, sub, err)
	case len(kv.Key) == 0:
		return fmt.Errorf("event %d/%d: no key", main, sub)
	case ev.Tombstone() && len(ev.Value) != tombstoneLen(kv.Key):
		return fmt.Errorf("event %d/%d: a tombstone that holds more than a key", main, sub)
	case !ev.Tombstone() && (kv.ModRevision != main || kv.CreateRevision < 1 || kv.CreateRevision > main || kv.Version < 1):
		return fmt.Errorf("event %d/%d: its record says revision %d, created at %d, version %d", main, sub, kv.ModRevision, kv.CreateRevision, kv.Version)
	}
	o.main, o.sub = main, sub
	o.events++
	if main > int64(o.header.Last) || o.events > o.header.Events {
		return fmt.Errorf("event %d/%d: beyond what the header says", main, sub)
	}
	return nil
}

func (o *order) mark(r repo.Revision) error {
	if int64(r) != o.main {
		return fmt.Errorf("time mark for revision %d after an event of %d", r, o.main)
	}
	return nil
}

func (o *order) proof(p Proof) error {
	if int64(p.Revision) > o.main || p.CompactRevision > p.Revision || p.Revision < 1 || p.CompactRevision < 0 {
		return fmt.Errorf("proof for revision %d compacted at %d, after an event of %d", p.Revision, p.CompactRevision, o.main)
	}
	return nil
}

func (o *order) end() error {
	if o.main != int64(o.header.Last) || o.events != o.header.Events {
		return fmt.Errorf("it ends at revision %d with %d events, its header says %d and %d", o.main, o.events, o.header.Last, o.header.Events)
	}
	return nil
}
