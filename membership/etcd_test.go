package membership

import (
	"testing"

	"etcd-steward/integration/lab"
)

// TestGrowReplaceShrink: one member becomes three, one of them dies and is replaced, and two go again, while somebody writes; on every version of etcd.
func TestGrowReplaceShrink(t *testing.T) {
	slow(t)
	for _, version := range []string{"3.5", "3.6", "3.7"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, lab.EtcdOptions{Version: version})
			cli := r.ClientOf(t, 0)
			w := r.write()
			r.add("m1", false)
			r.add("m2", false)
			r.want(cli, "m0", "m1", "m2")
			dead := r.Members[2]
			dead.Proc.Kill()
			if _, err := r.origin("").Add(Newcomer{Name: "m3", PeerURL: "http://" + lab.FreeAddr(t)}); err == nil {
				t.Error("an addition beside a dead member of three is planned")
			}
			n := r.newcomer("m2", dead.PeerURL) // its disk is lost
			p, err := r.origin("").Replace(Replacement{Who: "m2"})
			if _, err := r.do(p, err, n); err != nil {
				t.Fatalf("replace: %v", err)
			}
			r.want(cli, "m0", "m1", "m2")
			w.Finish(t, cli).Check(t, stallMax)
			w = r.write()
			// The leader itself goes: its leadership is moved first.
			leader := r.Members[r.Leader(t)].Name
			stay := r.ClientOf(t, (r.Leader(t)+1)%3)
			p, err = r.origin("the test shrinks it").Remove(leader)
			if _, err := r.do(p, err, nil); err != nil {
				t.Fatalf("remove the leader %s: %v", leader, err)
			}
			w.Finish(t, stay).Check(t, stallMax)
		})
	}
}

// TestFiveAndBack: one member becomes five, and one again; nothing that is written fails.
func TestFiveAndBack(t *testing.T) {
	slow(t)
	t.Parallel()
	r := newRig(t, lab.EtcdOptions{})
	cli := r.ClientOf(t, 0)
	w := r.write()
	for _, name := range []string{"m1", "m2", "m3", "m4"} {
		r.add(name, false)
	}
	r.want(cli, "m0", "m1", "m2", "m3", "m4")
	for i, name := range []string{"m4", "m3", "m2", "m1"} {
		p, err := r.origin("the test shrinks it").Remove(name)
		if _, err := r.do(p, err, nil); err != nil {
			t.Fatalf("remove %s: %v", name, err)
		}
		r.Members = r.Members[:4-i]
	}
	r.want(cli, "m0")
	w.Finish(t, cli).Check(t, stallMax)
}
