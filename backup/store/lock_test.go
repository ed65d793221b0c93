package store_test

import (
	"bytes"
	"testing"
	"time"

	"etcd-steward/backup/store"
	"etcd-steward/integration/lab"
)

// TestObjectLock: what is locked can be neither deleted nor replaced, and says until when.
func TestObjectLock(t *testing.T) {
	t.Parallel()
	s3 := lab.StartS3(t, lab.S3Options{ObjectLock: true})
	for _, mode := range []string{"governance", "compliance"} {
		t.Run(mode, func(t *testing.T) {
			cfg := below(t, s3, s3.StoreConfig())
			cfg.S3.ObjectLock = store.ObjectLock{Mode: mode, Days: 2}
			s := open(t, cfg)
			data := bytes.Repeat([]byte("x"), 1000)
			parts := store.Source{Reader: bytes.NewReader(make([]byte, 9<<20)), Size: store.Unknown}
			for key, source := range map[string]store.Source{"one": src(data), "parts": parts} {
				put, err := s.Put(t.Context(), key, source, store.PutOptions{IfAbsent: true, Retain: true})
				if err != nil {
					t.Fatalf("Put %s: %v", key, err)
				}
				info, err := s.Head(t.Context(), key)
				if diff := put.RetainUntil.Sub(info.RetainUntil); diff.Abs() > time.Second {
					t.Errorf("Put %s says locked until %v, Head %v", key, put.RetainUntil, info.RetainUntil)
				}
				want := time.Now().AddDate(0, 0, 2)
				if err != nil || info.RetainUntil.Before(want.Add(-time.Minute)) || info.RetainUntil.After(want.Add(time.Minute)) {
					t.Errorf("Head %s: locked until %v, %v, want %v", key, info.RetainUntil, err, want)
				}
				wantKind(t, s.Delete(t.Context(), key), store.Locked, "delete "+key+": locked: until "+info.RetainUntil.UTC().Format(time.RFC3339))
				_, err = s.Put(t.Context(), key, src([]byte("other")), store.PutOptions{IfAbsent: true})
				wantKind(t, err, store.Exists)
			}
			wantContent(t, s, "one", data)
			if all, markers := s3.Versions(t.Name()); len(all) != 2 || len(markers) != 0 {
				t.Errorf("got the versions %v and delete markers %v, want the two objects alone", all, markers)
			}

			// Without Retain nothing is locked.
			if _, err := s.Put(t.Context(), "free", src(data), store.PutOptions{}); err != nil {
				t.Fatal(err)
			}
			if info, err := s.Head(t.Context(), "free"); err != nil || !info.RetainUntil.IsZero() {
				t.Errorf("Head: locked until %v, %v, want no lock", info.RetainUntil, err)
			}
			if err := s.Delete(t.Context(), "free"); err != nil {
				t.Errorf("Delete: %v", err)
			}

			// S3 lets a locked object be hidden by a new version; the locked one stays.
			if _, err := s.Put(t.Context(), "one", src([]byte("newer")), store.PutOptions{}); err != nil {
				t.Errorf("overwrite: %v", err)
			}
			if all, _ := s3.Versions(t.Name() + "/one"); len(all) != 2 {
				t.Errorf("got the versions %v after an overwrite, want the locked one and the new one", all)
			}
		})
	}
}

// TestLockWithoutLock: a lock that is configured and cannot be had is an error. (versitygw 1.8.0 answers 400 and keeps the object all the
// same, without a lock. Probe, which a daemon runs first, refuses such a bucket before anything is put: TestProbeLock.)
func TestLockWithoutLock(t *testing.T) {
	s3 := lab.StartS3(t, lab.S3Options{})
	cfg := s3.StoreConfig()
	cfg.S3.ObjectLock = store.ObjectLock{Mode: "compliance", Days: 1}
	s := open(t, cfg)
	_, err := s.Put(t.Context(), "a", src([]byte("x")), store.PutOptions{IfAbsent: true, Retain: true})
	wantKind(t, err, store.Unsupported)
	_, err = store.Open(t.Context(), store.Config{URL: "file://" + t.TempDir(), S3: store.S3Options{ObjectLock: cfg.S3.ObjectLock}})
	wantKind(t, err, store.Unsupported, "a folder cannot lock objects")
}
