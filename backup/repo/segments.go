package repo

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"etcd-steward/backup/revision"
	"etcd-steward/backup/store"
)

// Segment is one piece of the change log as a listing shows it: the whole revisions First to Last of one timeline, without a
// hole. It has no manifest: its name says what it holds, its content says it again and carries its own checksums.
type Segment struct {
	Timeline  Timeline
	First     Revision
	Last      Revision
	ID        SnapshotID // its time is when the segment was closed, by the recorder's clock
	Key       string     // relative to the repository
	Size      int64
	Encrypted bool
	Modified  time.Time // by the store's clock
}

const (
	changesFolder  = "changes"
	segmentEnding  = ".chg.zst"
	encryptedAfter = ".age"
)

// SegmentKey is the name of a segment's object.
func SegmentKey(t Timeline, first, last Revision, id SnapshotID, encrypted bool) string {
	key := fmt.Sprintf("%s/%s/%s/%s-%s-%s%s", t, changesFolder, id.Time().Format(dayLayout), first.Hex(), last.Hex(), id, segmentEnding)
	if encrypted {
		key += encryptedAfter
	}
	return key
}

// ParseSegmentKey reads a key below a timeline's changes folder; anything that SegmentKey would not have made is an error.
func ParseSegmentKey(key string) (Segment, error) {
	parts := strings.Split(key, "/")
	if len(parts) != 4 || parts[1] != changesFolder {
		return Segment{}, fmt.Errorf("object %q: not a segment", key)
	}
	s := Segment{Key: key}
	stem, encrypted := strings.CutSuffix(parts[3], encryptedAfter)
	s.Encrypted = encrypted
	stem, ok := strings.CutSuffix(stem, segmentEnding)
	fields := strings.Split(stem, "-")
	if !ok || len(fields) != 3 {
		return Segment{}, fmt.Errorf("object %q: not a segment's name", key)
	}
	var err error
	if s.Timeline, err = ParseTimeline(parts[0]); err != nil {
		return Segment{}, fmt.Errorf("object %q: %w", key, err)
	}
	if s.First, err = revision.ParseHex(fields[0]); err != nil {
		return Segment{}, fmt.Errorf("object %q: %w", key, err)
	}
	if s.Last, err = revision.ParseHex(fields[1]); err != nil {
		return Segment{}, fmt.Errorf("object %q: %w", key, err)
	}
	if s.ID, err = ParseSnapshotID(fields[2]); err != nil {
		return Segment{}, fmt.Errorf("object %q: %w", key, err)
	}
	if day := s.ID.Time().Format(dayLayout); parts[2] != day {
		return Segment{}, fmt.Errorf("object %q: its ID belongs into %s", key, day)
	}
	if s.First < 1 || s.Last < s.First {
		return Segment{}, fmt.Errorf("object %q: it says revisions %d to %d", key, s.First, s.Last)
	}
	return s, nil
}

// IsSegmentKey says whether a key lies where segments do, well-formed or not.
func IsSegmentKey(key string) bool {
	_, rest, ok := strings.Cut(key, "/")
	return ok && strings.HasPrefix(rest, changesFolder+"/")
}

// addSegment adds one listed segment; a name that no recorder makes is strange.
func (c *Catalog) addSegment(info store.Info) {
	s, err := ParseSegmentKey(info.Key)
	if err != nil {
		c.strange(info.Key)
		return
	}
	s.Size, s.Modified = info.Size, info.Modified
	c.Segments = append(c.Segments, s)
}

// SegmentsOf are the segments of one timeline, in the order of SortSegments.
func (c *Catalog) SegmentsOf(t Timeline) []Segment {
	var out []Segment
	for _, s := range c.Segments {
		if s.Timeline == t {
			out = append(out, s)
		}
	}
	return out
}

// SortSegments puts segments in the order in which they are read: by timeline, first revision, the longer before the shorter, ID.
func SortSegments(segs []Segment) {
	slices.SortFunc(segs, func(a, b Segment) int {
		return cmp.Or(compareTimelines(a.Timeline, b.Timeline), cmp.Compare(a.First, b.First), cmp.Compare(b.Last, a.Last), cmp.Compare(a.ID, b.ID))
	})
}

func compareTimelines(a, b Timeline) int {
	return cmp.Or(cmp.Compare(a.Cluster, b.Cluster), cmp.Compare(a.Cut, b.Cut))
}

// SegmentData reads a segment's object from its first byte; whoever calls it closes the reader.
func (r *Repo) SegmentData(ctx context.Context, s Segment) (io.ReadCloser, error) {
	body, err := r.store.Get(ctx, s.Key, 0, -1)
	if err != nil {
		return nil, fmt.Errorf("read segment %s: %w", s.Key, err)
	}
	return body, nil
}

// PutSegment stores a segment exclusively and under the store's Object Lock. An identical object that is there already is no error.
func (r *Repo) PutSegment(ctx context.Context, s Segment, src store.Source) error {
	_, err := r.store.Put(ctx, s.Key, src, store.PutOptions{IfAbsent: true, Retain: true})
	if err != nil {
		return fmt.Errorf("put segment %s: %w", s.Key, err)
	}
	return nil
}
