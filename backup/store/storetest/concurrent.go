package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"etcd-steward/backup/store"
)

func testConcurrent(t *testing.T, s store.Store) {
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 10 {
				if err := cycle(t, s, fmt.Sprintf("concurrent/%d/%d", g, i), content(uint64(g*100+i), 5000*g)); err != nil {
					t.Errorf("goroutine %d: %v", g, err)
					return
				}
			}
		})
	}
	wg.Wait()
	if got := keys(t, s, "", ""); len(got) != 40 {
		t.Errorf("got %d objects, want the 40 that were not deleted", len(got))
	}
}

// cycle puts, lists, reads, and deletes every second object.
func cycle(t *testing.T, s store.Store, key string, data []byte) error {
	if _, err := s.Put(t.Context(), key, source(data), store.PutOptions{IfAbsent: true}); err != nil {
		return err
	}
	found := false
	for info, err := range s.List(t.Context(), key, "") {
		if err != nil {
			return err
		}
		found = found || info.Key == key
	}
	if !found {
		return fmt.Errorf("%s is not listed", key)
	}
	r, err := s.Get(t.Context(), key, 0, -1)
	if err != nil {
		return err
	}
	got, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil {
		return err
	}
	if !bytes.Equal(got, data) {
		return fmt.Errorf("%s has other content", key)
	}
	if key[len(key)-1]%2 == 0 {
		return s.Delete(t.Context(), key)
	}
	return nil
}

func testCloseEarly(t *testing.T, s store.Store) {
	data := content(1, 6<<20)
	put(t, s, "close/a", data, store.PutOptions{})
	for i := range 10 {
		r, err := s.Get(t.Context(), "close/a", 0, -1)
		if err != nil {
			t.Fatalf("Get: %v", err)
		}
		if _, err := io.CopyN(io.Discard, r, int64(i*1000)); err != nil {
			t.Fatalf("read: %v", err)
		}
		if err := r.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		if n, err := r.Read(make([]byte, 1)); n != 0 || err == nil || errors.Is(err, io.EOF) {
			t.Errorf("Read after Close: got %d, %v", n, err)
		}
	}
	if got := get(t, s, "close/a", 0, -1); !bytes.Equal(got, data) {
		t.Errorf("other content afterwards")
	}
}

func testErrors(t *testing.T, s store.Store) {
	put(t, s, "errors/a", []byte("x"), store.PutOptions{})
	_, err := s.Put(t.Context(), "errors/a", source([]byte("y")), store.PutOptions{IfAbsent: true, IfMatch: `"x"`})
	wantKind(t, err, store.Invalid, "both conditions")

	_, err = s.Put(t.Context(), "errors/a", source([]byte("y")), store.PutOptions{IfAbsent: true})
	var e *store.Error
	if !errors.As(err, &e) || e.Op != "put" || e.Key != "errors/a" || !strings.Contains(err.Error(), "put errors/a: exists already") {
		t.Errorf("Put: got %v, want the operation, the key and the kind in it", err)
	}
	_, err = s.Head(t.Context(), "errors/b")
	if !errors.As(err, &e) || e.Op != "head" || e.Key != "errors/b" {
		t.Errorf("Head: got %v", err)
	}
	_, err = s.Get(t.Context(), "errors/b", 0, -1)
	if !errors.As(err, &e) || e.Op != "get" || e.Key != "errors/b" {
		t.Errorf("Get: got %v", err)
	}
	if store.KindOf(err) != store.NotFound || store.HintFor(err) == "" {
		t.Errorf("got the kind %q and the hint %q", store.KindOf(err), store.HintFor(err))
	}
	if s.String() == "" {
		t.Errorf("a store without a name")
	}
}
