package membership

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"etcd-steward/integration/lab"
	"etcd-steward/internal/plan"
)

// replacement is a cluster of three with one dead, and that one's machine.
type replacement struct {
	*rig
	cli            *clientv3.Client
	url, root, env string
}

func newReplacement(t *testing.T) *replacement {
	t.Helper()
	r := &replacement{rig: newRig(t, lab.EtcdOptions{Members: 3})}
	r.cli, r.url = r.ClientOf(t, 0), r.PeerURL(2)
	r.Kill(2)
	r.root, r.env = machine(t, "m2")
	r.env += "ETCD_INITIAL_ADVERTISE_PEER_URLS=" + r.url + "\n"
	// It cannot start: where it is let start again, it ends at once.
	r.env += "ETCD_INITIAL_CLUSTER=default=" + r.url + "\nETCD_INITIAL_CLUSTER_STATE=existing\n"
	if err := os.WriteFile(filepath.Join(r.root, "etc/etcd.env"), []byte(r.env), 0o600); err != nil {
		t.Fatal(err)
	}
	return r
}

// old is the member at the machine's address, if there is one.
func (r *replacement) old() (learner, there bool) {
	r.t.Helper()
	list, err := r.cli.MemberList(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	i := slices.IndexFunc(list.Members, func(m *pb.Member) bool { return slices.Contains(m.PeerURLs, r.url) })
	if want := map[bool]int{true: 3, false: 2}[i >= 0]; len(list.Members) != want {
		r.t.Errorf("there are %d members, want %d", len(list.Members), want)
	}
	return i >= 0 && list.Members[i].IsLearner, i >= 0
}

// begin opens a plan that replaces the dead member; one that a plan before has removed is dead anew: it is added, and never starts.
func (r *replacement) begin() (j job) {
	r.t.Helper()
	if _, there := r.old(); !there {
		lab.Eventually(r.t, 20*time.Second, "a dead member is there again", func() error { // etcd wants the others to have been connected for a while
			_, err := r.cli.MemberAdd(r.t.Context(), []string{r.url})
			return err
		})
	}
	return r.crash(map[string]string{Operator: "", "m2": r.root}, func() (plan.Plan, error) { return r.origin("").Replace(Replacement{Who: r.url, Name: "m2"}) })
}

// back: what is left of a replacement that was rolled back is the dead member, or without it two; never a learner, and the machine as it was.
func (r *replacement) back(after []string) {
	r.t.Helper()
	removed := slices.ContainsFunc(after, func(p string) bool { return strings.HasSuffix(p, "begin "+doRemove) })
	learner, there := r.old()
	if learner || !removed && !there {
		r.t.Errorf("the old member is there: %v, as a learner: %v", there, learner)
	}
	if text, err := os.ReadFile(filepath.Join(r.root, "etc/etcd.env")); err != nil || string(text) != r.env {
		r.t.Errorf("the configuration is %q (%v), want %q", text, err, r.env)
	}
	if pid := (procServices{root: r.root}).pid(); !there && pid != 0 {
		r.t.Error("etcd runs on the machine of a member that was removed")
	}
}

// turned is a cluster on which plans are begun and rolled back.
type turned interface {
	begin() job
	back(after []string) // checks what is left, of a plan that came to those points
}

// back kills plans before everything that is journaled, and rolls each back; the last ones' rollback is killed everywhere, too. What is after one thing is before
// the next.
func back(t *testing.T, points []string, shards int, on func(*testing.T) turned) {
	t.Helper()
	var at []int
	for i, p := range points {
		if strings.Contains(p, " before ") {
			at = append(at, i)
		}
	}
	t.Logf("%d points, %d of them before something", len(points), len(at))
	for shard := range shards {
		t.Run(fmt.Sprint("back ", shard), func(t *testing.T) {
			t.Parallel()
			r := on(t)
			for k := shard; k < len(at); k += shards {
				j := r.begin()
				if j.At = points[at[k]]; !j.run(t) {
					t.Fatalf("it was not killed at %q", j.At)
				}
				j.At, j.Back = "", true
				if k < len(at)-1 {
					j.run(t)
				} else if n := len(j.chain(t)); n < 10 {
					t.Errorf("the rollback has only %d points", n)
				}
				r.back(points[:at[k]])
			}
		})
	}
}

// readdressing is a cluster of three, of which one runs on a machine whose address changes.
type readdressing struct {
	*addition
	cli  *clientv3.Client
	next string
}

func newReaddressing(t *testing.T) *readdressing {
	t.Helper()
	a := newAddition(t, 2)
	a.begin().run(t)
	env, err := os.ReadFile(filepath.Join(a.root, "etc/etcd.env"))
	if err != nil {
		t.Fatal(err)
	}
	a.env = string(env)
	return &readdressing{addition: a, cli: a.ClientOf(t, 0), next: "http://" + lab.FreeAddr(t)}
}

func (r *readdressing) begin() (j job) {
	r.t.Helper()
	return r.crash(map[string]string{Operator: "", r.name: r.root}, func() (plan.Plan, error) { return r.origin("").Update(r.name, []string{r.next}, false) })
}

// at wants the member to be at that address, and to serve.
func (r *readdressing) at(url, other string) {
	r.t.Helper()
	lab.Eventually(r.t, 20*time.Second, "the member serves", func() error {
		list, err := r.cli.MemberList(r.t.Context())
		if err != nil {
			return err
		}
		i := slices.IndexFunc(list.Members, func(m *pb.Member) bool { return m.Name == r.name })
		if i < 0 || len(list.Members) != 3 {
			return fmt.Errorf("the members are %v", list.Members)
		}
		if m := list.Members[i]; !slices.Equal(m.PeerURLs, []string{url}) {
			return fmt.Errorf("it is at %q, want %q", m.PeerURLs, url)
		}
		st, err := r.cli.Status(r.t.Context(), list.Members[i].ClientURLs[0])
		if err == nil && st.Leader == 0 {
			err = errors.New("it follows nobody")
		}
		return err
	})
	text, err := os.ReadFile(filepath.Join(r.root, "etc/etcd.env"))
	if err != nil || strings.Contains(string(text), "ADVERTISE_PEER_URLS="+other) || !strings.Contains(string(text), "ADVERTISE_PEER_URLS="+url+"\n") || url == r.url && string(text) != r.env {
		r.t.Errorf("the configuration is %q (%v)", text, err)
	}
}

// TestCrashUpdate: a change of address is killed before and after everything that is journaled, and comes to its end all the same; and is rolled back from each point, and that too is killed
// everywhere.
func TestCrashUpdate(t *testing.T) {
	slow(t)
	t.Parallel()
	r := newReaddressing(t)
	points := r.begin().chain(t)
	r.at(r.next, r.url)
	points = slices.DeleteFunc(points, func(p string) bool { return strings.HasSuffix(p, "after board done "+doVerify) }) // it is done
	if len(points) < 30 {
		t.Errorf("only %d points", len(points))
	}
	back(t, points, 2, func(t *testing.T) turned { return newReaddressing(t) })
}

func (r *readdressing) back([]string) { r.at(r.url, r.next) }
