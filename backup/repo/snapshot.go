package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"etcd-steward/backup/store"
	"etcd-steward/internal/fail"
)

// ErrNoData means that a manifest is there but its data object is not: the backup is lost.
var ErrNoData = errors.New("the data object is missing")

// FindID looks a backup up by listing the repository: for discovery. Manifest then reads what is really there.
func (r *Repo) FindID(ctx context.Context, id SnapshotID) (Entry, error) {
	c, err := r.Catalog(ctx)
	if err != nil {
		return Entry{}, err
	}
	e, ok := c.Find(id)
	if !ok {
		return Entry{}, fail.Hint(fmt.Errorf("no backup %s in repository %q in %s", id, r.cluster, r.store), "steward backup list")
	}
	return e, nil
}

// Manifest reads the manifest of one entry and checks it: its seal, itself, and that it is about this key and this repository. The
// data object must be there with the size that the manifest says (ErrNoData, ErrDamaged). Only names and sizes are taken from the entry; what the
// listing did not show is asked for again.
func (r *Repo) Manifest(ctx context.Context, e Entry) (*Manifest, error) {
	m, err := r.readManifest(ctx, e)
	if err != nil {
		return nil, err
	}
	data := e.Data
	if data.Key != m.Object.Key || data.Size != m.Object.Size {
		data, err = r.stat(ctx, m.Object.Key)
	}
	switch {
	case errors.Is(err, store.NotFound):
		return nil, fmt.Errorf("backup %s: %w: %s", e.ID, ErrNoData, m.Object.Key)
	case err != nil:
		return nil, fmt.Errorf("backup %s: %w", e.ID, err)
	case data.Size != m.Object.Size:
		return nil, fmt.Errorf("backup %s: %w: %s has %d bytes, its manifest says %d", e.ID, ErrDamaged, m.Object.Key, data.Size, m.Object.Size)
	}
	return m, nil
}

// stat is Head for roles that may not read data, and so may not ask for one object (S3 has one right for both): they find it in a listing.
func (r *Repo) stat(ctx context.Context, key string) (store.Info, error) {
	info, err := r.store.Head(ctx, key)
	if !errors.Is(err, store.Denied) {
		return info, err
	}
	for info, err := range r.store.List(ctx, key, "") {
		if err != nil || info.Key == key {
			return info, err
		}
		break
	}
	return store.Info{}, &store.Error{Op: "head", Key: key, Kind: store.NotFound, Err: err}
}

func (r *Repo) readManifest(ctx context.Context, e Entry) (*Manifest, error) {
	key := ManifestKey(e.Timeline, e.Revision, e.ID)
	doc, err := r.read(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("backup %s: %w", e.ID, err)
	}
	m, err := DecodeManifest(doc)
	if err != nil {
		return nil, fmt.Errorf("backup %s: %s: %w", e.ID, key, err)
	}
	if m.Cluster != r.cluster || ManifestKey(m.Timeline, m.Database.Revision, m.ID) != key {
		return nil, fmt.Errorf("backup %s: %s: %w: it is about backup %s of cluster %q at revision %d of %s",
			e.ID, key, ErrDamaged, m.ID, m.Cluster, m.Database.Revision, m.Timeline)
	}
	return m, nil
}

// DecodeManifest unseals and validates a manifest's document.
func DecodeManifest(doc []byte) (*Manifest, error) {
	var m Manifest
	if err := Unseal("snapshot", manifestFormat, doc, &m); err != nil {
		return nil, err
	}
	if err := m.Validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return &m, nil
}

// EncodeManifest validates and seals a manifest.
func EncodeManifest(m *Manifest) ([]byte, error) {
	if err := m.Validate(); err != nil {
		return nil, err
	}
	return Seal("snapshot", manifestFormat, m)
}

// PutData stores a snapshot's data under its name: exclusively, with the hash that the manifest says, and under the store's lock. It needs of m
// the ID, timeline, revision and object, so the database may still be read meanwhile. It notes in m until when the store keeps the object locked.
// Without a manifest the data is no backup yet.
func (r *Repo) PutData(ctx context.Context, m *Manifest, src store.Source) error {
	o := m.Object
	switch {
	case o.Key != DataKey(m.Timeline, m.Database.Revision, m.ID, o.Encrypted()):
		return fmt.Errorf("put the data of backup %s: it is to be called %q", m.ID, o.Key)
	case src.Size != o.Size || src.SHA256 != o.SHA256 || o.SHA256 == SHA256{}:
		return fmt.Errorf("put %s: the source has %d bytes with SHA-256 %x, the manifest says %d bytes with %s", o.Key, src.Size, src.SHA256, o.Size, o.SHA256)
	}
	info, err := r.store.Put(ctx, o.Key, src, store.PutOptions{IfAbsent: true, Retain: true})
	if err != nil {
		return fmt.Errorf("put the data of backup %s: %w", m.ID, err)
	}
	if info.Size != o.Size {
		return fmt.Errorf("put %s: %d bytes were stored, not %d", o.Key, info.Size, o.Size)
	}
	m.RetainUntil = info.RetainUntil.UTC()
	return nil
}

// PutManifest makes a backup of data that PutData has stored. It is the last step; a manifest is written once and never changed.
func (r *Repo) PutManifest(ctx context.Context, m *Manifest) error {
	if m.Cluster != r.cluster {
		return fmt.Errorf("put the manifest of backup %s: it is of cluster %q, this is the repository of %q", m.ID, m.Cluster, r.cluster)
	}
	doc, err := EncodeManifest(m)
	if err != nil {
		return fmt.Errorf("put the manifest of backup %s: %w", m.ID, err)
	}
	key := ManifestKey(m.Timeline, m.Database.Revision, m.ID)
	_, err = r.write(ctx, key, doc, store.PutOptions{IfAbsent: true, Retain: true})
	if errors.Is(err, store.Exists) {
		if there, err2 := r.read(ctx, key); err2 == nil && bytes.Equal(there, doc) {
			return nil // a copy that is resumed
		}
	}
	if err != nil {
		return fmt.Errorf("put the manifest of backup %s: %w", m.ID, err)
	}
	return nil
}

// Data reads length bytes of a backup's object from offset; a negative length means to the end.
func (r *Repo) Data(ctx context.Context, m *Manifest, offset, length int64) (io.ReadCloser, error) {
	return r.store.Get(ctx, m.Object.Key, offset, length)
}
