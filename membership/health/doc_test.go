package health

import (
	"os"
	"strings"
	"testing"
)

// TestDocs: docs/HEALTH.md has a row for every kind, and for no other.
func TestDocs(t *testing.T) {
	text, err := os.ReadFile("../../docs/HEALTH.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]int{}
	for line := range strings.SplitSeq(string(text), "\n") {
		if name, ok := strings.CutPrefix(line, "| `"); ok {
			name, _, _ = strings.Cut(name, "`")
			rows[name]++
		}
	}
	for _, k := range Kinds() {
		if rows[string(k)] != 1 {
			t.Errorf("%s has %d rows", k, rows[string(k)])
		}
		delete(rows, string(k))
	}
	if len(rows) > 0 {
		t.Errorf("no kinds: %v", rows)
	}
}
