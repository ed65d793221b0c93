package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"etcd-steward/backup/repo"
	"etcd-steward/backup/store"
	"etcd-steward/internal/fail"
)

// CopyOptions say what is copied where.
type CopyOptions struct {
	From *repo.Repo
	// To is the repository of the same cluster in another store; it may be empty.
	To *repo.Repo
	// IDs are the backups to copy; Newest is allowed. Without any, all, and the change log.
	IDs      []repo.SnapshotID
	Progress Progress
}

// Copied is the outcome of a copy.
type Copied struct {
	From    string       `json:"from"`
	To      string       `json:"to"`
	OK      bool         `json:"ok"`
	Backups []CopyResult `json:"backups"`
	// Copied, Skipped and Failed count Backups; Bytes are those that went over the wire into the second store.
	Copied  int   `json:"copied"`
	Skipped int   `json:"skipped"`
	Failed  int   `json:"failed"`
	Bytes   int64 `json:"bytes"`
	// Changes is the outcome for the change log; a copy of named backups leaves it out.
	Changes CopiedChanges `json:"changes"`
	// Documents is how many of the repository's other documents were written.
	Documents int `json:"documents"`
}

// CopyResult is the outcome for one backup.
type CopyResult struct {
	ID     repo.SnapshotID `json:"id"`
	Bytes  int64           `json:"bytes"`
	Action string          `json:"action"` // copied, skipped (it was there and equal), failed
	// Problem is why it could not be copied: the backup itself is bad, or the other store holds something else in its place.
	Problem string `json:"problem,omitempty"`
}

// The actions of a CopyResult.
const (
	copyCopied  = "copied"
	copySkipped = "skipped"
	copyFailed  = "failed"
)

// copyWorkers is how many backups are copied at once: one reads while another writes.
const copyWorkers = 3

