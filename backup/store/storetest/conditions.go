package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"

	"etcd-steward/backup/store"
)

func testExclusive(t *testing.T, s store.Store) {
	for _, size := range []int{100, 9 << 20} {
		key := fmt.Sprintf("exclusive/%d", size)
		data := content(5, size)
		info := put(t, s, key, data, store.PutOptions{IfAbsent: true})
		// Neither other content nor the same content by another call is this call's success.
		for name, src := range map[string]store.Source{
			"other content":  source(content(6, size)),
			"same content":   source(data),
			"unknown length": {Reader: stream(bytes.NewReader(content(7, size))), Size: store.Unknown},
		} {
			_, err := s.Put(t.Context(), key, src, store.PutOptions{IfAbsent: true})
			wantKind(t, err, store.Exists, "second Put, "+name)
		}
		checkObject(t, s, key, data, info)
	}
}

func testExclusiveRace(t *testing.T, s store.Store) {
	const writers = 12
	for round := range 8 {
		key := fmt.Sprintf("race/%d", round)
		won := make([]bool, writers)
		errs := make([]error, writers)
		start := make(chan struct{})
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				<-start
				_, errs[w] = s.Put(t.Context(), key, source(content(uint64(w), 3000)), store.PutOptions{IfAbsent: true})
				won[w] = errs[w] == nil
			})
		}
		close(start)
		wg.Wait()
		winner := -1
		for w := range writers {
			switch {
			case won[w] && winner >= 0:
				t.Errorf("round %d: writers %d and %d both won", round, winner, w)
			case won[w]:
				winner = w
			case !errors.Is(errs[w], store.Exists):
				t.Errorf("round %d: writer %d: %v", round, w, errs[w])
			}
		}
		if winner < 0 {
			t.Fatalf("round %d: nobody won", round)
		}
		if got := get(t, s, key, 0, -1); !bytes.Equal(got, content(uint64(winner), 3000)) {
			t.Errorf("round %d: the object is not the winner's", round)
		}
	}
}

func testSwap(t *testing.T, s store.Store) {
	for _, size := range []int{100, 100 << 10} {
		key := fmt.Sprintf("swap/%d", size)
		first := put(t, s, key, content(1, size), store.PutOptions{})
		second := put(t, s, key, content(2, size), store.PutOptions{IfMatch: first.ETag})
		for name, etag := range map[string]string{"old": first.ETag, "invented": `"0123456789abcdef0123456789abcdef"`} {
			_, err := s.Put(t.Context(), key, source(content(3, size)), store.PutOptions{IfMatch: etag})
			wantKind(t, err, store.Changed, "Put with IfMatch of an "+name+" ETag")
		}
		checkObject(t, s, key, content(2, size), second)
		head, err := s.Head(t.Context(), key)
		if err != nil {
			t.Fatalf("Head: %v", err)
		}
		third := put(t, s, key, content(4, size), store.PutOptions{IfMatch: head.ETag})
		checkObject(t, s, key, content(4, size), third)
	}
}

// testSwapRace counts with compare-and-swap from several goroutines; a swap that both did and did not happen shows in the sum. When answers
// get lost it may: a swap was done, the next writer has replaced it, and the first is told Changed.
func testSwapRace(t *testing.T, s store.Store, lossy bool) {
	const writers, each = 4, 6
	put(t, s, "count", []byte("0"), store.PutOptions{})
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for range each {
				if err := increment(t, s); err != nil {
					t.Errorf("increment: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
	got, err := strconv.Atoi(string(get(t, s, "count", 0, -1)))
	if err != nil || got < writers*each || got > writers*each && !lossy {
		t.Errorf("the count is %d (%v), want %d", got, err, writers*each)
	}
}

func increment(t *testing.T, s store.Store) error {
	for {
		head, err := s.Head(t.Context(), "count")
		if err != nil {
			return err
		}
		body, err := s.Get(t.Context(), "count", 0, -1)
		if err != nil {
			return err
		}
		var buf bytes.Buffer
		_, err = buf.ReadFrom(body)
		_ = body.Close()
		if errors.Is(err, store.Changed) {
			continue // a cut read could not go on: the object is another by now
		}
		if err != nil {
			return err
		}
		n, err := strconv.Atoi(buf.String())
		if err != nil {
			return err
		}
		_, err = s.Put(t.Context(), "count", source([]byte(strconv.Itoa(n+1))), store.PutOptions{IfMatch: head.ETag})
		if !errors.Is(err, store.Changed) {
			return err
		}
	}
}
