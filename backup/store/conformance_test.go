package store_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"etcd-steward/backup/store"
	"etcd-steward/backup/store/faults"
	"etcd-steward/backup/store/storetest"
	"etcd-steward/integration/lab"
)

// open opens a store or ends the test.
func open(t *testing.T, cfg store.Config) store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), cfg)
	if err != nil {
		t.Fatalf("Open %s: %v", cfg.URL, err)
	}
	return s
}

// below gives every test a prefix of its own in one server's bucket.
func below(t *testing.T, s3 *lab.S3, cfg store.Config) store.Config {
	cfg.URL = "s3://" + s3.Bucket + "/" + strings.ReplaceAll(t.Name(), "#", "-")
	return cfg
}

func uploadsOf(s3 *lab.S3) func(*testing.T) []string {
	return func(*testing.T) []string { return s3.Uploads() }
}

func TestFile(t *testing.T) {
	t.Parallel()
	var root string
	storetest.Run(t, func(t *testing.T) store.Store {
		root = t.TempDir()
		return open(t, store.Config{URL: "file://" + root})
	}, storetest.Options{Leftovers: func(t *testing.T) []string {
		left, err := filepath.Glob(filepath.Join(root, ".steward", "tmp", "*"))
		if err != nil {
			t.Fatal(err)
		}
		checkModes(t, root)
		return left
	}})
}

// checkModes: nobody but the owner may read backups.
func checkModes(t *testing.T, root string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		st, err := d.Info()
		if err != nil {
			return err
		}
		want := os.FileMode(0o600)
		if d.IsDir() {
			want = 0o700
		}
		if st.Mode().Perm() != want {
			t.Errorf("%s has the mode %v, want %v", path, st.Mode().Perm(), want)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestS3(t *testing.T) {
	t.Parallel()
	s3 := lab.StartS3(t, lab.S3Options{})
	storetest.Run(t, func(t *testing.T) store.Store {
		return open(t, below(t, s3, s3.StoreConfig()))
	}, storetest.Options{Leftovers: uploadsOf(s3)})
}

// TestS3Multipart sends everything above 1000 bytes in parts.
func TestS3Multipart(t *testing.T) {
	t.Parallel()
	s3 := lab.StartS3(t, lab.S3Options{})
	storetest.Run(t, func(t *testing.T) store.Store {
		cfg := below(t, s3, s3.StoreConfig())
		cfg.S3.SinglePutMax = 1000
		cfg.S3.PartSize = 5 << 20
		return open(t, cfg)
	}, storetest.Options{Leftovers: uploadsOf(s3), Quick: true})
}

func TestS3PlainHTTP(t *testing.T) {
	t.Parallel()
	s3 := lab.StartS3(t, lab.S3Options{PlainHTTP: true})
	storetest.Run(t, func(t *testing.T) store.Store {
		return open(t, below(t, s3, s3.StoreConfig()))
	}, storetest.Options{
		Leftovers: uploadsOf(s3), Quick: true, Only: []string{"Content", "Ranges", "Exclusive", "Swap", "OddKeys", "Errors"},
	})
}

// TestS3Faulty runs the same suite while about every fourth request goes wrong.
func TestS3Faulty(t *testing.T) {
	t.Parallel()
	s3 := lab.StartS3(t, lab.S3Options{})
	storetest.Run(t, func(t *testing.T) store.Store {
		tr := faults.New(faults.Options{
			Seed: lab.Seed(t) | 1,
			Chance: map[faults.Fault]float64{
				faults.LostAnswer: 0.05, faults.LateError500: 0.03, faults.Refused: 0.03, faults.Reset: 0.03, faults.Error500: 0.03, faults.Error503: 0.03,
				faults.Conflict: 0.05, faults.CutBody: 0.05, faults.Slow: 0.02,
			},
			Spare: func(req *http.Request, f faults.Fault) bool {
				// A lost answer to the beginning of a multipart upload leaves an upload whose ID nobody knows. No client can
				// prevent that; the bucket's lifecycle rule cleans it up (docs/SECURITY.md).
				return begins(req) && (f == faults.LostAnswer || f == faults.LateError500 || f == faults.CutBody)
			},
		})
		t.Cleanup(func() { t.Logf("seed %d, injected %v", tr.Seed, tr.Counts()) })
		cfg := below(t, s3, s3.StoreConfig())
		cfg.S3.Transport = tr.Wrap
		cfg.S3.BackoffMax = 5 * time.Millisecond
		return open(t, cfg)
	}, storetest.Options{Leftovers: uploadsOf(s3), Lossy: true})
}

func begins(req *http.Request) bool {
	return req.Method == http.MethodPost && req.URL.Query().Has("uploads")
}
