package changes

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Decoder reads one segment's content. It holds one record at a time and believes nothing before the end record agreed:
// whoever applies records as they come must be ready to throw the result away.
type Decoder struct {
	in     content
	header Header
	order  order
	rec    Record
	err    error
}

// NewDecoder reads the magic line and the header from r, a segment's content (see NewUnsealReader). Every error but r's own is ErrDamaged or
// ErrNewerFormat.
func NewDecoder(r io.Reader) (*Decoder, error) {
	d := &Decoder{in: content{r: r, sum: sha256.New()}}
	if err := d.start(); err != nil {
		return nil, fmt.Errorf("read segment: %w", err)
	}
	return d, nil
}

// Header is the segment's header.
func (d *Decoder) Header() Header { return d.header }

// Next returns the next record. Its slices are valid until the next call. After the last one it returns io.EOF, and only if the
// counts, the order and the hash of everything before agree.
func (d *Decoder) Next() (*Record, error) {
	if d.err != nil {
		return nil, d.err
	}
	if err := d.next(); err != nil {
		d.err = err
		if !errors.Is(err, io.EOF) {
			d.err = fmt.Errorf("read segment %d-%d: %w", d.header.First, d.header.Last, err)
		}
		return nil, d.err
	}
	return &d.rec, nil
}

func (d *Decoder) start() error {
	line, err := d.in.take(len(magic))
	if err != nil {
		return err
	}
	if string(line) != magic {
		if bytes.HasPrefix(line, []byte(magicStem)) && line[len(magicStem)] >= '1' && line[len(magicStem)] <= '9' {
			return ErrNewerFormat
		}
		return damaged("it does not begin with %q", magic)
	}
	k, body, err := d.in.record()
	if err != nil {
		return err
	}
	if k != KindHeader {
		return damaged("it begins with a record %q", k)
	}
	if err := decodeJSON(body, &d.header); err != nil {
		return damaged("header: %v", err)
	}
	if err := d.header.Validate(); err != nil {
		return damaged("%v", err)
	}
	d.order = newOrder(d.header)
	return nil
}

func (d *Decoder) next() error {
	k, body, err := d.in.record()
	if err != nil {
		return err
	}
	d.rec.Kind = k
	switch k {
	case KindEvent:
		err = d.event(body)
	case KindTime:
		if d.rec.Time, err = ParseTime(body); err == nil {
			err = d.order.mark(d.rec.Time.Revision)
		}
	case KindLeases:
		err = d.leases(body)
	case KindProof:
		f := fields{b: body}
		d.rec.Proof = Proof{Revision: f.revision(), CompactRevision: f.revision(), Hash: uint32(f.fixed(4)), MemberID: f.fixed(8), Time: f.time()}
		err = errors.Join(f.end(), d.order.proof(d.rec.Proof))
	case KindAuth:
		f := fields{b: body}
		d.rec.Auth = Auth{Revision: f.revision(), Auth: f.uvarint()}
		err = f.end()
	case kindEnd:
		return d.end(body)
	default:
		err = fmt.Errorf("unknown kind of record %q", k)
	}
	if err != nil {
		return damaged("%v", err)
	}
	return nil
}

func (d *Decoder) event(body []byte) error {
	if err := parseEvent(body, &d.rec.Event); err != nil {
		return err
	}
	return d.order.event(&d.rec.Event)
}

func parseEvent(body []byte, ev *Event) error {
	if len(body) < 1+KeyLen || int(body[0]) != KeyLen && int(body[0]) != TombstoneKeyLen || len(body) < 1+int(body[0]) {
		return errors.New("event without a revision key")
	}
	ev.KeyLen = int(body[0])
	copy(ev.Key[:], body[1:1+ev.KeyLen])
	ev.Value = body[1+ev.KeyLen:]
	return nil
}

// ParseTime reads a time mark's body.
func ParseTime(body []byte) (TimeMark, error) {
	f := fields{b: body}
	m := TimeMark{Revision: f.revision(), Time: f.time()}
	return m, f.end()
}

func (d *Decoder) leases(body []byte) error {
	f := fields{b: body}
	l := &d.rec.Leases
	l.Revision, l.Time, l.Complete, l.Leases = f.revision(), f.time(), f.fixed(1) != 0, l.Leases[:0]
	n := f.uvarint()
	if n > MaxLeases {
		return fmt.Errorf("%d leases in one record", n)
	}
	for range n {
		if f.bad {
			break
		}
		l.Leases = append(l.Leases, Lease{ID: int64(f.uvarint()), Granted: f.varint(), Remaining: f.varint()})
	}
	return f.end()
}

func (d *Decoder) end(body []byte) error {
	if len(body) != endLen {
		return damaged("an end record of %d bytes", len(body))
	}
	if err := d.order.end(); err != nil {
		return damaged("%v", err)
	}
	if n := binary.BigEndian.Uint64(body); n != uint64(d.order.events) {
		return damaged("%d events, its end says %d", d.order.events, n)
	}
	if subtle.ConstantTimeCompare(d.in.before[:], body[8:]) != 1 {
		return damaged("its content does not have the hash that its end says")
	}
	if err := d.in.nothing(); err != nil {
		return err
	}
	return io.EOF
}

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrDamaged, fmt.Sprintf(format, args...))
}

// decodeJSON is strict.
func decodeJSON(b []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return err
	}
	if _, err := dec.Token(); err != io.EOF {
		return errors.New("more than one document")
	}
	return nil
}
