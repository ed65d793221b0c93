package main

import (
	"errors"
	"strings"
	"testing"
	"time"

	"etcd-steward/integration/lab"
	"etcd-steward/integration/machines"
)

// TestMachinesCutOff: the operator's machine loses its network in the middle of a replacement, between the removal and the addition, and with it the cluster and the
// store. Nothing is done blindly meanwhile; when the network is back, the plan goes on to its end, and whoever writes has noticed nothing.
func TestMachinesCutOff(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 4, 3, machines.EtcdOptions{PlainHTTP: true})
	by, lost := f.n.Machine("m4"), f.c.Members[2]
	at := []string{"--endpoints", strings.Join(f.c.Endpoints()[:2], ",")}
	cli := f.c.Client(t, f.c.Endpoints()[:2]...)
	w := machines.Write(t, f.c.ClientConfig(t, f.c.Endpoints()[:2]...), machines.WriterOptions{})
	f.wipe(lost)
	lab.Eventually(t, time.Minute, "the wiped member does not answer", func() error {
		if r := by.Run(t.Context(), stewardArgs(append(at, "member", "replace", "etcd3", "--dry-run")...)...); r.Code != 0 {
			return errors.New(r.Stderr)
		}
		return nil
	})
	op, id := f.begin(by, append([]string{"member", "replace", "etcd3"}, at...)...)
	join := lost.Exec(t, stewardArgs("member", "join", id, "--yes")...)
	lab.Eventually(t, 3*time.Minute, "the removed member is to be added again", func() error {
		if text := op.Tail(64 << 10); !strings.Contains(text, "add-member: add") {
			return errors.New(text)
		}
		return nil
	})
	by.Cut(t)
	select { // either it gives up, or it is still trying when the network is back
	case <-op.Done():
	case <-time.After(20 * time.Second):
	}
	by.Heal(t)
	<-op.Done()
	if op.Err() != nil {
		t.Logf("cut off, it ended: %s", op.Tail(2<<10))
		if text := op.Tail(64 << 10); !strings.Contains(text, "hint: ") {
			t.Errorf("it says no way on:\n%s", text)
		}
		rest := by.Exec(t, stewardArgs(append([]string{"plan", "run", id, "--party", "operator", "--yes"}, at...)...)...)
		<-join.Done()
		if join.Err() != nil { // what it waited for had failed
			f.run(0, lost.Machine, "member", "join", id, "--yes")
		}
		f.end(rest)
	}
	f.c.WaitHealthy(t)
	f.want(cli, "etcd1", "etcd2", "etcd3")
	w.Finish(t, cli).Check(t, stallMax)
}
