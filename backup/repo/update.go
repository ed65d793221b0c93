package repo

import (
	"context"
	"errors"
	"fmt"

	"etcd-steward/backup/store"
)

// updateTries is how often a document that several daemons move on is read and written again.
const updateTries = 5

// update replaces a coordination document by what next makes of it, and nothing that another has written meanwhile: next reads it, and gives the new
// document and the version that it read, "" for none. A store that knows no conditions is written to all the same.
func (r *Repo) update(ctx context.Context, key string, next func() (doc []byte, etag string, err error)) error {
	for range updateTries {
		doc, etag, err := next()
		if err != nil {
			return err
		}
		_, err = r.write(ctx, key, doc, store.PutOptions{IfAbsent: etag == "", IfMatch: etag})
		if errors.Is(err, store.Unsupported) {
			_, err = r.write(ctx, key, doc, store.PutOptions{})
		}
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, store.Exists) && !errors.Is(err, store.Changed) && !errors.Is(err, store.NotFound):
			return fmt.Errorf("write %s: %w", key, err)
		}
	}
	return fmt.Errorf("write %s: %d others were faster, one after the other", key, updateTries)
}
