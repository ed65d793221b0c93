package faults_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"etcd-steward/backup/store"
	"etcd-steward/backup/store/faults"

	"github.com/google/go-cmp/cmp"
)

var errDead = errors.New("dead")

func folder(t *testing.T) store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), store.Config{URL: "file://" + t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func put(s store.Store, key, text string) error {
	_, err := s.Put(context.Background(), key, store.Source{Reader: strings.NewReader(text), Size: int64(len(text))}, store.PutOptions{})
	return err
}

func get(t *testing.T, s store.Store, key string, offset int64) (string, error) {
	t.Helper()
	r, err := s.Get(t.Context(), key, offset, -1)
	if err != nil {
		return "", err
	}
	b, err := io.ReadAll(r)
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	return string(b), err
}

// TestHooks: each hook strikes where it says, and nowhere else.
func TestHooks(t *testing.T) {
	inner := folder(t)
	var calls []string
	dead := ""
	s := faults.Wrap(inner, faults.Hooks{
		Before: func(_ context.Context, op, key string) error {
			calls = append(calls, op+" "+key)
			if op+" "+key == dead {
				return faults.Dead(op, key)
			}
			return nil
		},
		After: func(_ context.Context, op, key string) error {
			if op+" "+key+" answered" == dead {
				return errDead
			}
			return nil
		},
	})
	dead = "put a"
	if err := put(s, "a", "x"); !errors.Is(err, store.Unreachable) {
		t.Errorf("died before: got %v", err)
	}
	if _, err := inner.Head(t.Context(), "a"); !errors.Is(err, store.NotFound) {
		t.Errorf("a store that died before the Put has the object: %v", err)
	}
	dead = "put a answered"
	if err := put(s, "a", "x"); !errors.Is(err, errDead) {
		t.Errorf("died after: got %v", err)
	}
	if got, err := get(t, inner, "a", 0); got != "x" || err != nil {
		t.Errorf("a store that died after the Put: got %q, %v", got, err)
	}
	dead = ""
	if got, err := get(t, s, "a", 0); got != "x" || err != nil {
		t.Errorf("Get: got %q, %v", got, err)
	}
	if _, err := s.Head(t.Context(), "a"); err != nil {
		t.Error(err)
	}
	for _, err := range s.List(t.Context(), "a", "") {
		if err != nil {
			t.Error(err)
		}
	}
	if err := s.Delete(t.Context(), "a"); err != nil {
		t.Error(err)
	}
	want := []string{"put a", "put a", "get a", "head a", "list a", "delete a"}
	if diff := cmp.Diff(want, calls); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}

func TestBodies(t *testing.T) {
	inner := folder(t)
	if err := put(inner, "a", "0123456789"); err != nil {
		t.Fatal(err)
	}
	var change func(offset int64, body io.ReadCloser) io.ReadCloser
	s := faults.Wrap(inner, faults.Hooks{Body: func(_ string, offset int64, body io.ReadCloser) io.ReadCloser { return change(offset, body) }})
	for _, c := range []struct {
		offset int64
		want   string
		err    error
		change func(int64, io.ReadCloser) io.ReadCloser
	}{
		{0, "012", io.ErrUnexpectedEOF, func(o int64, b io.ReadCloser) io.ReadCloser { return faults.Reader(b, o, 3, io.ErrUnexpectedEOF) }},
		{2, "2", io.ErrUnexpectedEOF, func(o int64, b io.ReadCloser) io.ReadCloser { return faults.Reader(b, o, 3, io.ErrUnexpectedEOF) }},
		{5, "", errDead, func(o int64, b io.ReadCloser) io.ReadCloser { return faults.Reader(b, o, 3, errDead) }},
		{0, "0123", nil, func(o int64, b io.ReadCloser) io.ReadCloser { return faults.Reader(b, o, 4, io.EOF) }},
		{0, "0123556789", nil, func(o int64, b io.ReadCloser) io.ReadCloser { return faults.Flip(b, o, 4, 0) }},
		{3, "3556789", nil, func(o int64, b io.ReadCloser) io.ReadCloser { return faults.Flip(b, o, 4, 0) }},
		{5, "56789", nil, func(o int64, b io.ReadCloser) io.ReadCloser { return faults.Flip(b, o, 4, 0) }},
	} {
		change = c.change
		if got, err := get(t, s, "a", c.offset); got != c.want || !errors.Is(err, c.err) {
			t.Errorf("from %d: got %q, %v, want %q, %v", c.offset, got, err, c.want, c.err)
		}
	}
}

func TestSource(t *testing.T) {
	inner := folder(t)
	s := faults.Wrap(inner, faults.Hooks{Source: func(_ string, src store.Source) store.Source {
		src.Reader = faults.Reader(io.NopCloser(src.Reader), 0, 2, errDead)
		return src
	}})
	if err := put(s, "a", "0123"); !errors.Is(err, errDead) {
		t.Errorf("got %v, want the source's death", err)
	}
	if _, err := inner.Head(t.Context(), "a"); !errors.Is(err, store.NotFound) {
		t.Errorf("Head: %v", err)
	}
}

// TestSeed: the same seed strikes the same requests.
func TestSeed(t *testing.T) {
	served := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		served++
		_, _ = w.Write(bytes.Repeat([]byte("x"), 1000))
	}))
	defer server.Close()
	chances := map[faults.Fault]float64{}
	for _, f := range []faults.Fault{faults.LostAnswer, faults.Refused, faults.Reset, faults.Error500, faults.Error503, faults.LateError500, faults.CutBody, faults.ClockSkew} {
		chances[f] = 0.1
	}
	run := func(seed uint64) string {
		tr := faults.New(faults.Options{Seed: seed, Chance: chances})
		client := http.Client{Transport: tr.Wrap(http.DefaultTransport)}
		var log strings.Builder
		for range 200 {
			resp, err := client.Get(server.URL)
			if err != nil {
				log.WriteString(err.Error() + "\n")
				continue
			}
			n, err := io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
			_, _ = log.WriteString(resp.Status)
			if err != nil || n != 1000 {
				log.WriteString(" cut")
			}
			log.WriteString("\n")
		}
		for f, n := range tr.Counts() {
			if n < 3 {
				t.Errorf("%s happened %d times in 200", f, n)
			}
		}
		if len(tr.Counts()) != len(chances) {
			t.Errorf("got %v, want every fault", tr.Counts())
		}
		return log.String()
	}
	first := run(42)
	if served == 0 || served == 200 {
		t.Errorf("%d of 200 requests were served", served)
	}
	if diff := cmp.Diff(first, run(42)); diff != "" {
		t.Errorf("the same seed did otherwise:\n%s", diff)
	}
	if first == run(43) {
		t.Error("another seed did the same")
	}
}
