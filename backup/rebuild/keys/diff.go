package keys

import (
	"bytes"
	"context"
	"fmt"
	"iter"

	clientv3 "go.etcd.io/etcd/client/v3"

	"etcd-steward/backup/changes"
)

// Difference is a key that is not the same on both sides: Before is nil when it was made, After when it is gone. Both are valid until the
// next difference.
type Difference struct {
	Key           []byte
	Before, After *changes.KeyValue
}

// Identical says whether two states of a key are the same record of the same history.
func Identical(a, b *changes.KeyValue) bool {
	return a.ModRevision == b.ModRevision && a.CreateRevision == b.CreateRevision && a.Version == b.Version && SameValue(a, b)
}

// SameValue says whether a client would read the same: value and lease. Between a cluster and one that was restored from it, revisions
// need not agree.
func SameValue(a, b *changes.KeyValue) bool {
	return bytes.Equal(a.Value, b.Value) && a.Lease == b.Lease
}

// Diff compares two sequences of keys, each in order of the keys as Get and Live give them. It holds one key of each.
func Diff(before, after iter.Seq2[changes.KeyValue, error], same func(a, b *changes.KeyValue) bool) iter.Seq2[Difference, error] {
	return func(yield func(Difference, error) bool) {
		a, b := newSide(before), newSide(after)
		defer a.stop()
		defer b.stop()
		for {
			if err := firstError(a.err, b.err); err != nil || a.done && b.done {
				if err != nil {
					yield(Difference{}, err)
				}
				return
			}
			d := Difference{}
			order := compareSides(a, b)
			if order <= 0 {
				d.Key, d.Before = a.kv.Key, &a.kv
			}
			if order >= 0 {
				d.Key, d.After = b.kv.Key, &b.kv
			}
			if order != 0 || !same(&a.kv, &b.kv) {
				if !yield(d, nil) {
					return
				}
			}
			if order <= 0 {
				a.next()
			}
			if order >= 0 {
				b.next()
			}
		}
	}
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// side is one of the two sequences, at one of its keys.
type side struct {
	pull func() (changes.KeyValue, error, bool)
	stop func()
	kv   changes.KeyValue
	done bool
	err  error
}

func newSide(seq iter.Seq2[changes.KeyValue, error]) *side {
	s := &side{}
	s.pull, s.stop = iter.Pull2(seq)
	s.next()
	return s
}

func (s *side) next() {
	last := append([]byte(nil), s.kv.Key...)
	kv, err, ok := s.pull()
	s.kv, s.err, s.done = kv, err, !ok
	if ok && err == nil && len(last) > 0 && bytes.Compare(last, kv.Key) >= 0 {
		s.err = fmt.Errorf("keys are not in order: %q after %q", kv.Key, last)
	}
}

// compareSides is negative when a's key comes first; a side that is at its end comes last.
func compareSides(a, b *side) int {
	switch {
	case a.done:
		return 1
	case b.done:
		return -1
	}
	return bytes.Compare(a.kv.Key, b.kv.Key)
}

// livePage is how many keys are asked for at once: values are up to 1.5 MiB each, but mostly a thousandth of that.
const livePage = 500

// Live gives the keys of a range that a running cluster has, in order of the keys, all at one revision: at, or with 0 the newest when
// the first page is read. A cluster that compacts that revision meanwhile ends it with an error.
func Live(ctx context.Context, kv clientv3.KV, r Range, at int64) iter.Seq2[changes.KeyValue, error] {
	return func(yield func(changes.KeyValue, error) bool) {
		key := string(r.Key)
		if key == "" {
			key = "\x00"
		}
		for {
			opts := []clientv3.OpOption{clientv3.WithRev(at), clientv3.WithLimit(livePage)}
			if r.End != nil {
				opts = append(opts, clientv3.WithRange(string(r.End)))
			}
			resp, err := kv.Get(ctx, key, opts...)
			if err != nil {
				yield(changes.KeyValue{}, fmt.Errorf("read keys from %q: %w", key, err))
				return
			}
			if at == 0 {
				at = resp.Header.Revision
			}
			for _, x := range resp.Kvs {
				if !yield(changes.KeyValue{Key: x.Key, CreateRevision: x.CreateRevision, ModRevision: x.ModRevision, Version: x.Version, Value: x.Value, Lease: x.Lease}, nil) {
					return
				}
			}
			if !resp.More || len(resp.Kvs) == 0 {
				return
			}
			key = string(resp.Kvs[len(resp.Kvs)-1].Key) + "\x00"
		}
	}
}
