package storetest

import (
	"strings"
	"testing"

	"etcd-steward/backup/store"
)

func testBadKeys(t *testing.T, s store.Store) {
	bad := []string{
		"", "/", "/a", "a/", "a//b", "..", "../a", "a/..", "a/../b", ".", "./a", "a/./b", ".hidden", "a/.hidden/b", ".steward/lock",
		"a b", "a\\b", "a\nb", "a\x00b", "\x7f", "ä", "日本", "a\xff", "a\u202eb",
		strings.Repeat("a", 256), strings.Repeat("a/", 600) + "a",
	}
	for _, key := range bad {
		_, err := s.Put(t.Context(), key, source([]byte("x")), store.PutOptions{})
		wantKind(t, err, store.Invalid, "Put "+key)
		_, err = s.Get(t.Context(), key, 0, -1)
		wantKind(t, err, store.Invalid, "Get "+key)
		_, err = s.Head(t.Context(), key)
		wantKind(t, err, store.Invalid, "Head "+key)
		wantKind(t, s.Delete(t.Context(), key), store.Invalid, "Delete "+key)
	}
	for _, prefix := range []string{"/", "/a", "../", "a/../b", "a//", "ä", "a b"} {
		n := 0
		for _, err := range s.List(t.Context(), prefix, "") {
			wantKind(t, err, store.Invalid, "List "+prefix)
			n++
		}
		if n != 1 {
			t.Errorf("List %q: yielded %d times, want one error", prefix, n)
		}
	}
	if got := keys(t, s, "", ""); len(got) != 0 {
		t.Errorf("bad keys made objects: %q", got)
	}
}

// testOddKeys uses what URLs, XML and signatures have to escape.
func testOddKeys(t *testing.T, s store.Store) {
	odd := []string{
		"odd/a+b", "odd/a%20b", "odd/a%2Fb", "odd/a&b=c", "odd/a?b#c", "odd/a<b>c", "odd/a'b\"c", "odd/a;b,c", "odd/a@b:c", "odd/a~b", "odd/a!*()",
		"odd/a[b]{c}|^`$", "odd/a..b", "odd/a.", "odd/" + strings.Repeat("k", 200), strings.Repeat("d/", 50) + "deep",
	}
	for i, key := range odd {
		data := content(uint64(i), 100+i)
		info := put(t, s, key, data, store.PutOptions{IfAbsent: true})
		checkObject(t, s, key, data, info)
		_, err := s.Put(t.Context(), key, source([]byte("x")), store.PutOptions{IfAbsent: true})
		wantKind(t, err, store.Exists, "second Put "+key)
	}
	if got := keys(t, s, "", ""); len(got) != len(odd) {
		t.Errorf("List: got %d keys, want %d: %q", len(got), len(odd), got)
	}
	for _, key := range odd {
		if err := s.Delete(t.Context(), key); err != nil {
			t.Errorf("Delete %s: %v", key, err)
		}
	}
	if got := keys(t, s, "", ""); len(got) != 0 {
		t.Errorf("after Delete: %q", got)
	}
}
