package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"time"

	"filippo.io/age"

	"etcd-steward/backup/changes"
	"etcd-steward/backup/repo"
	"etcd-steward/backup/store"
	"etcd-steward/integration/lab"
)

// eventLog is a change log of one put per revision, over so many keys in turn, as a recorder stores it: segments of about 8 MiB, encrypted.
type eventLog struct {
	keys, valueSize int
	recipient       string
}

// distinctValues is how many different values there are: more than fit into what a compressor looks back at.
const distinctValues = 8192

// put stores the revisions first to last of a timeline.
func (l eventLog) put(ctx context.Context, r *repo.Repo, line repo.Timeline, first, last int64) error {
	to, err := age.ParseX25519Recipient(l.recipient)
	if err != nil {
		return err
	}
	fill := lab.FillOptions{ValueSize: l.valueSize}
	values := make([][]byte, distinctValues)
	for i := range values {
		values[i] = fill.Value(i)
	}
	per := int64(8<<20/(l.valueSize+80)) + 1
	for ; first <= last; first += per {
		if err := l.segment(ctx, r, line, first, min(first+per-1, last), to, fill, values); err != nil {
			return fmt.Errorf("segment from revision %d: %w", first, err)
		}
	}
	return nil
}

func (l eventLog) segment(ctx context.Context, r *repo.Repo, line repo.Timeline, first, last int64, to age.Recipient, fill lab.FillOptions, values [][]byte) error {
	var buf bytes.Buffer
	w, err := changes.NewSealWriter(&buf, []age.Recipient{to})
	if err != nil {
		return err
	}
	seg := repo.Segment{Timeline: line, First: repo.Revision(first), Last: repo.Revision(last), ID: repo.NewSnapshotID(time.Now()), Encrypted: true}
	seg.Key = repo.SegmentKey(line, seg.First, seg.Last, seg.ID, true)
	enc, err := changes.NewEncoder(w, changes.Header{
		ClusterID: line.Cluster, Timeline: line, First: seg.First, Last: seg.Last, Events: last - first + 1,
		EtcdVersion: "3.6.0", Host: "bench", Steward: "bench", Created: time.Now().UTC(),
	})
	var ev changes.Event
	for rev := first; rev <= last && err == nil; rev++ {
		i := int(rev) % l.keys
		ev.SetRevision(rev, 0, false)
		ev.Value = changes.AppendKeyValue(ev.Value[:0], changes.KeyValue{
			Key: []byte(fill.Key(i)), CreateRevision: 2, ModRevision: rev, Version: 2 + rev/int64(l.keys), Value: values[int(rev)%len(values)],
		})
		err = enc.Event(&ev)
	}
	if err == nil {
		err = enc.Close()
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return err
	}
	return r.PutSegment(ctx, seg, store.Source{Reader: bytes.NewReader(buf.Bytes()), Size: int64(buf.Len()), SHA256: sha256.Sum256(buf.Bytes())})
}