// Copy fills a second store with the same objects, byte for byte; nothing is decrypted. It can be interrupted and repeated: what is
// there and equal is skipped. A data object's SHA-256 is checked before it becomes an object there, and again after it
// arrived; its manifest is written after that. A backup that is bad here is reported and not copied.
func Copy(ctx context.Context, o CopyOptions) (*Copied, error) {
	from, ok := o.From.Identity()
	if !ok {
		return nil, fail.New(fail.Wanting, fmt.Errorf("%w in %s", errNothing, o.From.Store()), "steward backup list")
	}
	if to, ok := o.To.Identity(); ok && (to.ClusterID != from.ClusterID || !to.Created.Equal(from.Created)) {
		return nil, fail.Refused(fmt.Errorf("%s is the repository of cluster %s (since %s), not a copy of %s", o.To.Store(), to.ClusterID, to.Created.Format("2006-01-02"), o.From.Store()),
			"copy into an empty place: another prefix, or another --cluster name there")
	}
	catalog, entries, err := findAll(ctx, o.From, o.IDs)
	if err != nil {
		return nil, err
	}
	if len(o.IDs) == 0 {
		entries = catalog.Backups()
	}
	there, err := o.To.Catalog(ctx)
	if err != nil {
		return nil, err
	}
	out := &Copied{From: o.From.Store().String(), To: o.To.Store().String(), Backups: make([]CopyResult, len(entries))}
	if out.Documents, err = o.documents(ctx); err != nil {
		return nil, err
	}
	c := copier{o: o, there: there}
	for _, e := range entries {
		c.total += e.Data.Size
	}
	if len(o.IDs) == 0 {
		for _, s := range catalog.Segments {
			c.total += s.Size
		}
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(copyWorkers)
	for i, e := range entries {
		g.Go(func() (err error) {
			out.Backups[i], err = c.backup(gctx, e)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	if len(o.IDs) == 0 {
		if err := c.changes(ctx, catalog, out); err != nil {
			return nil, err
		}
	}
	out.count()
	return out, o.marks(ctx, catalog, out)
}

func (c *Copied) count() {
	for _, b := range c.Backups {
		switch b.Action {
		case copyCopied:
			c.Copied++
			c.Bytes += b.Bytes
		case copySkipped:
			c.Skipped++
		default:
			c.Failed++
		}
	}
	c.OK = c.Failed == 0 && c.Changes.Failed == 0
}

// copier copies backups.
type copier struct {
	o     CopyOptions
	there *repo.Catalog
	total int64
	done  atomic.Int64
}

func (c *copier) backup(ctx context.Context, e repo.Entry) (CopyResult, error) {
	res := CopyResult{ID: e.ID, Bytes: e.Data.Size}
	action, err := c.transfer(ctx, e)
	if res.Action = action; err == nil {
		return res, nil
	}
	// Only what is wrong with this one backup lets the others go on.
	problem, about := aboutObject(ctx, err)
	if !about && !errors.Is(err, store.Exists) {
		return res, err
	}
	if !about {
		problem = err.Error()
	}
	res.Action, res.Problem = copyFailed, problem
	return res, nil
}

// transfer copies one backup, unless it is there.
func (c *copier) transfer(ctx context.Context, e repo.Entry) (string, error) {
	m, err := c.o.From.Manifest(ctx, e)
	if err != nil {
		return copyFailed, err
	}
	if twin, ok := c.there.Find(e.ID); ok && twin.Complete() {
		// Its manifest was written after its data had been read back, so it is enough that the manifest is the same.
		same, err := c.same(ctx, m, twin)
		if err != nil || same {
			c.advance(m.Object.Size)
			return copySkipped, err
		}
		return copyFailed, findingf("backup %s: %s holds another backup of this name", e.ID, c.o.To.Store())
	}
	src := &ranged{ctx: ctx, size: m.Object.Size, advance: c.advance, open: func(offset int64) (io.ReadCloser, error) {
		return c.o.From.Data(ctx, m, offset, -1)
	}}
	defer src.close()
	put := *m
	err = c.o.To.PutData(ctx, &put, store.Source{Reader: src, Size: m.Object.Size, SHA256: m.Object.SHA256})
	if errors.Is(err, store.Exists) {
		err = nil // an earlier, interrupted copy; whether it is the right one is seen now
		c.advance(m.Object.Size)
	}
	if src.failed != nil {
		return copyFailed, src.failed
	}
	if err != nil {
		return copyFailed, err
	}
	if err := c.arrived(ctx, &put); err != nil {
		return copyFailed, err
	}
	return copyCopied, c.o.To.PutManifest(ctx, &put)
}

func (c *copier) advance(n int64) { c.o.Progress.report("copy", c.done.Add(n), c.total) }

// same says whether the other store's manifest is this one. The lock is each store's own.
func (c *copier) same(ctx context.Context, m *repo.Manifest, twin repo.Entry) (bool, error) {
	other, err := c.o.To.Manifest(ctx, twin)
	if err != nil {
		return false, err
	}
	a, b := *m, *other
	a.RetainUntil, b.RetainUntil = other.RetainUntil, other.RetainUntil
	x, err := repo.EncodeManifest(&a)
	if err != nil {
		return false, err
	}
	y, err := repo.EncodeManifest(&b)
	return bytes.Equal(x, y), err
}

// arrived checks the data object where it is now: by the store's own SHA-256 when it has one, else by reading it back.
func (c *copier) arrived(ctx context.Context, m *repo.Manifest) error {
	info, err := c.o.To.Store().Head(ctx, m.Object.Key)
	if err != nil && !errors.Is(err, store.Denied) {
		return fmt.Errorf("check the copy of backup %s: %w", m.ID, err)
	}
	if err == nil && info.Size == m.Object.Size && info.SHA256 == m.Object.SHA256 {
		return nil
	}
	if err := checkBytes(ctx, c.o.To, m); err != nil {
		return fmt.Errorf("check the copy of backup %s: %w", m.ID, err)
	}
	return nil
}
