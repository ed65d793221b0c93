package health

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"etcd-steward/integration/lab"
	"etcd-steward/membership/probe"
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

// judged looks at a cluster and judges what it sees.
func judged(t *testing.T, a probe.Access, h *History) (*probe.View, []Finding) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	v, err := probe.Look(ctx, a, probe.Options{Hash: true, Metrics: true})
	if err != nil {
		t.Fatal(err)
	}
	return v, Judge(Input{Now: time.Now(), View: v, History: h})
}

// finds waits until something is found.
func finds(t *testing.T, a probe.Access, h *History, w finding) {
	t.Helper()
	lab.Eventually(t, 20*time.Second, string(w.kind), func() error {
		_, got := judged(t, a, h)
		if !has(got, w) {
			return fmt.Errorf("got %s\nwant %+v", list(got), w)
		}
		return nil
	})
}

// TestWellForReal: a cluster of three of which nothing is wrong, of every version, while it is written to.
func TestWellForReal(t *testing.T) {
	slow(t)
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			c := start(t, lab.EtcdOptions{Version: version, Members: 3, UnsafeNoFsync: true})
			a, h := probe.Access{Endpoints: c.Endpoints()[:1]}, NewHistory()
			stop := make(chan struct{})
			done := make(chan error, 1)
			cli := c.Client(t)
			go func() {
				for i := 0; ; i++ {
					select {
					case <-stop:
						done <- nil
						return
					default:
					}
					if _, err := cli.Put(t.Context(), fmt.Sprint("k", i%7), fmt.Sprint(i)); err != nil {
						done <- err
						return
					}
				}
			}()
			for range 20 {
				v, got := judged(t, a, h)
				if Worst(got) > Info {
					t.Errorf("got %s", list(got))
				}
				h.Add(v)
			}
			close(stop)
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestSplit: one member of three was not wiped when the other two were restored with the same token and peer URLs, and joins them. etcd says that all is well.
func TestSplit(t *testing.T) {
	slow(t)
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			old, restored := halfRestored(t, version)
			m := old.Members[2]
			// With one restored member alone the old one leads, since its log is the longer one; the other restored one then follows.
			opts := lab.EtcdOptions{Version: version, UnsafeNoFsync: true}
			split := lab.StartEtcdMembers(t, opts, []*lab.EtcdMember{restored[0], {Name: m.Name, DataDir: m.DataDir, PeerURL: m.PeerURL}})
			lab.StartEtcdMembers(t, opts, restored[1:])
			a := probe.Access{Endpoints: split.Endpoints()[:1]}
			finds(t, a, nil, finding{Critical, Divergence, "", "different data", "replace"})
			// The revisions alone tell it, too, which cost nothing.
			v, _ := judged(t, a, nil)
			v.Hashed = false
			if got := Judge(Input{Now: time.Now(), View: v}); !has(got, finding{Critical, Divergence, "", "different revisions", "replace"}) {
				t.Errorf("without hashes: got %s", list(got))
			}
		})
	}
}

// TestSplitLate: the same, when the restored members have a leader already. As the terms fall, the old member then joins and diverges, or gets no further than
// to ignore what it is sent, and never answers. It is never taken for well.
func TestSplitLate(t *testing.T) {
	slow(t)
	old, members := halfRestored(t, "3.6")
	split := lab.StartEtcdMembers(t, lab.EtcdOptions{UnsafeNoFsync: true}, members)
	a := probe.Access{Endpoints: append(split.Endpoints(), old.Endpoint(2)), Timeout: time.Second}
	old.Restart(t, 2)
	cli := split.ClientOf(t, 0)
	for round := range 5 {
		for i := range 20 { // until the restored members' log is as long as the other's
			_, _ = cli.Put(t.Context(), fmt.Sprint("new", i), fmt.Sprint(round))
		}
		v, got := judged(t, a, nil)
		if hasKindFound(got, Divergence) {
			return
		}
		if len(v.Answering()) == 3 || !hasKindFound(got, Unreachable) {
			t.Errorf("got %s of %+v", list(got), v.Answers)
		}
	}
	t.Log("the old member does not get as far as to answer")
}

func hasKindFound(all []Finding, k Kind) bool {
	return slices.ContainsFunc(all, func(f Finding) bool { return f.Kind == k })
}

// halfRestored is a cluster of three that was stopped, and its first two members as they were restored from an older snapshot.
func halfRestored(t *testing.T, version string) (old *lab.Cluster, restored []*lab.EtcdMember) {
	t.Helper()
	c := start(t, lab.EtcdOptions{Version: version, Members: 3, UnsafeNoFsync: true})
	put := func(prefix string, n int) {
		for i := range n {
			if _, err := c.Client(t).Put(t.Context(), fmt.Sprint(prefix, i), prefix); err != nil {
				t.Fatal(err)
			}
		}
	}
	put("before", 20)
	file := filepath.Join(t.TempDir(), "snapshot.db")
	save(t, c.Client(t), file)
	put("after", 40)
	var initial []string
	for i, m := range c.Members {
		c.Stop(i)
		initial = append(initial, m.Name+"="+m.PeerURL)
	}
	for _, m := range c.Members[:2] {
		dir := filepath.Join(t.TempDir(), m.Name)
		lab.Etcdutl(t, "snapshot", "restore", file, "--name", m.Name, "--initial-cluster", strings.Join(initial, ","), "--initial-cluster-token", "lab",
			"--initial-advertise-peer-urls", m.PeerURL, "--data-dir", dir)
		restored = append(restored, &lab.EtcdMember{Name: m.Name, DataDir: dir, PeerURL: m.PeerURL})
	}
	return c, restored
}

