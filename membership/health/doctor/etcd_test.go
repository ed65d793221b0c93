package doctor

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"etcd-steward/integration/lab"
)

// versions are those that every scenario is played with.
var versions = []string{"3.5", "3.6", "3.7"}

// scenarios each bring a real etcd, or a real client of it, to say something; what is returned is a log with that in it.
var scenarios = []struct {
	want string // the signature
	play func(t *testing.T, version string) (log string)
	// only are the versions that say it; nil: all.
	only []string
}{
	{"wiped-disk", playWiped, nil},
	{"already-bootstrapped", playBootstrapped, nil},
	{"removed-member", playRemoved, nil},
	{"cluster-id", playOtherCluster, nil},
	{"stale-log", playStale, []string{"3.6", "3.7"}}, // 3.5 says nothing: it only fails to publish itself
	{"member-list", playWrongName, nil},
	{"downgraded", playDowngrade, []string{"3.5", "3.6"}},
	{"divergence", playDivergence, nil},
	{"wal-damaged", playDamagedWAL, nil},
	{"db-damaged", playDamagedDB, nil},
	{"nospace", playNoSpace, nil},
	{"snapshot-file", playSnapshotFile, []string{"3.7"}},
	{"no-quorum", playAlone, []string{"3.6"}}, // 7 s until it says so; that the others hold the text is tested
	{"unhealthy-cluster", playUnhealthy, nil},
	{"too-many-learners", playTwoLearners, nil},
	{"learner-behind", playEarlyPromotion, nil},
	{"certificate-expired", playExpired, nil},
	{"certificate-authority", playOtherCA, nil},
	{"no-client-certificate", playNoCertificate, nil},
	{"plaintext", playPlaintext, nil},
	{"key-pair", playKeyPair, nil},
	{"address-in-use", playPortTaken, nil},
	{"address-unknown", playNoSuchAddress, nil},
	{"data-dir-access", playNotAllowed, nil},
	{"data-dir-locked", playLocked, []string{"3.6"}}, // 10 s, likewise
	{"disk-full", playDiskFull, nil},
	{"flags", playUnknownFlag, nil},
}

// TestRealLogs: what etcd really writes is recognised, in every version.
func TestRealLogs(t *testing.T) {
	if testing.Short() {
		t.Skip("starts etcd")
	}
	for _, s := range scenarios {
		for _, version := range versions {
			if s.only != nil && !slices.Contains(s.only, version) {
				continue
			}
			t.Run(s.want+"/"+version, func(t *testing.T) {
				t.Parallel()
				path := s.play(t, version)
				if dir := os.Getenv("KEEP"); dir != "" {
					t.Cleanup(func() {
						b, _ := os.ReadFile(path)
						_ = os.WriteFile(filepath.Join(dir, s.want+"-"+version+".log"), b, 0o600)
					})
				}
				lab.Eventually(t, 30*time.Second, "the log shows "+s.want, func() error {
					r := diagnose(t, path)
					var ids []string
					for _, f := range r.Found {
						ids = append(ids, f.ID)
						if f.ID == s.want && (f.Lines < 1 || f.Example == "" || f.First.Line < 1 || f.Last.Line < f.First.Line) {
							t.Fatalf("%s: %+v", f.ID, f)
						}
					}
					if !slices.Contains(ids, s.want) {
						return fmt.Errorf("it shows %v", ids)
					}
					return nil
				})
			})
		}
	}
}

// diagnose reads a log.
func diagnose(t *testing.T, path string) *Report {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	r, err := Read(t.Context(), f, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return r
}
