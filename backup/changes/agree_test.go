package changes

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"etcd-steward/backup/repo"
)

// cut is the part of a sample from one revision to another, as another recorder would have written it.
func (s sample) cut(first, last repo.Revision) sample {
	out := sample{header: s.header}
	out.header.First, out.header.Last, out.header.Events, out.header.Host = first, last, 0, "other"
	for _, r := range s.records {
		if r.Kind != KindEvent {
			continue
		}
		if main, _ := r.Event.Revision(); main >= int64(first) && main <= int64(last) {
			out.records = append(out.records, r)
			out.header.Events++
			if main%3 == 0 {
				out.records = append(out.records, Record{Kind: KindTime, Time: TimeMark{Revision: repo.Revision(main), Time: time.Unix(1, 0)}})
			}
		}
	}
	return out
}

func (s sample) decoder(t *testing.T) *Decoder {
	t.Helper()
	var b bytes.Buffer
	if err := s.encode(&b); err != nil {
		t.Fatal(err)
	}
	d, err := NewDecoder(&b)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestAgree: overlapping segments of one history agree, whatever else they say; another history is found at its first revision.
func TestAgree(t *testing.T) {
	rng := newRand(t)
	for range 30 {
		s := randomSample(rng, 30)
		f := s.header.First
		a, b := s.cut(f, f+repo.Revision(10+rng.IntN(20))), s.cut(f+repo.Revision(rng.IntN(20)), f+29)
		if err := Agree(a.decoder(t), b.decoder(t)); err != nil {
			t.Fatal(err)
		}
		if a.header.Last < b.header.First {
			continue
		}
		// One event of the overlap is another one.
		var common []int
		for i, r := range b.records {
			if r.Kind == KindEvent {
				if main, _ := r.Event.Revision(); main <= int64(a.header.Last) {
					common = append(common, i)
				}
			}
		}
		i := common[rng.IntN(len(common))]
		main, sub := b.records[i].Event.Revision()
		b.records[i].Event.SetRevision(main, sub, true)
		b.records[i].Event.Value = AppendTombstone(nil, []byte("another"))
		if err := Agree(a.decoder(t), b.decoder(t)); !errors.Is(err, ErrDisagree) {
			t.Fatalf("got %v, want ErrDisagree", err)
		}
	}
}
