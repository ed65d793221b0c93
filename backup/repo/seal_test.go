package repo

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

type doc struct {
	Name  string   `json:"name"`
	Words []string `json:"words,omitempty"`
	N     int64    `json:"n"`
}

// The document's text is part of the format: whoever restores by hand reads it.
func TestSealGolden(t *testing.T) {
	got, err := Seal("test", 3, doc{Name: "<a & \"b\">", Words: []string{"x"}, N: 1 << 60})
	want := `{
  "format": "etcd-steward/test/3",
  "name": "\u003ca \u0026 \"b\"\u003e",
  "words": [
    "x"
  ],
  "n": 1152921504606846976,
  "checksum": "sha256:0000000000000000000000000000000000000000000000000000000000000000"
}
`
	if err != nil {
		t.Fatal(err)
	}
	// The digits are checked against sha256sum itself by the test of docs/FORMAT.md.
	at := len(want) - len(checksumTail) - 64
	if !bytes.Equal(got[:at], []byte(want)[:at]) || !bytes.HasSuffix(got, []byte(checksumTail)) {
		t.Fatalf("got\n%s\nwant\n%s", got, want)
	}
	var back doc
	if err := Unseal("test", 3, got, &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(doc{Name: "<a & \"b\">", Words: []string{"x"}, N: 1 << 60}, back); diff != "" {
		t.Fatal(diff)
	}
	if err := Unseal("test", 4, got, &back); err != nil {
		t.Errorf("an older document: %v", err)
	}
	if err := Unseal("test", 2, got, &back); !errors.Is(err, ErrNewerFormat) || errors.Is(err, ErrDamaged) {
		t.Errorf("a newer document: %v, want %v", err, ErrNewerFormat)
	}
}

// Every changed, missing, added or moved byte is found.
func TestSealDamage(t *testing.T) {
	m, _ := newManifest(Timeline{Cluster: clusterA, Cut: 1}, 5, day)
	sealed, err := EncodeManifest(m)
	if err != nil {
		t.Fatal(err)
	}
	check := func(what string, at int, b []byte) {
		t.Helper()
		if _, err := DecodeManifest(b); !errors.Is(err, ErrDamaged) {
			t.Fatalf("%s at byte %d: %v, want %v", what, at, err, ErrDamaged)
		}
	}
	for at := range sealed {
		for bit := range 8 {
			b := slices.Clone(sealed)
			b[at] ^= 1 << bit
			check("a flipped bit", at, b)
		}
		check("a cut", at, sealed[:at])
		check("a missing byte", at, slices.Delete(slices.Clone(sealed), at, at+1))
		check("a byte more", at, slices.Insert(slices.Clone(sealed), at, ' '))
	}
	check("a byte more", len(sealed), append(slices.Clone(sealed), '\n'))
	check("too much", len(sealed), append(sealed, make([]byte, maxDocument)...))
}

// What is sealed rightly but is not what it should be.
func TestUnsealWrong(t *testing.T) {
	sealed := func(kind string, version int, v any) []byte {
		b, err := Seal(kind, version, v)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for name, b := range map[string][]byte{
		"another kind":         sealed("tests", 1, doc{}),
		"an unknown field":     sealed("test", 1, struct{ Name, Other string }{}),
		"a field of no type":   sealed("test", 1, struct{ Name int }{7}),
		"version 0":            sealed("test", 0, doc{}),
		"a negative version":   sealed("test", -1, doc{}),
		"a version of letters": reseal(t, sealed("test", 1, doc{}), "test/1", "test/1a"),
		"no format":            reseal(t, sealed("test", 1, doc{}), "format", "farmot"),
		"no JSON":              reseal(t, sealed("test", 1, doc{}), `"n": 0`, `"n": 0}`),
	} {
		var v doc
		if err := Unseal("test", 1, b, &v); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v, want %v", name, err, ErrDamaged)
		}
	}
	for _, v := range []any{1, "x", []int{1}, struct{}{}, nil, struct{ F func() }{}} {
		if b, err := Seal("test", 1, v); err == nil {
			t.Errorf("%v is sealed as %s", v, b)
		}
	}
	if _, err := Seal("test", 1, doc{Name: strings.Repeat("x", maxDocument)}); err == nil {
		t.Error("a document is sealed that nobody will read")
	}
}

// reseal changes a document and gives it the right checksum again.
func reseal(t testing.TB, sealed []byte, from, to string) []byte {
	t.Helper()
	b := bytes.Replace(sealed, []byte(from), []byte(to), 1)
	if bytes.Equal(b, sealed) {
		t.Fatalf("%q is not in the document", from)
	}
	at := len(b) - len(checksumTail) - 64
	copy(b[at:], zeroDigits)
	sum := sumHex(b)
	copy(b[at:], sum)
	return b
}

// FuzzManifest: a document with the right checksum and any content neither panics nor passes unless it is consistent.
func FuzzManifest(f *testing.F) {
	m, _ := newManifest(Timeline{Cluster: clusterA, Cut: 1}, 5, day)
	sealed, err := EncodeManifest(m)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sealed)
	for range 20 {
		b := slices.Clone(sealed)
		b[rand.IntN(len(b))] = "0123456789-\"{}[],"[rand.IntN(17)]
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if at := len(b) - len(checksumTail) - 64; at > 0 && at+64 <= len(b) {
			b = slices.Clone(b)
			copy(b[at:], zeroDigits)
			copy(b[at:], sumHex(b))
		}
		m, err := DecodeManifest(b)
		if err != nil {
			if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrNewerFormat) {
				t.Fatalf("%v is neither damage nor a newer format", err)
			}
			return
		}
		again, err := EncodeManifest(m)
		if err != nil {
			t.Fatalf("a manifest that was read cannot be written: %v", err)
		}
		back, err := DecodeManifest(again)
		if err != nil || !cmp.Equal(m, back) {
			t.Fatalf("a manifest changes by being written: %v\n%s", err, cmp.Diff(m, back))
		}
	})
}
