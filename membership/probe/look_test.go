package probe

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"etcd-steward/integration/lab"
	"etcd-steward/internal/fail"
)

var versions = []string{"3.5", "3.6", "3.7"}

// slow says why a test that starts servers does not run with -short.
func slow(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("starts etcd")
	}
}

// start is lab.StartEtcd for members that need not end in order: several that do wait for each other.
func start(t *testing.T, o lab.EtcdOptions) *lab.Cluster {
	t.Helper()
	c := lab.StartEtcd(t, o)
	t.Cleanup(func() {
		for i := range c.Members {
			c.Kill(i)
		}
	})
	return c
}

// look must succeed within the time that is allowed.
func look(t *testing.T, within time.Duration, a Access, o Options) *View {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	begun := time.Now()
	v, err := Look(ctx, a, o)
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begun); took > within+500*time.Millisecond {
		t.Errorf("it took %v, more than %v", took, within)
	}
	return v
}

// text is a view in the log of a failed test.
func text(v *View) string {
	var b strings.Builder
	for _, a := range v.Answers {
		fmt.Fprintf(&b, "\n%s given=%v named=%x id=%x version=%s leader=%x quorum=%v members=%d hash=%v (%v) auth=%v err=%v",
			a.Endpoint, a.Given, a.Named, a.MemberID, a.Version, a.Leader, a.Quorum, len(a.Members), a.Hash, a.HashErr, a.AuthErr, a.Err)
	}
	return b.String()
}

// TestLook: one endpoint is enough to see all of a cluster, of every version, with all that can be known of each.
func TestLook(t *testing.T) {
	slow(t)
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			c := start(t, lab.EtcdOptions{Version: version, Members: 3, TLS: true, UnsafeNoFsync: true})
			lab.Fill(t, c.Client(t), lab.FillOptions{Keys: 20})
			a := Access{Endpoints: []string{c.Endpoint(1)}, TLS: c.TLSConfig(t)}
			v := look(t, 5*time.Second, a, Options{Hash: true, Metrics: true})
			if len(v.Answers) != 3 || !v.Answers[0].Given || v.Answers[0].Endpoint != c.Endpoint(1) {
				t.Fatalf("got %s", text(v))
			}
			var first *Hash
			for _, a := range v.Answers {
				if a.Err != nil || !strings.HasPrefix(a.Version, version) || a.Leader == 0 || !a.Quorum || len(a.Members) != 3 || a.Term == 0 || a.Applied == 0 || a.DBSize == 0 || a.Revision < 2 {
					t.Errorf("got %+v", a)
				}
				if a.Quota != 2<<30 || a.ClusterVersion != version+".0" || a.Metrics == nil || a.Metrics.Fsync.Count == 0 || a.Metrics.Commit.Count == 0 || time.Since(a.Metrics.Started) > time.Minute {
					t.Errorf("over HTTP: quota %d, %q, %+v", a.Quota, a.ClusterVersion, a.Metrics)
				}
				if !a.ClockKnown || a.Clock.Abs() > 1500*time.Millisecond {
					t.Errorf("clock %v, %v", a.Clock, a.ClockKnown)
				}
				if len(a.Certificates) == 0 || a.Certificates[0].Subject.CommonName != "etcd" {
					t.Errorf("it showed %d certificates", len(a.Certificates))
				}
				if first == nil {
					first = a.Hash
				}
				if a.Hash == nil || *a.Hash != *first || a.Hash.Revision != a.Revision {
					t.Errorf("hashes differ: %s", text(v))
				}
			}
			if len(v.Shown) != 1 || v.Shown[0].Subject.CommonName != "client" {
				t.Errorf("we show %d certificates", len(v.Shown))
			}
			agreed := v.Agreed()
			if !agreed.Quorum || len(agreed.Members) != 3 || len(agreed.Dissent) != 0 || agreed.Leader != v.Answers[0].Leader || agreed.Members[0].Name != "m0" {
				t.Errorf("agreed: %+v", agreed)
			}
			if s := v.Cluster().State(); s.Up != 3 || s.Tolerates() != 1 {
				t.Errorf("state %v", s)
			}
			// After a compaction at the newest revision, which 3.5 gives no hash for by name.
			if _, err := c.Client(t).Compact(t.Context(), v.Answers[0].Revision, clientv3.WithCompactPhysical()); err != nil {
				t.Fatal(err)
			}
			c.Stop(2) // whoever was started again has forgotten the hash of before the compaction
			c.Restart(t, 2)
			c.WaitHealthy(t)
			lab.Eventually(t, 10*time.Second, "equal hashes after a compaction", func() error {
				v := look(t, 5*time.Second, a, Options{Hash: true})
				for _, a := range v.Answers {
					if a.Hash == nil || *a.Hash != *v.Answers[0].Hash || a.Hash.Revision != a.Revision {
						return fmt.Errorf("got %s", text(v))
					}
				}
				return nil
			})
		})
	}
}

