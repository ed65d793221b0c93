package repo

import (
	"context"
	"fmt"
	"io"
	"iter"
	"strings"

	"etcd-steward/backup/store"
	"etcd-steward/internal/fail"
)

// scoped is a store seen from one of its folders: keys go in and come out relative to it. Errors keep the whole key, which is what
// a person can look up.
type scoped struct {
	st     store.Store
	prefix string // ends with a slash
}

var _ store.Store = scoped{}

func (s scoped) strip(i store.Info) store.Info {
	i.Key = strings.TrimPrefix(i.Key, s.prefix)
	return i
}

func (s scoped) Put(ctx context.Context, key string, src store.Source, opts store.PutOptions) (store.Info, error) {
	i, err := s.st.Put(ctx, s.prefix+key, src, opts)
	return s.strip(i), err
}

func (s scoped) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	return s.st.Get(ctx, s.prefix+key, offset, length)
}

func (s scoped) Head(ctx context.Context, key string) (store.Info, error) {
	i, err := s.st.Head(ctx, s.prefix+key)
	return s.strip(i), err
}

func (s scoped) List(ctx context.Context, prefix, after string) iter.Seq2[store.Info, error] {
	if after != "" {
		after = s.prefix + after
	}
	return func(yield func(store.Info, error) bool) {
		for i, err := range s.st.List(ctx, s.prefix+prefix, after) {
			if !yield(s.strip(i), err) {
				return
			}
		}
	}
}

func (s scoped) Delete(ctx context.Context, key string) error { return s.st.Delete(ctx, s.prefix+key) }

// Unwrap gives the whole store.
func (s scoped) Unwrap() store.Store { return s.st }

// String is the folder's URL.
func (s scoped) String() string { return s.st.String() + "/" + strings.TrimSuffix(s.prefix, "/") }

// readOnly refuses to write.
type readOnly struct{ scoped }

func (r readOnly) refuse(op, key string) error {
	return fail.Refused(fmt.Errorf("%s %s: the repository was opened for reading only", op, key), "open it without the option that allows a damaged identity")
}

func (r readOnly) Put(_ context.Context, key string, _ store.Source, _ store.PutOptions) (store.Info, error) {
	return store.Info{}, r.refuse("put", key)
}

func (r readOnly) Delete(_ context.Context, key string) error { return r.refuse("delete", key) }
