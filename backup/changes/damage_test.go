package changes

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"

	"etcd-steward/backup/repo"
)

// mustBeDamaged fails the test unless b is refused as damaged, whatever was decoded before.
func mustBeDamaged(t *testing.T, b []byte, what string, at int, ids ...age.Identity) {
	t.Helper()
	_, err := unseal(b, ids...)
	if err == nil {
		t.Fatalf("%s at %d of %d bytes was not noticed", what, at, len(b))
	}
	var none *age.NoIdentityMatchError
	if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrNewerFormat) && !errors.As(err, &none) {
		t.Fatalf("%s at %d: got %v, want ErrDamaged", what, at, err)
	}
}

// TestEveryBit: any flipped bit, any truncation, any byte taken out or put behind is found, encrypted or not. A part of them is tried
// in each run, another one each time.
func TestEveryBit(t *testing.T) {
	rng := newRand(t)
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	s := randomSample(rng, 2)
	for i := range s.records {
		if ev := &s.records[i].Event; s.records[i].Kind == KindEvent && !ev.Tombstone() {
			main, _ := ev.Revision()
			ev.Value = AppendKeyValue(nil, KeyValue{Key: []byte("a"), CreateRevision: 1, ModRevision: main, Version: 2, Value: []byte("b")})
		}
	}
	for _, c := range []struct {
		name   string
		sealed []byte
		ids    []age.Identity
	}{{"plain", s.sealed(t), nil}, {"encrypted", s.sealed(t, id.Recipient()), []age.Identity{id}}} {
		t.Run(c.name, func(t *testing.T) {
			stride := 7
			if c.ids != nil {
				stride = 31 // those are slow to open
			}
			for i := rng.IntN(stride); i < len(c.sealed)*8; i += stride {
				b := bytes.Clone(c.sealed)
				b[i/8] ^= 1 << (i % 8)
				mustBeDamaged(t, b, "a flipped bit", i/8, c.ids...)
			}
			for i := rng.IntN(stride); i < len(c.sealed); i += stride {
				mustBeDamaged(t, c.sealed[:i], "a cut", i, c.ids...)
				mustBeDamaged(t, append(bytes.Clone(c.sealed[:i]), c.sealed[i+1:]...), "a missing byte", i, c.ids...)
			}
			mustBeDamaged(t, append(bytes.Clone(c.sealed), 0), "a byte behind", len(c.sealed), c.ids...)
			mustBeDamaged(t, append(bytes.Clone(c.sealed), c.sealed...), "a doubled segment", len(c.sealed), c.ids...)
		})
	}
}

