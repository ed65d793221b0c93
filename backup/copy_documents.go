package backup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"

	"etcd-steward/backup/repo"
	"etcd-steward/backup/repo/envelope"
	"etcd-steward/backup/store"
	"etcd-steward/internal/fail"
)

// documents copies the identity and the successors before any backup, so that the second store is a repository of this cluster from its first
// object on. Plans, leases and probes belong to a store, and are not copied.
func (o *CopyOptions) documents(ctx context.Context) (int, error) {
	n := 0
	for _, prefix := range []string{"repository.json", "successors/"} {
		for info, err := range o.From.Store().List(ctx, prefix, "") {
			if err != nil {
				return n, fmt.Errorf("list %s: %w", prefix, err)
			}
			wrote, err := o.document(ctx, info.Key)
			if err != nil {
				return n, err
			}
			if wrote {
				n++
			}
		}
	}
	return n, nil
}

// marks copies the verified marks of the backups that are now in both stores: what was proven of the bytes holds for the same bytes. A mark
// that is there already stays: it says when that store was last read.
func (o *CopyOptions) marks(ctx context.Context, catalog *repo.Catalog, out *Copied) error {
	for _, b := range out.Backups {
		mark, ok := catalog.Verified[b.ID]
		if !ok || b.Action == copyFailed {
			continue
		}
		wrote, err := o.document(ctx, mark.Key)
		if err != nil {
			return err
		}
		if wrote {
			out.Documents++
		}
	}
	return nil
}

// document copies one sealed document, byte for byte, and reads it back. One that is damaged here is not copied; one that is there
// already is not touched.
func (o *CopyOptions) document(ctx context.Context, key string) (wrote bool, err error) {
	doc, err := readDocument(ctx, o.From.Store(), key)
	if err != nil {
		return false, fmt.Errorf("copy %s: %w", key, err)
	}
	if problem := checkSealed(key, doc); problem != "" {
		if strings.HasPrefix(key, "coordination/") {
			return false, nil // a mark is only a note
		}
		return false, fail.New(fail.Wanting, fmt.Errorf("copy %s: %s", key, problem), "steward backup verify --all")
	}
	_, err = o.To.Store().Put(ctx, key, store.Source{Reader: bytes.NewReader(doc), Size: int64(len(doc)), SHA256: sha256.Sum256(doc)}, store.PutOptions{IfAbsent: true})
	if errors.Is(err, store.Exists) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("copy %s: %w", key, err)
	}
	back, err := readDocument(ctx, o.To.Store(), key)
	if err == nil && !bytes.Equal(back, doc) {
		err = errors.New("what arrived is not what was sent")
	}
	if err != nil {
		return false, fmt.Errorf("check the copy of %s: %w", key, err)
	}
	return true, nil
}

// checkBytes reads a backup's object where it lies and compares it with its manifest.
func checkBytes(ctx context.Context, r *repo.Repo, m *repo.Manifest) error {
	return envelope.CheckBytes(ctx, m.Object, fetcher(r, m), nil)
}
