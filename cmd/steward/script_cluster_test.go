package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"etcd-steward/integration/lab"
)

// clusterKey is where a script keeps its cluster of several members.
type clusterKey struct{}

// clusterCommands start and break clusters of a script's own:
//
//	cluster MEMBERS [VERSION [FLAGS...]]: sets ETCDCTL_ENDPOINTS to the first one's, and MEMBER0, MEMBER1, ... to each's.
//	crash MEMBER, pause MEMBER: by number.
//	lead MEMBER: it becomes the leader.
func clusterCommands(t *testing.T) map[string]func(ts *testscript.TestScript, neg bool, args []string) {
	of := func(ts *testscript.TestScript) *lab.Cluster {
		c, ok := ts.Value(clusterKey{}).(**lab.Cluster)
		if !ok || *c == nil {
			ts.Fatalf("there is no cluster yet")
		}
		return *c
	}
	number := func(ts *testscript.TestScript, neg bool, args []string) int {
		if neg || len(args) != 1 {
			ts.Fatalf("usage: crash|pause|lead MEMBER")
		}
		n, err := strconv.Atoi(args[0])
		ts.Check(err)
		return n
	}
	return map[string]func(ts *testscript.TestScript, neg bool, args []string){
		"cluster": func(ts *testscript.TestScript, neg bool, args []string) {
			if neg || len(args) < 1 {
				ts.Fatalf("usage: cluster MEMBERS [VERSION [FLAGS...]]")
			}
			n, err := strconv.Atoi(args[0])
			ts.Check(err)
			o := lab.EtcdOptions{UnsafeNoFsync: true, Members: n}
			if len(args) > 1 {
				o.Version, o.ExtraArgs = args[1], args[2:]
			}
			c := lab.StartEtcd(t, o)
			slot, ok := ts.Value(clusterKey{}).(**lab.Cluster)
			if !ok {
				ts.Fatalf("no place for a cluster")
			}
			*slot = c
			ts.Setenv("ETCDCTL_ENDPOINTS", c.Endpoint(0))
			ts.Setenv("ALL_ENDPOINTS", strings.Join(c.Endpoints(), ","))
			for i := range n {
				ts.Setenv(fmt.Sprint("MEMBER", i), c.Endpoint(i))
			}
		},
		"lead":  func(ts *testscript.TestScript, neg bool, args []string) { lead(t, of(ts), number(ts, neg, args)) },
		"crash": func(ts *testscript.TestScript, neg bool, args []string) { of(ts).Kill(number(ts, neg, args)) },
		"pause": func(ts *testscript.TestScript, neg bool, args []string) { of(ts).Pause(t, number(ts, neg, args)) },
	}
}

// lead makes a member the leader, if it is not.
func lead(t *testing.T, c *lab.Cluster, i int) {
	t.Helper()
	lab.Eventually(t, 20*time.Second, c.Members[i].Name+" leads", func() error {
		leader := c.Leader(t)
		if leader == i {
			return nil
		}
		st, err := c.ClientOf(t, i).Status(t.Context(), c.Endpoint(i))
		if err != nil {
			return err
		}
		if _, err := c.ClientOf(t, leader).MoveLeader(t.Context(), st.Header.MemberId); err != nil {
			return err
		}
		return errors.New("it is being moved")
	})
}
