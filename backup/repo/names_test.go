package repo

import (
	"strings"
	"testing"
	"time"
)

func TestKeys(t *testing.T) {
	tl := Timeline{Cluster: clusterA, Cut: 12}
	id := NewSnapshotID(day)
	for _, encrypted := range []bool{false, true} {
		n, err := parseSnapshotKey(DataKey(tl, 0x1f, id, encrypted))
		if want := (name{timeline: tl, revision: 0x1f, id: id, encrypted: encrypted}); err != nil || n != want {
			t.Errorf("%+v, %v, want %+v", n, err, want)
		}
	}
	n, err := parseSnapshotKey(ManifestKey(tl, 0x1f, id))
	if want := (name{timeline: tl, revision: 0x1f, id: id, manifest: true}); err != nil || n != want {
		t.Errorf("%+v, %v, want %+v", n, err, want)
	}
	if got, want := DataKey(tl, 0x1f, "01JD4T3Q9XKZ4W9E5V2B7M6N8P", true), "cdf818194e3a8c32-12/snapshots/2024-11/000000000000001f-01JD4T3Q9XKZ4W9E5V2B7M6N8P.db.zst.age"; got != want {
		t.Errorf("DataKey: %s, want %s", got, want)
	}
}

func TestForeignKeys(t *testing.T) {
	good := ManifestKey(Timeline{Cluster: clusterA, Cut: 1}, 31, "01JD4T3Q9XKZ4W9E5V2B7M6N8P")
	if _, err := parseSnapshotKey(good); err != nil {
		t.Fatal(err)
	}
	for _, change := range [][2]string{
		{"-1/", "-0/"},
		{"-1/", "-01/"},
		{"-1/", "/"},
		{"-1/", "-4294967296/"},
		{"cdf8", "CDF8"},
		{"cdf8", "df8"},
		{"/snapshots", "/changes"},
		{"/snapshots", "/snapshots/x"},
		{"/2024-11/", "/2024-12/"},
		{"/2024-11/", "/2024-11-19/"},
		{"/2024-11/", "/"},
		{".json", ".JSON"},
		{".json", ""},
		{".json", ".json.age"},
		{".json", ".db.zst.age.tmp"},
		{"-01JD", "-01jd"},
		{"-01JD", "-81JD"},
		{"-01JD", "_01JD"},
		{"/0000000000", "/000000000"},
		{"/000000000000001f", "/000000000000001F"},
		{"/000000000000001f", "/800000000000001f"},
		{"cdf8", "/cdf8"},
	} {
		key := strings.Replace(good, change[0], change[1], 1)
		if n, err := parseSnapshotKey(key); err == nil {
			t.Errorf("%s is read as %+v", key, n)
		}
	}
}

// FuzzParseSnapshotKey: what is accepted is exactly what the writers of names make.
func FuzzParseSnapshotKey(f *testing.F) {
	f.Add(ManifestKey(Timeline{Cluster: clusterA, Cut: 1}, 31, "01JD4T3Q9XKZ4W9E5V2B7M6N8P"))
	f.Add(DataKey(Timeline{Cluster: 1, Cut: 4294967295}, 1<<62, "7ZZZZZZZZZZZZZZZZZZZZZZZZZ", false))
	f.Add(DataKey(Timeline{Cluster: clusterB, Cut: 2}, 1, "00000000000000000000000000", true))
	f.Fuzz(func(t *testing.T, key string) {
		n, err := parseSnapshotKey(key)
		if err != nil {
			return
		}
		want := DataKey(n.timeline, n.revision, n.id, n.encrypted)
		if n.manifest {
			want = ManifestKey(n.timeline, n.revision, n.id)
		}
		if key != want {
			t.Fatalf("%q is accepted, but written %q", key, want)
		}
	})
}

func TestIDs(t *testing.T) {
	at := time.Date(2026, 11, 20, 1, 2, 3, 456789000, time.FixedZone("", 7200))
	id := NewSnapshotID(at)
	if got := id.Time(); !got.Equal(at.Truncate(time.Millisecond)) || got.Location() != time.UTC {
		t.Errorf("the ID's time is %v, want %v", got, at)
	}
	if NewSnapshotID(at) == id || NewSnapshotID(at.Add(time.Millisecond)) < id {
		t.Error("IDs repeat, or do not sort by time")
	}
	for _, bad := range []string{"", "01JD4T3Q9XKZ4W9E5V2B7M6N8", "01JD4T3Q9XKZ4W9E5V2B7M6N8PP", "01jd4t3q9xkz4w9e5v2b7m6n8p", "81JD4T3Q9XKZ4W9E5V2B7M6N8P", "01JD4T3Q9XKZ4W9E5V2B7M6N8I"} {
		if _, err := ParseSnapshotID(bad); err == nil {
			t.Errorf("%q is an ID", bad)
		}
	}
	for _, bad := range []string{"", "1-1", "00000000000000010-1", "0000000000000001", "0000000000000001-", "0000000000000001-0", "0000000000000001-+1", "000000000000000g-1", "0x00000000000001-1", "0000_00000000001-1"} {
		if tl, err := ParseTimeline(bad); err == nil {
			t.Errorf("%q is timeline %v", bad, tl)
		}
	}
	for name, ok := range map[string]bool{
		"main": true, "a": true, "K8s_events-1.eu": true, "": false, "-a": false, ".": false, "..": false, "a/b": false, "a b": false, "é": false,
		strings.Repeat("a", 63): true, strings.Repeat("a", 64): false,
	} {
		if err := ValidateClusterName(name); (err == nil) != ok {
			t.Errorf("cluster name %q: %v", name, err)
		}
	}
}
