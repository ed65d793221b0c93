package changes

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"

	"etcd-steward/backup/repo"
)

// sample is a random segment: its header and its records in order.
type sample struct {
	header  Header
	records []Record
}

func newRand(t testing.TB) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}

func randomBytes(rng *rand.Rand, n int) []byte {
	b := make([]byte, n+8)
	for i := 0; i < n; i += 8 {
		binary.LittleEndian.PutUint64(b[i:], rng.Uint64())
	}
	return b[:n:n]
}

func randomSample(rng *rand.Rand, revisions int) sample {
	id := repo.ClusterID(rng.Uint64())
	first := repo.Revision(1 + rng.Int64N(1<<40))
	s := sample{header: Header{
		ClusterID: id, Timeline: repo.Timeline{Cluster: id, Cut: 1 + rng.Uint32N(9)}, First: first, Last: first + repo.Revision(revisions) - 1,
		EtcdVersion: "3.6.16", Host: "master-1", Steward: "devel", Created: time.Unix(rng.Int64N(1<<31), 0).UTC(),
	}}
	if rng.IntN(2) == 0 {
		s.records = append(s.records, Record{Kind: KindTime, Time: TimeMark{Revision: first - 1, Time: time.Unix(1, 2).UTC()}})
	}
	for r := first; r <= s.header.Last; r++ {
		for sub := range int64(1 + rng.IntN(4)) {
			s.records = append(s.records, Record{Kind: KindEvent, Event: randomEvent(rng, int64(r), sub)})
			s.header.Events++
		}
		s.records = append(s.records, randomOther(rng, r)...)
	}
	return s
}

func randomEvent(rng *rand.Rand, main, sub int64) (ev Event) {
	key := append([]byte{'k'}, randomBytes(rng, rng.IntN(200))...)
	if ev.SetRevision(main, sub, rng.IntN(3) == 0); ev.Tombstone() {
		ev.Value = AppendTombstone(nil, key)
		return ev
	}
	ev.Value = AppendKeyValue(nil, KeyValue{
		Key: key, CreateRevision: 1 + rng.Int64N(main), ModRevision: main, Version: 1 + rng.Int64N(1000),
		Value: randomBytes(rng, rng.IntN(2000)), Lease: rng.Int64() * rng.Int64N(2),
	})
	return ev
}

func randomOther(rng *rand.Rand, r repo.Revision) []Record {
	now := time.Unix(0, rng.Int64()).UTC()
	switch rng.IntN(12) {
	case 0:
		return []Record{{Kind: KindTime, Time: TimeMark{Revision: r, Time: now}}}
	case 1:
		l := Leases{Revision: r, Time: now, Complete: rng.IntN(2) == 0}
		for range rng.IntN(50) {
			l.Leases = append(l.Leases, Lease{ID: rng.Int64(), Granted: rng.Int64N(1 << 32), Remaining: rng.Int64N(1 << 32)})
		}
		return []Record{{Kind: KindLeases, Leases: l}}
	case 2:
		return []Record{{Kind: KindProof, Proof: Proof{Revision: r, CompactRevision: repo.Revision(rng.Int64N(int64(r) + 1)), Hash: rng.Uint32(), MemberID: rng.Uint64(), Time: now}}}
	case 3:
		return []Record{{Kind: KindAuth, Auth: Auth{Revision: r, Auth: rng.Uint64()}}}
	}
	return nil
}

func (s sample) encode(w io.Writer) error {
	e, err := NewEncoder(w, s.header)
	if err != nil {
		return err
	}
	for i := range s.records {
		switch r := &s.records[i]; r.Kind {
		case KindEvent:
			err = e.Event(&r.Event)
		case KindTime:
			err = e.Time(r.Time)
		case KindLeases:
			err = e.Leases(r.Leases)
		case KindProof:
			err = e.Proof(r.Proof)
		case KindAuth:
			err = e.Auth(r.Auth)
		}
		if err != nil {
			return err
		}
	}
	return e.Close()
}

func (s sample) sealed(t testing.TB, recipients ...age.Recipient) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := NewSealWriter(&out, recipients)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.encode(w); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// decodeAll reads everything; it gives what came before an error as well.
func decodeAll(r io.Reader) (sample, error) {
	d, err := NewDecoder(r)
	if err != nil {
		return sample{}, err
	}
	s := sample{header: d.Header()}
	for {
		rec, err := d.Next()
		if errors.Is(err, io.EOF) {
			return s, nil
		}
		if err != nil {
			return s, err
		}
		c := Record{Kind: rec.Kind}
		switch rec.Kind {
		case KindEvent:
			c.Event = rec.Event
			c.Event.Value = bytes.Clone(rec.Event.Value)
		case KindTime:
			c.Time = rec.Time
		case KindLeases:
			c.Leases = rec.Leases
			c.Leases.Leases = append([]Lease(nil), rec.Leases.Leases...)
		case KindProof:
			c.Proof = rec.Proof
		case KindAuth:
			c.Auth = rec.Auth
		}
		s.records = append(s.records, c)
	}
}

func unseal(b []byte, ids ...age.Identity) (sample, error) {
	u, err := NewUnsealReader(bytes.NewReader(b), len(ids) > 0, ids)
	if err != nil {
		return sample{}, err
	}
	defer u.Close()
	return decodeAll(u)
}

func same(t *testing.T, got, want sample) {
	t.Helper()
	if d := cmp.Diff(want.header, got.header); d != "" {
		t.Fatalf("decoded header differs (-want +got):\n%s", d)
	}
	if len(got.records) != len(want.records) {
		t.Fatalf("got %d records, want %d", len(got.records), len(want.records))
	}
	for i := range want.records {
		g, w := &got.records[i], &want.records[i]
		if g.Kind == KindEvent && w.Kind == KindEvent {
			if !bytes.Equal(g.Event.Bytes(), w.Event.Bytes()) || !bytes.Equal(g.Event.Value, w.Event.Value) {
				t.Fatalf("record %d: got %v, want %v", i, g.Event, w.Event)
			}
		} else if d := cmp.Diff(w, g); d != "" {
			t.Fatalf("record %d differs (-want +got):\n%s", i, d)
		}
	}
}

// TestIdentity: what was encoded is decoded, plain and encrypted, of one frame and of several.
func TestIdentity(t *testing.T) {
	rng := newRand(t)
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{1, 2, 10, 6000} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			s := randomSample(rng, n)
			got, err := unseal(s.sealed(t))
			if err != nil {
				t.Fatal(err)
			}
			same(t, got, s)
			if got, err = unseal(s.sealed(t, id.Recipient()), id); err != nil {
				t.Fatal(err)
			}
			same(t, got, s)
		})
	}
}
