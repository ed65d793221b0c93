package changes

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
)

// magic begins the content of every segment; the number behind the last slash is the format's version.
const (
	magicStem = "etcd-steward/changes/"
	magic     = magicStem + "1\n"
)

// endLen is the length of the end record's body: the number of events, and the hash of all content before the record.
const endLen = 8 + sha256.Size

// Encoder writes one segment's content, to be compressed and encrypted by a SealWriter. It checks what it writes as strictly as a
// Decoder does. It is not safe for concurrent use, and is of no more use after an error.
type Encoder struct {
	w      io.Writer
	sum    hash.Hash
	header Header
	order  order
	buf    []byte
	err    error
}

// NewEncoder writes the magic line and the header. The header says beforehand what the segment will hold; Close checks that it did.
func NewEncoder(w io.Writer, h Header) (*Encoder, error) {
	if err := h.Validate(); err != nil {
		return nil, err
	}
	body, err := json.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("encode header: %w", err)
	}
	e := &Encoder{w: w, sum: sha256.New(), header: h, order: newOrder(h)}
	e.buf = append(e.buf, magic...)
	return e, e.write(AppendRecord(e.buf, KindHeader, body))
}

// AppendRecord appends one record's framing and body to dst.
func AppendRecord(dst []byte, k Kind, body []byte) []byte {
	dst = append(dst, byte(k))
	dst = binary.AppendUvarint(dst, uint64(len(body)))
	return append(dst, body...)
}

// Event adds one event. Events come in the order of their revisions, without a hole.
func (e *Encoder) Event(ev *Event) error {
	if e.err != nil {
		return e.err
	}
	if len(ev.Value)+ev.KeyLen+1 > MaxEvent {
		return e.fail(fmt.Errorf("event of %d bytes, more than %d", len(ev.Value), MaxEvent))
	}
	if err := e.order.event(ev); err != nil {
		return e.fail(err)
	}
	return e.write(AppendEvent(e.buf[:0], ev))
}

// AppendEvent appends an event record to dst.
func AppendEvent(dst []byte, ev *Event) []byte {
	dst = append(dst, byte(KindEvent))
	dst = binary.AppendUvarint(dst, uint64(1+ev.KeyLen+len(ev.Value)))
	dst = append(dst, byte(ev.KeyLen))
	dst = append(dst, ev.Key[:ev.KeyLen]...)
	return append(dst, ev.Value...)
}

// Time adds a time mark.
func (e *Encoder) Time(m TimeMark) error {
	if err := e.order.mark(m.Revision); err != nil {
		return e.fail(err)
	}
	if e.err != nil {
		return e.err
	}
	return e.write(AppendTime(e.buf[:0], m))
}

// AppendTime appends a time mark's record to dst.
func AppendTime(dst []byte, m TimeMark) []byte {
	var body [2 * binary.MaxVarintLen64]byte
	b := binary.AppendUvarint(body[:0], uint64(m.Revision))
	return AppendRecord(dst, KindTime, binary.AppendVarint(b, m.Time.UnixNano()))
}

// Copy adds the events and time marks that a Splitter gives, as they are framed already, after it has checked them like any other.
func (e *Encoder) Copy(s *Splitter) error {
	var ev Event
	for e.err == nil {
		kind, record, err := s.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return e.fail(err)
		}
		switch kind {
		case KindEvent:
			if err = parseEvent(s.body, &ev); err == nil {
				err = e.order.event(&ev)
			}
		case KindTime:
			var m TimeMark
			if m, err = ParseTime(s.body); err == nil {
				err = e.order.mark(m.Revision)
			}
		default:
			err = fmt.Errorf("a record %q among events", kind)
		}
		if err != nil {
			return e.fail(err)
		}
		_ = e.put(record)
	}
	return e.err
}

// Leases adds what is known of the leases; more than MaxLeases are refused.
func (e *Encoder) Leases(l Leases) error {
	if len(l.Leases) > MaxLeases {
		return e.fail(fmt.Errorf("%d leases in one record", len(l.Leases)))
	}
	b := binary.AppendUvarint(nil, uint64(l.Revision))
	b = binary.AppendVarint(b, l.Time.UnixNano())
	b = append(b, boolByte(l.Complete))
	b = binary.AppendUvarint(b, uint64(len(l.Leases)))
	for _, x := range l.Leases {
		b = binary.AppendUvarint(b, uint64(x.ID))
		b = binary.AppendVarint(b, x.Granted)
		b = binary.AppendVarint(b, x.Remaining)
	}
	return e.other(KindLeases, b)
}

// Proof adds a member's HashKV, for a revision that has been recorded.
func (e *Encoder) Proof(p Proof) error {
	if err := e.order.proof(p); err != nil {
		return e.fail(err)
	}
	b := binary.AppendUvarint(nil, uint64(p.Revision))
	b = binary.AppendUvarint(b, uint64(p.CompactRevision))
	b = binary.BigEndian.AppendUint32(b, p.Hash)
	b = binary.BigEndian.AppendUint64(b, p.MemberID)
	return e.other(KindProof, binary.AppendVarint(b, p.Time.UnixNano()))
}

// Auth adds an auth revision.
func (e *Encoder) Auth(a Auth) error {
	b := binary.AppendUvarint(nil, uint64(a.Revision))
	return e.other(KindAuth, binary.AppendUvarint(b, a.Auth))
}

// Close checks that the segment holds what its header says and writes the end record. It does not close the writer below.
func (e *Encoder) Close() error {
	if e.err != nil {
		return e.err
	}
	if err := e.order.end(); err != nil {
		return e.fail(err)
	}
	body := binary.BigEndian.AppendUint64(nil, uint64(e.order.events))
	body = e.sum.Sum(body)
	if e.write(AppendRecord(e.buf[:0], kindEnd, body)) == nil {
		e.err = errors.New("segment is closed")
		return nil
	}
	return e.err
}

func (e *Encoder) other(k Kind, body []byte) error {
	if e.err != nil {
		return e.err
	}
	if len(body) > MaxOther {
		return e.fail(fmt.Errorf("%c record of %d bytes, more than %d", k, len(body), MaxOther))
	}
	return e.write(AppendRecord(e.buf[:0], k, body))
}

// write adds what was made in buf.
func (e *Encoder) write(b []byte) error {
	e.buf = b[:0]
	return e.put(b)
}

func (e *Encoder) put(b []byte) error {
	e.sum.Write(b)
	if _, err := e.w.Write(b); err != nil {
		return e.fail(err)
	}
	return nil
}

func (e *Encoder) fail(err error) error {
	if e.err == nil {
		e.err = fmt.Errorf("encode segment: %w", err)
	}
	return e.err
}

func boolByte(b bool) byte {
	if b {
		return 1
	}
	return 0
}