// TestOneLeft: of three members one answers, without a quorum; it tells what it knows, and whom it misses.
func TestOneLeft(t *testing.T) {
	slow(t)
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			c := start(t, lab.EtcdOptions{Version: version, Members: 3, UnsafeNoFsync: true})
			c.Kill(0)
			c.Kill(2)
			a := Access{Endpoints: []string{c.Endpoint(1)}}
			lab.Eventually(t, 20*time.Second, "the leader is missed", func() error {
				v := look(t, 5*time.Second, a, Options{Hash: true, Metrics: true})
				agreed := v.Agreed()
				up := v.Answering()
				if len(v.Answers) != 3 || len(up) != 1 || up[0].Quorum || up[0].Leader != 0 || up[0].Hash == nil || agreed.Quorum || len(agreed.Members) != 3 || agreed.Leader != 0 {
					return fmt.Errorf("agreed %+v: %s", agreed, text(v))
				}
				for _, a := range v.Answers[1:] {
					if a.Err == nil || a.Named == 0 || !strings.Contains(a.Err.Error(), "refused") || fail.HintOf(a.Err) == "" {
						return fmt.Errorf("a dead one says %w", a.Err)
					}
				}
				if s := v.Cluster().State(); s.Up != 0 || s.Voters != 3 {
					return fmt.Errorf("state %v", s)
				}
				return nil
			})
		})
	}
}

// TestBlackHoles: of five members two swallow every packet, one of them the first endpoint that is given: it costs one timeout.
func TestBlackHoles(t *testing.T) {
	slow(t)
	c := start(t, lab.EtcdOptions{Members: 5, TLS: true, UnsafeNoFsync: true})
	c.Pause(t, 3)
	c.Pause(t, 4)
	cli := c.ClientOf(t, 0)
	lab.Eventually(t, 30*time.Second, "the others have a leader", func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		_, err := cli.Get(ctx, "x")
		return err
	})
	hole := lab.BlackHole(t)
	a := Access{Endpoints: []string{"https://" + hole, c.Endpoint(3), c.Endpoint(0)}, TLS: c.TLSConfig(t)}
	v := look(t, 4*time.Second, a, Options{Hash: true, Metrics: true})
	if len(v.Answers) != 6 || len(v.Answering()) != 3 {
		t.Fatalf("got %s", text(v))
	}
	for _, a := range v.Answers {
		if a.Err != nil && !strings.Contains(a.Err.Error(), "no answer in time") {
			t.Errorf("%s: %v", a.Endpoint, a.Err)
		}
		if a.Err == nil && a.Hash == nil {
			t.Errorf("no hash: %s", text(v))
		}
	}
	if s := v.Cluster().State(); s.Voters != 5 || s.Up != 3 || s.Tolerates() != 0 {
		t.Errorf("state %v", s)
	}
	begun := time.Now()
	if _, err := Dial(t.Context(), a, v, 4711); err == nil || time.Since(begun) > time.Second {
		t.Errorf("a member that nobody named: %v after %v", err, time.Since(begun))
	}
	// A Ctrl-C is not an answer.
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, cancel)
	if _, err := Look(ctx, a, Options{}); err == nil {
		t.Error("a look that was interrupted has an answer")
	}
	if c.Members[3].Proc.Signal(syscall.Signal(0)) != nil {
		t.Error("the paused member is gone: the test showed nothing")
	}
}

// TestWrongUse: what no look can begin with.
func TestWrongUse(t *testing.T) {
	for name, endpoints := range map[string][]string{"none": nil, "no URL": {"https://host/path"}, "many": strings.Split(strings.Repeat("h:1 ", 1)+many(), " ")} {
		if _, err := Look(t.Context(), Access{Endpoints: endpoints}, Options{}); fail.ExitCode(err) != fail.Usage || fail.HintOf(err) == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func many() string {
	var all []string
	for i := range maxEndpoints {
		all = append(all, fmt.Sprintf("h%d:1", i))
	}
	return strings.Join(all, " ")
}
