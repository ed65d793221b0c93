package repo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"etcd-steward/backup/store"
)

// Recorded is coordination/recorded/<timeline>.json: how far the change log of a timeline has come, by whichever daemon wrote last. It is overwritten, and
// may lag behind the segments; nothing that is restored depends on it.
type Recorded struct {
	Timeline Timeline `json:"timeline"`
	// Highest is the ledger: the highest revision ever seen on the timeline, whether it was stored or not. It never goes down.
	Highest Revision `json:"highest"`
	// Through was the newest revision at Time, and everything up to it is in the store. While nothing changes, Time alone moves on:
	// that tells an idle cluster from a dead recorder.
	Through Revision  `json:"through"`
	Time    time.Time `json:"time,omitzero"`
	// From is the revision behind which the log was begun, as long as no segment says so: a recorder that ends before it has stored one leaves no other trace,
	// and whoever follows must not begin at a later snapshot.
	From Revision `json:"from,omitempty"`
	// RaftTerm and AuthRevision are the highest seen.
	RaftTerm     uint64 `json:"raft_term"`
	AuthRevision uint64 `json:"auth_revision"`
	// Check is a revision that was recorded, and the SHA-256 of its event records: whoever goes on compares them with what etcd says now, since a
	// history that was cut may have grown past it with other events.
	Check       Revision `json:"check,omitempty"`
	CheckSHA256 SHA256   `json:"check_sha256,omitzero"`
	// Gaps are the last ones: revisions that were not recorded.
	Gaps []RecordedGap `json:"gaps,omitempty"`
	// Ended says why the timeline was found to have ended: what the cluster writes now belongs to another one.
	Ended   string `json:"ended,omitempty"`
	Host    string `json:"host"`
	Steward string `json:"steward"`
}

// RecordedGap is a hole in a change log and its reason.
type RecordedGap struct {
	From   Revision  `json:"from"`
	To     Revision  `json:"to"`
	Reason string    `json:"reason"`
	Time   time.Time `json:"time"`
}

const (
	recordedPrefix = coordinationPrefix + "recorded/"
	recordedFormat = 1
	recordedGaps   = 32 // as many as a person looks at
)

func recordedKey(t Timeline) string { return recordedPrefix + t.String() + ".json" }

// Recorded reads a timeline's mark; false when there is none. A damaged one is as good as none.
func (r *Repo) Recorded(ctx context.Context, t Timeline) (Recorded, bool, error) {
	rec, _, ok, err := r.recorded(ctx, t)
	return rec, ok, err
}

// LatestRecorded is the mark that was written last, by the store's clock: that of the timeline which is recorded now. False when there is none.
func (r *Repo) LatestRecorded(ctx context.Context) (Recorded, bool, error) {
	var newest time.Time
	var latest Timeline
	for info, err := range r.store.List(ctx, recordedPrefix, "") {
		if err != nil {
			return Recorded{}, false, fmt.Errorf("list recorders' marks: %w", err)
		}
		t, err := parseRecordedKey(info.Key)
		if err == nil && (info.Modified.After(newest) || info.Modified.Equal(newest) && t.Cut > latest.Cut) {
			newest, latest = info.Modified, t
		}
	}
	if newest.IsZero() {
		return Recorded{}, false, nil
	}
	return r.Recorded(ctx, latest)
}

func parseRecordedKey(key string) (Timeline, error) {
	t, err := ParseTimeline(strings.TrimSuffix(strings.TrimPrefix(key, recordedPrefix), ".json"))
	if err == nil && recordedKey(t) != key {
		err = fmt.Errorf("object %q: not a recorder's mark", key)
	}
	return t, err
}

func (r *Repo) recorded(ctx context.Context, t Timeline) (rec Recorded, etag string, ok bool, err error) {
	key := recordedKey(t)
	// The version first: if someone writes in between, it is older than what is read, and a replacement on it fails as it should.
	info, err := r.store.Head(ctx, key)
	if err == nil {
		var doc []byte
		if doc, err = r.read(ctx, key); err == nil {
			err = Unseal("recorded", recordedFormat, doc, &rec)
			if errors.Is(err, ErrDamaged) || err == nil && rec.Timeline != t {
				return Recorded{}, info.ETag, false, nil
			}
		}
	}
	switch {
	case errors.Is(err, store.NotFound):
		return Recorded{}, "", false, nil
	case err != nil:
		return Recorded{}, "", false, fmt.Errorf("read %s: %w", key, err)
	}
	return rec, info.ETag, true, nil
}

// PutRecorded moves a timeline's mark on. What only grows is merged with what another daemon wrote; the rest is this daemon's, unless the other's
// is of a later time.
func (r *Repo) PutRecorded(ctx context.Context, rec Recorded) error {
	return r.update(ctx, recordedKey(rec.Timeline), func() ([]byte, string, error) {
		old, etag, _, err := r.recorded(ctx, rec.Timeline)
		if err != nil {
			return nil, "", err
		}
		doc, err := Seal("recorded", recordedFormat, old.merge(rec))
		return doc, etag, err
	})
}

// merge is next with what only grows taken from both.
func (r Recorded) merge(next Recorded) Recorded {
	out := next
	out.Highest = max(r.Highest, next.Highest)
	out.RaftTerm = max(r.RaftTerm, next.RaftTerm)
	out.AuthRevision = max(r.AuthRevision, next.AuthRevision)
	if r.Through > next.Through || r.Through == next.Through && r.Time.After(next.Time) {
		out.Through, out.Time = r.Through, r.Time
	}
	if r.Check > next.Check {
		out.Check, out.CheckSHA256 = r.Check, r.CheckSHA256
	}
	if out.Ended == "" {
		out.Ended = r.Ended
	}
	if out.From == 0 {
		out.From = r.From
	}
	out.Gaps = slices.Clone(r.Gaps)
	for _, g := range next.Gaps {
		if !slices.ContainsFunc(out.Gaps, func(o RecordedGap) bool { return o.From == g.From && o.To == g.To }) {
			out.Gaps = append(out.Gaps, g)
		}
	}
	out.Gaps = out.Gaps[max(0, len(out.Gaps)-recordedGaps):]
	return out
}

// addRecorded notes that a timeline has a recorder's mark.
func (c *Catalog) addRecorded(key string) {
	t, err := parseRecordedKey(key)
	if err != nil {
		c.strange(key)
		return
	}
	c.Recorded = append(c.Recorded, t)
}

// CutOf is the highest cut of a cluster's timelines that a recorder has begun; 0 if none has. A recorder that finds the history cut begins the next
// timeline before there is a snapshot on it.
func (c *Catalog) CutOf(id ClusterID) (cut uint32) {
	for _, t := range c.Recorded {
		if t.Cluster == id {
			cut = max(cut, t.Cut)
		}
	}
	for _, s := range c.Segments {
		if s.Timeline.Cluster == id {
			cut = max(cut, s.Timeline.Cut)
		}
	}
	return cut
}