// save is a snapshot of a live cluster.
func save(t *testing.T, cli *clientv3.Client, path string) {
	t.Helper()
	r, err := cli.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(f, r); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestFull: a database that has reached its quota, and the alarm of a member that is gone.
func TestFull(t *testing.T) {
	slow(t)
	c := start(t, lab.EtcdOptions{Members: 3, UnsafeNoFsync: true, ExtraArgs: []string{"--quota-backend-bytes", "4194304"}})
	a := probe.Access{Endpoints: c.Endpoints()[:1]}
	cli := c.ClientOf(t, 0)
	for i := 0; ; i++ {
		if _, err := cli.Put(t.Context(), fmt.Sprint("k", i), strings.Repeat("x", 100<<10)); errors.Is(err, rpctypes.ErrNoSpace) {
			break
		} else if err != nil || i > 1000 {
			t.Fatalf("put %d: %v", i, err)
		}
	}
	finds(t, a, nil, finding{Critical, AlarmNoSpace, "", "", "steward nospace"}.of(t, a))
	finds(t, a, nil, finding{Critical, Quota, "m0", "of 4.0 MiB", "defrag"})
	list, err := cli.MemberList(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var gone uint64
	for _, m := range list.Members {
		if m.Name == "m2" {
			gone = m.ID
		}
	}
	raise(t, c, gone)
	lab.Eventually(t, 20*time.Second, "etcd takes the removal", func() error {
		_, err := cli.MemberRemove(t.Context(), gone)
		return err
	})
	finds(t, a, nil, finding{Warning, AlarmGone, fmt.Sprintf("%016x", gone), "NOSPACE", "alarm disarm"})
}

// of names the member that has the alarm: whichever noticed first.
func (w finding) of(t *testing.T, a probe.Access) finding {
	t.Helper()
	v, _ := judged(t, a, nil)
	for _, ans := range v.Answers {
		for _, al := range ans.Alarms {
			w.member = v.Agreed().NameOf(al.Member)
		}
	}
	return w
}

// raise makes an alarm, as etcd's own checks do.
func raise(t *testing.T, c *lab.Cluster, member uint64) {
	t.Helper()
	conn, err := probe.DialURL(t.Context(), probe.Access{Endpoints: c.Endpoints()}, c.Endpoint(0), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	request := &pb.AlarmRequest{Action: pb.AlarmRequest_ACTIVATE, MemberID: member, Alarm: pb.AlarmType_NOSPACE}
	if _, err := probe.Call(t.Context(), conn, 5*time.Second, conn.Maintenance().Alarm, request); err != nil {
		t.Fatal(err)
	}
}

// TestLearnerForReal: a learner is seen as one, answers, and tells no hash; when it goes on too long, that is told.
func TestLearnerForReal(t *testing.T) {
	slow(t)
	c := start(t, lab.EtcdOptions{Members: 3, UnsafeNoFsync: true})
	c.AddLearner(t)
	a, h := probe.Access{Endpoints: c.Endpoints()[:1]}, NewHistory()
	finds(t, a, nil, finding{Info, Learner, "m3", "", "member promote m3"})
	v, got := judged(t, a, h)
	if Worst(got) > Info {
		t.Errorf("got %s", list(got))
	}
	v.At = v.At.Add(-11 * time.Minute)
	h.Add(v)
	finds(t, a, h, finding{Warning, Learner, "m3", "11 minutes", "member promote m3"})
}

// TestExpired: an expired certificate is why a member cannot be asked, and both are told.
func TestExpired(t *testing.T) {
	slow(t)
	ca := lab.NewCA(t)
	c := lab.StartEtcd(t, lab.EtcdOptions{TLS: true, ServerPair: ca.Issue(t, "expired", time.Now().Add(-time.Hour)), UnsafeNoFsync: true})
	a := probe.Access{Endpoints: c.Endpoints(), TLS: lab.ClientTLS(t, ca, ca.Issue(t, "client", time.Now().Add(3*24*time.Hour)))}
	finds(t, a, nil, finding{Critical, Expiry, "shown by " + c.Endpoint(0), "has expired", "renew"})
	finds(t, a, nil, finding{Critical, NoAnswer, "", "its certificate expired at", "doctor"})
	finds(t, a, nil, finding{Critical, Expiry, "shown by this client", "expires in 2 days", "renew"})
}