// forge writes a segment's content with records in any order, with a right hash: damage that only the rules of order can find.
func forge(t *testing.T, h Header, records []Record, events int64) []byte {
	t.Helper()
	var out bytes.Buffer
	out.WriteString(magic)
	body, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	out.Write(AppendRecord(nil, KindHeader, body))
	// An encoder whose rules agree with everything writes each record as a real one would.
	for i := range records {
		e := &Encoder{w: &out, sum: sha256.New()}
		switch r := &records[i]; r.Kind {
		case KindEvent:
			out.Write(AppendEvent(nil, &r.Event))
		case KindTime:
			e.order.main = int64(r.Time.Revision)
			err = e.Time(r.Time)
		case KindLeases:
			err = e.Leases(r.Leases)
		case KindProof:
			e.order.main = int64(r.Proof.Revision)
			err = e.Proof(r.Proof)
		case KindAuth:
			err = e.Auth(r.Auth)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	sum := sha256.Sum256(out.Bytes())
	end := binary.BigEndian.AppendUint64(nil, uint64(events))
	out.Write(AppendRecord(nil, kindEnd, append(end, sum[:]...)))
	return out.Bytes()
}

// lastOfRevision says whether the first of the records, an event, has none of its revision behind it.
func lastOfRevision(records []Record) bool {
	main, _ := records[0].Event.Revision()
	for _, r := range records[1:] {
		if r.Kind == KindEvent {
			next, _ := r.Event.Revision()
			return next != main
		}
	}
	return true
}

// TestForged: records that are lost, doubled or swapped, and headers that claim something else, are found although the hash is right.
func TestForged(t *testing.T) {
	rng := newRand(t)
	for range 6 {
		s := randomSample(rng, 2+rng.IntN(15))
		if _, err := decodeAll(bytes.NewReader(forge(t, s.header, s.records, s.header.Events))); err != nil {
			t.Fatalf("an honest forgery is refused: %v", err)
		}
		refuse := func(what string, h Header, records []Record, events int64) {
			t.Helper()
			if _, err := decodeAll(bytes.NewReader(forge(t, h, records, events))); !errors.Is(err, ErrDamaged) {
				t.Fatalf("%s: got %v, want ErrDamaged", what, err)
			}
		}
		var at []int // of events
		for i, r := range s.records {
			if r.Kind == KindEvent {
				at = append(at, i)
			}
		}
		for _, i := range at {
			lost := append(append([]Record(nil), s.records[:i]...), s.records[i+1:]...)
			refuse("a lost event", s.header, lost, s.header.Events-1)
			h := s.header
			h.Events--
			// Without its last event a revision of several is merely a shorter one: that only the hash finds, or a proof.
			if _, sub := s.records[i].Event.Revision(); sub == 0 || !lastOfRevision(s.records[i:]) {
				refuse("a lost event that the header does not know", h, lost, h.Events)
			}
			doubled := append(append([]Record(nil), s.records[:i+1]...), s.records[i:]...)
			h.Events += 2
			refuse("a doubled event", h, doubled, h.Events)
		}
		for k := 1; k < len(at); k++ {
			swapped := append([]Record(nil), s.records...)
			swapped[at[k]], swapped[at[k-1]] = swapped[at[k-1]], swapped[at[k]]
			refuse("swapped events", s.header, swapped, s.header.Events)
		}
		h := s.header
		h.Last++
		h.Events++
		refuse("a header that claims more", h, s.records, s.header.Events)
		h = s.header
		h.First--
		h.Events++
		refuse("a header that begins earlier", h, s.records, s.header.Events)
		refuse("a wrong count at the end", s.header, s.records, s.header.Events+1)
	}
}

// TestSourceFails: a source's own error comes out as it is, never as damage.
func TestSourceFails(t *testing.T) {
	rng := newRand(t)
	b := randomSample(rng, 200).sealed(t)
	broken := errors.New("connection reset")
	for range 50 {
		n := rng.IntN(len(b))
		u, err := NewUnsealReader(io.MultiReader(bytes.NewReader(b[:n]), iotest.ErrReader(broken)), false, nil)
		if err == nil {
			_, err = decodeAll(u)
			u.Close()
		}
		if !errors.Is(err, broken) || errors.Is(err, ErrDamaged) {
			t.Fatalf("after %d bytes: got %v, want the source's own error", n, err)
		}
	}
	// Any way of cutting reads gives the same.
	u, err := NewUnsealReader(iotest.OneByteReader(bytes.NewReader(b)), false, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	if _, err := decodeAll(iotest.HalfReader(u)); err != nil {
		t.Fatal(err)
	}
}

// TestMatches: a segment under another's name is refused.
func TestMatches(t *testing.T) {
	s := randomSample(newRand(t), 5)
	b := s.sealed(t)
	right := repo.Segment{Timeline: s.header.Timeline, First: s.header.First, Last: s.header.Last}
	wrong := []repo.Segment{right, right, right, right}
	wrong[0].First++
	wrong[1].Last--
	wrong[2].Timeline.Cut++
	wrong[3].Timeline.Cluster++
	open := func(s repo.Segment) error {
		seg, err := NewSegment(io.NopCloser(bytes.NewReader(b)), s, nil)
		if err != nil {
			return err
		}
		return seg.Close()
	}
	if err := open(right); err != nil {
		t.Fatal(err)
	}
	for _, w := range wrong {
		if err := open(w); !errors.Is(err, ErrDamaged) {
			t.Errorf("%+v: got %v, want ErrDamaged", w, err)
		}
	}
}

// TestHostile: what a segment claims costs nothing before its bytes have come.
func TestHostile(t *testing.T) {
	s := randomSample(newRand(t), 1)
	honest := forge(t, s.header, s.records, s.header.Events)
	head := honest[:bytes.Index(honest, []byte{'}'})+1]
	huge := binary.AppendUvarint([]byte{'E'}, MaxEvent)
	for name, b := range map[string][]byte{
		"an event of 64 MiB that is not there": append(bytes.Clone(head), huge...),
		"an event that is too long":            append(bytes.Clone(head), binary.AppendUvarint([]byte{'E'}, MaxEvent+1)...),
		"a length without an end":              append(bytes.Clone(head), bytes.Repeat([]byte{'E', 0xff}, 9)...),
		"a header of 4 GiB":                    append([]byte(magic+"H"), 0xff, 0xff, 0xff, 0xff, 0x0f),
		"leases without number":                append(bytes.Clone(head), AppendRecord(nil, KindLeases, []byte{1, 1, 1, 0xff, 0xff, 0x7f})...),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := decodeAll(bytes.NewReader(b))
		runtime.ReadMemStats(&after)
		if !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: got %v, want ErrDamaged", name, err)
		}
		if n := after.TotalAlloc - before.TotalAlloc; n > 2<<20 {
			t.Errorf("%s: %d bytes were allocated", name, n)
		}
	}
	newer := strings.Replace(string(honest), "changes/1", "changes/2", 1)
	if _, err := decodeAll(strings.NewReader(newer)); !errors.Is(err, ErrNewerFormat) {
		t.Errorf("a newer format: got %v, want ErrNewerFormat", err)
	}
}

// TestBomb: a frame that wants more memory than a segment's may, and one that unpacks without end, are refused in bounded memory.
func TestBomb(t *testing.T) {
	s := randomSample(newRand(t), 1)
	honest := forge(t, s.header, s.records, s.header.Events)
	zeros := append(honest[:bytes.Index(honest, []byte{'}'})+1:bytes.Index(honest, []byte{'}'})+1], binary.AppendUvarint([]byte{'E'}, MaxEvent)...)
	zeros = append(zeros, make([]byte, 100<<20)...)
	for name, window := range map[string]int{"wide window": 64 << 20, "one event of zeros": 1 << 20} {
		enc, err := zstd.NewWriter(nil, zstd.WithWindowSize(window))
		if err != nil {
			t.Fatal(err)
		}
		b := enc.EncodeAll(zeros, nil)
		sum := sha256.Sum256(b)
		b = binary.LittleEndian.AppendUint32(b, trailerMagic)
		b = binary.LittleEndian.AppendUint32(b, sha256.Size)
		b = append(b, sum[:]...)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err = unseal(b)
		runtime.ReadMemStats(&after)
		if !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: got %v, want ErrDamaged", name, err)
		}
		// Doubling a buffer up to 64 MiB allocates twice that in all.
		if n := after.TotalAlloc - before.TotalAlloc; n > 4*MaxEvent {
			t.Errorf("%s: %d MiB were allocated", name, n>>20)
		}
	}
}
