package machines

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"etcd-steward/integration/lab"
)

// TestWriter: a writer loses nothing and fails nothing while the leader's machine loses its power or is cut off, and says so when there is no quorum, and when
// something was lost.
func TestWriter(t *testing.T) {
	t.Parallel()
	n := Start(t, Options{Count: 3})
	c := Etcd(t, n, EtcdOptions{})
	cli := c.Client(t)
	w := Write(t, c.ClientConfig(t), WriterOptions{})
	progress := func() {
		t.Helper()
		was := w.Report().Acknowledged
		lab.Eventually(t, 10*time.Second, "writes go on", func() error {
			if got := w.Report().Acknowledged; got < was+20 {
				return context.DeadlineExceeded
			}
			return nil
		})
	}
	progress()
	leader := c.Leader(t)
	leader.PowerCut(t)
	progress()
	leader.Boot(t)
	c.WaitHealthy(t)
	leader = c.Leader(t)
	leader.Cut(t)
	progress()
	leader.Heal(t)
	c.WaitHealthy(t)
	r := w.Finish(t, cli)
	r.Check(t, 15*time.Second)
	if r.Stall < 500*time.Millisecond || len(r.Tries) == 0 {
		t.Errorf("losing the leader was not noticed: %v", r)
	}

	bad := Write(t, c.ClientConfig(t), WriterOptions{Prefix: "/bad/", Write: time.Second, Try: 300 * time.Millisecond})
	for _, m := range n.Machines[1:] {
		m.Cut(t)
	}
	lab.Eventually(t, 20*time.Second, "writes fail without a quorum", func() error {
		if bad.Report().Failed == 0 {
			return context.DeadlineExceeded
		}
		return nil
	})
	for _, m := range n.Machines {
		m.Heal(t)
	}
	c.WaitHealthy(t)
	bad.stop()
	if _, err := cli.Delete(t.Context(), bad.key(0)); err != nil {
		t.Fatal(err)
	}
	for want, check := range map[string]func(lab.T){
		bad.key(0):             func(t lab.T) { bad.Finish(t, cli) },
		"no failed write":      func(t lab.T) { bad.Report().Check(t, time.Hour) },
		(r.Stall - 1).String(): func(t lab.T) { r.Check(t, r.Stall-1) },
	} {
		if got := failure(t, check); !strings.Contains(got, want) {
			t.Errorf("the test should fail for %s: %q", want, got)
		}
	}
}

// failing is a T that notes why it failed.
type failing struct {
	lab.T
	why string
}

func (f *failing) Fatalf(format string, args ...any) {
	f.why = fmt.Sprintf(format, args...)
	panic(f)
}

// failure runs check and returns with what it failed.
func failure(t *testing.T, check func(lab.T)) (why string) {
	t.Helper()
	f := &failing{T: t}
	defer func() {
		if r := recover(); r != nil {
			if r != f {
				panic(r)
			}
			why = f.why
		}
	}()
	check(f)
	return ""
}
