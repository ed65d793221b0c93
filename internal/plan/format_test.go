package plan_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"etcd-steward/internal/plan"
)

// A stranger can check a plan's ID with what docs/FORMAT.md says, on the bytes in the store.
func TestIDByHand(t *testing.T) {
	pl := filePlace(t)
	p := sample(t, "a m1", "b m2 after a final", "c m1 after b optional")
	q := *p
	q.Title, q.Warnings, q.Basis = "is <this> & that ü safe?", []string{"no"}, json.RawMessage(`{"z": 1, "a": [true, "<"]}`)
	p, err := plan.New(q)
	if err != nil {
		t.Fatal(err)
	}
	if err := pl.on(t, "m1").Open(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile(filepath.Join(pl.dir, "store", "main", "coordination", "plans", p.ID, "plan.json"))
	if err != nil {
		t.Fatal(err)
	}
	var body bytes.Buffer
	if err := json.Compact(&body, doc); err != nil {
		t.Fatal(err)
	}
	text := body.String()
	for field, by := range map[string]string{`"format":"etcd-steward/plan/1",`: ``, `"id":"` + p.ID + `"`: `"id":""`, `,"checksum":"sha256:[0-9a-f]{64}"`: ``} {
		text = regexp.MustCompile(field).ReplaceAllString(text, by)
	}
	sum := sha256.Sum256([]byte(text))
	if got := p.Kind + "-" + hex.EncodeToString(sum[:])[:16]; got != p.ID {
		t.Errorf("by hand it is %s, want %s: %s", got, p.ID, text)
	}
}
