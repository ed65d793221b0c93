package watch

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
	clientv3 "go.etcd.io/etcd/client/v3"

	"etcd-steward/backup/changes"
	"etcd-steward/backup/changes/changestest"
	"etcd-steward/backup/repo"
	"etcd-steward/integration/lab"
)

// records are the key bucket's records, as the watch gave them or as the file has them.
type records struct{ keys, values [][]byte }

// read watches from a revision until the end of revision `to`, and makes records of the events.
func read(t *testing.T, cli *clientv3.Client, from, to int64) (got records, fragments int) {
	t.Helper()
	return readUntil(t, cli, from, func() int64 { return to })
}

// readUntil asks for the end anew after each message.
func readUntil(t *testing.T, cli *clientv3.Client, from int64, until func() int64) (got records, fragments int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s, err := Open(ctx, cli.ActiveConnection(), Options{From: repo.Revision(from)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	main, sub := from-1, int64(0)
	for {
		r, err := s.Next()
		if err != nil {
			t.Fatalf("at revision %d: %v", main, err)
		}
		if r.Fragment {
			fragments++
		}
		err = r.Each(func(c *Change) error {
			rev := int64(c.Revision)
			switch {
			case rev > until():
				return nil
			case rev == main:
				sub++
			case rev == main+1:
				main, sub = rev, 0
			default:
				return fmt.Errorf("revision %d after %d", rev, main)
			}
			var ev changes.Event
			ev.SetRevision(main, sub, c.Tombstone)
			value := bytes.Clone(c.Record)
			if c.Tombstone {
				value = changes.AppendTombstone(nil, c.Key)
			}
			got.keys = append(got.keys, bytes.Clone(ev.Bytes()))
			got.values = append(got.values, value)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if main >= until() && !r.Fragment {
			return got, fragments
		}
	}
}

// fromFile reads the key bucket of a member that was stopped.
func fromFile(t *testing.T, dataDir string) (all records) {
	t.Helper()
	db, err := bolt.Open(filepath.Join(dataDir, "member", "snap", "db"), 0o400, &bolt.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	err = db.View(func(tx *bolt.Tx) error {
		return tx.Bucket([]byte("key")).ForEach(func(k, v []byte) error {
			all.keys, all.values = append(all.keys, bytes.Clone(k)), append(all.values, bytes.Clone(v))
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// cut leaves the records up to a revision.
func (r *records) cut(last int64) {
	for len(r.keys) > 0 && int64(binary.BigEndian.Uint64(r.keys[len(r.keys)-1])) > last {
		r.keys, r.values = r.keys[:len(r.keys)-1], r.values[:len(r.values)-1]
	}
}

func (r records) mustBe(t *testing.T, want records, what string) {
	t.Helper()
	if len(r.keys) != len(want.keys) {
		t.Fatalf("%s: got %d records, want %d", what, len(r.keys), len(want.keys))
	}
	for i := range want.keys {
		if !bytes.Equal(r.keys[i], want.keys[i]) || !bytes.Equal(r.values[i], want.values[i]) {
			t.Fatalf("%s: record %d:\n got %x = %x\nwant %x = %x", what, i, r.keys[i], r.values[i], want.keys[i], want.values[i])
		}
	}
}

// TestRecords: what is made of the events of a live and of a late watch are the very records, byte for byte, that each version of
// etcd stores.
func TestRecords(t *testing.T) {
	for _, version := range []string{"3.5", "3.6", "3.7"} {
		t.Run(version, func(t *testing.T) {
			c := lab.StartEtcd(t, lab.EtcdOptions{Version: version, UnsafeNoFsync: true})
			cli := c.Client(t)
			seed := lab.Seed(t)
			w := &changestest.Workload{Client: cli, Seed: seed, Leases: true, TTL: 1, Wide: 200}

			type result struct {
				records
				fragments int
			}
			live := make(chan result)
			var end atomic.Int64
			end.Store(1 << 62)
			go func() {
				r, n := readUntil(t, c.ClientOf(t, 0), 2, end.Load)
				live <- result{r, n}
			}()
			if _, err := w.Run(t.Context(), 800); err != nil {
				t.Fatal(err)
			}
			// One more, so that the live watch sees that the end has come.
			resp, err := cli.Put(t.Context(), "end", "")
			if err != nil {
				t.Fatal(err)
			}
			last := resp.Header.Revision - 1
			end.Store(last)
			if _, err := cli.Put(t.Context(), "end", ""); err != nil {
				t.Fatal(err)
			}
			got := <-live
			got.cut(last)
			late, _ := read(t, cli, 2, last)
			got.mustBe(t, late, "live watch against late watch")
			half, _ := read(t, cli, last/2, last)
			tail := records{got.keys[len(got.keys)-len(half.keys):], got.values[len(got.keys)-len(half.keys):]}
			tail.mustBe(t, half, "live watch against one from the middle")
			c.Stop(0)
			stored := fromFile(t, c.DataDir(0))
			// Leases may have expired after the last change.
			n := min(len(stored.keys), len(got.keys))
			got.mustBe(t, records{stored.keys[:n], stored.values[:n]}, "watch against file")
			if n < 800 {
				t.Fatalf("only %d records", n)
			}
		})
	}
}

// TestFragments: a revision larger than one message comes in several, and is whole.
func TestFragments(t *testing.T) {
	c := lab.StartEtcd(t, lab.EtcdOptions{UnsafeNoFsync: true, ExtraArgs: []string{"--max-request-bytes", "100000"}})
	cli := c.Client(t)
	const n = 6000
	prefix := "/big/" + strings.Repeat("long", 80) + "/"
	if err := changestest.Fill(t.Context(), cli, prefix, n, 128); err != nil {
		t.Fatal(err)
	}
	resp, err := cli.Delete(t.Context(), prefix, clientv3.WithPrefix())
	if err != nil || resp.Deleted != n {
		t.Fatalf("deleted %d keys: %v", resp.Deleted, err)
	}
	whole, err := Open(t.Context(), cli.ActiveConnection(), Options{From: repo.Revision(resp.Header.Revision), Whole: 1 << 20})
	for err == nil {
		_, err = whole.Next()
	}
	whole.Close()
	if !errors.Is(err, ErrTooLarge) {
		t.Fatalf("got %v, want ErrTooLarge", err)
	}
	got, fragments := read(t, cli, resp.Header.Revision, resp.Header.Revision)
	if len(got.keys) != n || fragments == 0 {
		t.Fatalf("got %d tombstones in %d fragments, want %d in several", len(got.keys), fragments+1, n)
	}
	c.Stop(0)
	stored := fromFile(t, c.DataDir(0))
	got.mustBe(t, records{stored.keys[len(stored.keys)-n:], stored.values[len(stored.keys)-n:]}, "tombstones")
}

// TestLargeEvent: an event longer than 2 MiB, and than gRPC's usual limit, is read.
func TestLargeEvent(t *testing.T) {
	c := lab.StartEtcd(t, lab.EtcdOptions{UnsafeNoFsync: true, ExtraArgs: []string{"--max-request-bytes", "20000000"}})
	cli := c.Client(t)
	value := string(bytes.Repeat([]byte("0123456789abcdef"), 10<<16))
	// clientv3 does not send more than 2 MiB unless told to.
	big, err := clientv3.New(clientv3.Config{Endpoints: c.Endpoints(), MaxCallSendMsgSize: 20 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = big.Close() }()
	resp, err := big.Put(t.Context(), "large", value)
	if err != nil {
		t.Fatal(err)
	}
	got, _ := read(t, cli, resp.Header.Revision, resp.Header.Revision)
	kv, err := changes.ParseKeyValue(got.values[0])
	if err != nil || string(kv.Value) != value {
		t.Fatalf("got a value of %d bytes (%v), want %d", len(kv.Value), err, len(value))
	}
}

// TestEnds: a compacted start, a progress notification, and a closed stream.
func TestEnds(t *testing.T) {
	c := lab.StartEtcd(t, lab.EtcdOptions{UnsafeNoFsync: true})
	cli := c.Client(t)
	for range 20 {
		if _, err := cli.Put(t.Context(), "a", "b"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := cli.Compact(t.Context(), 10); err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), cli.ActiveConnection(), Options{From: 5, Whole: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = s.Next()
	}
	s.Close()
	var compacted *CompactedError
	if !errors.As(err, &compacted) || compacted.Compacted != 10 || compacted.From != 5 {
		t.Fatalf("got %v, want compacted at 10", err)
	}
	read(t, cli, 10, 21)

	if s, err = Open(t.Context(), cli.ActiveConnection(), Options{From: 22, Whole: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	if r, err := s.Next(); err != nil || !r.Created {
		t.Fatalf("got %+v (%v), want the created message", r, err)
	}
	if err := s.RequestProgress(); err != nil {
		t.Fatal(err)
	}
	// The watch begins beyond the newest revision: etcd answers once that has come.
	if _, err := cli.Put(t.Context(), "a", "b"); err != nil {
		t.Fatal(err)
	}
	if r, err := s.Next(); err != nil || r.Events != 1 || r.Progress() {
		t.Fatalf("got %+v (%v), want one event", r, err)
	}
	if err := s.RequestProgress(); err != nil {
		t.Fatal(err)
	}
	if r, err := s.Next(); err != nil || !r.Progress() || r.Revision != 22 {
		t.Fatalf("got %+v (%v), want progress at 22", r, err)
	}
	s.Close()
	if _, err := s.Next(); err == nil {
		t.Fatal("a closed stream goes on")
	}
}
