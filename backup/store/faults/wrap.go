package faults

import (
	"context"
	"io"
	"iter"

	"etcd-steward/backup/store"
)

// Hooks are called around the operations of a wrapped store; nil ones do nothing. op is put, get, head, list or delete. They may
// be called from several goroutines at once.
type Hooks struct {
	// Before runs before an operation. Its error is returned in the operation's stead, which then does not happen: the
	// store died before it. See Dead for an error to return.
	Before func(ctx context.Context, op, key string) error
	// After runs after a successful operation other than list. Its error is returned although the operation happened: the
	// store, or the way to it, died before the answer.
	After func(ctx context.Context, op, key string) error
	// Source replaces what a Put reads, to fail in the middle of it.
	Source func(key string, src store.Source) store.Source
	// Body replaces what a Get gives, to cut or change it. offset is where in the object the body begins.
	Body func(key string, offset int64, body io.ReadCloser) io.ReadCloser
}

// Store is a store with hooks.
type Store struct {
	inner store.Store
	hooks Hooks
}

var _ store.Store = (*Store)(nil)

// Wrap puts hooks around a store.
func Wrap(inner store.Store, hooks Hooks) *Store { return &Store{inner: inner, hooks: hooks} }

// Dead is the error of a store that cannot be reached.
func Dead(op, key string) error {
	return &store.Error{Op: op, Key: key, Kind: store.Unreachable, Err: io.EOF}
}

// Unwrap gives the store inside.
func (s *Store) Unwrap() store.Store { return s.inner }

// String implements store.Store.
func (s *Store) String() string { return s.inner.String() }

func (s *Store) before(ctx context.Context, op, key string) error {
	if s.hooks.Before == nil {
		return nil
	}
	return s.hooks.Before(ctx, op, key)
}

func (s *Store) after(ctx context.Context, op, key string, err error) error {
	if err != nil || s.hooks.After == nil {
		return err
	}
	return s.hooks.After(ctx, op, key)
}

// Put implements store.Store.
func (s *Store) Put(ctx context.Context, key string, src store.Source, opts store.PutOptions) (store.Info, error) {
	if err := s.before(ctx, "put", key); err != nil {
		return store.Info{}, err
	}
	if s.hooks.Source != nil {
		src = s.hooks.Source(key, src)
	}
	info, err := s.inner.Put(ctx, key, src, opts)
	if err := s.after(ctx, "put", key, err); err != nil {
		return store.Info{}, err
	}
	return info, nil
}

// Get implements store.Store.
func (s *Store) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	if err := s.before(ctx, "get", key); err != nil {
		return nil, err
	}
	body, err := s.inner.Get(ctx, key, offset, length)
	if err != nil {
		return nil, err
	}
	if err := s.after(ctx, "get", key, nil); err != nil {
		_ = body.Close()
		return nil, err
	}
	if s.hooks.Body != nil {
		body = s.hooks.Body(key, offset, body)
	}
	return body, nil
}

// Head implements store.Store.
func (s *Store) Head(ctx context.Context, key string) (store.Info, error) {
	if err := s.before(ctx, "head", key); err != nil {
		return store.Info{}, err
	}
	info, err := s.inner.Head(ctx, key)
	if err := s.after(ctx, "head", key, err); err != nil {
		return store.Info{}, err
	}
	return info, nil
}

// List implements store.Store.
func (s *Store) List(ctx context.Context, prefix, after string) iter.Seq2[store.Info, error] {
	return func(yield func(store.Info, error) bool) {
		if err := s.before(ctx, "list", prefix); err != nil {
			yield(store.Info{}, err)
			return
		}
		s.inner.List(ctx, prefix, after)(yield)
	}
}

// Delete implements store.Store.
func (s *Store) Delete(ctx context.Context, key string) error {
	if err := s.before(ctx, "delete", key); err != nil {
		return err
	}
	return s.after(ctx, "delete", key, s.inner.Delete(ctx, key))
}
