package maintain

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"etcd-steward/integration/lab"
	"etcd-steward/integration/machines"
	"etcd-steward/internal/fail"
	"etcd-steward/membership/probe"
)

// eachVersion runs a test beside itself on every minor version.
func eachVersion(t *testing.T, f func(t *testing.T, version string)) {
	t.Helper()
	if testing.Short() {
		t.Skip("starts etcd")
	}
	for _, version := range []string{"3.5", "3.6", "3.7"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			f(t, version)
		})
	}
}

func maintained(t *testing.T, c *lab.Cluster) *Cluster {
	return &Cluster{Access: probe.Access{Endpoints: c.Endpoints(), TLS: c.TLSConfig(t)}, Say: func(line string) { t.Log(line) }}
}

func look(t *testing.T, c *Cluster) *probe.View {
	t.Helper()
	v, err := c.Look(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// fill overwrites one key, or writes new ones, until etcd is full.
func fill(t *testing.T, cli *clientv3.Client, key func(i int) string) {
	t.Helper()
	value := strings.Repeat("v", 200<<10)
	i := 0
	lab.Eventually(t, 60*time.Second, "etcd is full", func() error {
		for range 100 {
			i++
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			_, err := cli.Put(ctx, key(i), value)
			cancel()
			if errors.Is(err, rpctypes.ErrNoSpace) {
				return nil
			}
		}
		return errors.New("not yet")
	})
}

// TestNospace: a cluster that is full of history is brought back, also when it is broken off in the middle; whoever writes goes on.
func TestNospace(t *testing.T) {
	eachVersion(t, func(t *testing.T, version string) {
		lc := lab.StartEtcd(t, lab.EtcdOptions{Version: version, Members: 3, UnsafeNoFsync: true, ExtraArgs: []string{"--quota-backend-bytes", "16000000"}})
		cli := lc.Client(t)
		fill(t, cli, func(int) string { return "/registry/pods/one" })
		c := maintained(t, lc)
		if ok, err := c.Writable(t.Context(), look(t, c)); ok || err != nil {
			t.Fatalf("a full cluster is said to accept writes: %t, %v", ok, err)
		}
		wrote := resume(t, cli)
		n, gates := PlanNospace(look(t, c), 0)
		if !n.Needed || len(gates) != 0 || len(n.Defrag.Steps) != 3 {
			t.Fatalf("%+v, %v", n, gates)
		}
		// Broken off while the second member's turn comes.
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		turns := 0
		broken := *c
		broken.Say = func(line string) {
			t.Log(line)
			if strings.HasPrefix(line, "defragmenting") {
				if turns++; turns == 2 {
					cancel()
				}
			}
		}
		if _, err := broken.Free(ctx, n, NospaceOptions{}); !errors.Is(err, context.Canceled) {
			t.Fatalf("broken off: %v", err)
		}
		if len(Alarms(look(t, c))) == 0 {
			t.Fatal("the alarm went before all was done")
		}
		n, gates = PlanNospace(look(t, c), 0)
		if !n.Needed || len(gates) != 0 {
			t.Fatalf("again: %+v, %v", n, gates)
		}
		out, err := c.Free(t.Context(), n, NospaceOptions{})
		if err != nil || !out.Writable || len(out.Members) != 3 || out.FullText != "" {
			t.Fatalf("%+v, %v", out, err)
		}
		select {
		case <-wrote:
		case <-time.After(20 * time.Second):
			t.Fatal("the writer does not go on")
		}
		v := look(t, c)
		if got := Alarms(v); len(got) != 0 {
			t.Errorf("alarms: %+v", got)
		}
		for _, s := range Sizes(v) {
			if s.Size > 8_000_000 {
				t.Errorf("%+v is hardly smaller", s)
			}
		}
		// Once more is nothing but the proof, and that leaves nothing.
		before := v.Answers[0].Revision
		if n, _ := PlanNospace(v, 0); n.Needed {
			t.Errorf("%+v is needed", n)
		}
		if out, err := c.Free(t.Context(), Nospace{}, NospaceOptions{}); err != nil || !out.Writable || len(out.Members) != 0 {
			t.Errorf("again: %+v, %v", out, err)
		}
		leases, err := cli.Leases(t.Context())
		if err != nil || len(leases.Leases) != 0 || look(t, c).Answers[0].Revision != before {
			t.Errorf("the proof left something: %+v (%v), revision %d", leases, err, before)
		}
	})
}

// resume writes until a write is accepted again.
func resume(t *testing.T, cli *clientv3.Client) <-chan struct{} {
	t.Helper()
	wrote := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	t.Cleanup(func() { cancel(); wg.Wait() })
	wg.Go(func() {
		for ctx.Err() == nil {
			try, done := context.WithTimeout(ctx, 5*time.Second)
			_, err := cli.Put(try, "after", "all")
			done()
			if err == nil {
				close(wrote)
				return
			}
			select {
			case <-ctx.Done():
			case <-time.After(50 * time.Millisecond):
			}
		}
	})
	return wrote
}

// TestNospaceOfData: when the data themselves fill it, nothing that may be removed makes room; the alarm stays, and the keys are named.
func TestNospaceOfData(t *testing.T) {
	eachVersion(t, func(t *testing.T, version string) {
		lc := lab.StartEtcd(t, lab.EtcdOptions{Version: version, UnsafeNoFsync: true, ExtraArgs: []string{"--quota-backend-bytes", "8000000"}})
		cli := lc.Client(t)
		c := maintained(t, lc)
		var out Freed
		var err error
		for round := range 3 { // what was free in the file is full of data, too, when it is filled again behind a defragmentation
			fill(t, cli, func(i int) string { return fmt.Sprintf("/registry/events/ns/%d-%04d", round, i) })
			n, _ := PlanNospace(look(t, c), 0)
			if out, err = c.Free(t.Context(), n, NospaceOptions{}); err != nil {
				break
			}
		}
		if fail.ExitCode(err) != fail.Unsafe || out.Writable || len(out.Full) == 0 || out.Full[0].Prefix != "/registry/events/" || out.Full[0].Keys < 20 || out.FullText == "" {
			t.Fatalf("%+v, %v", out, err)
		}
		if est, want := out.Full[0].Bytes, out.Full[0].Keys*200<<10; est < want || est > want*11/10 {
			t.Errorf("estimated %d bytes, want about %d", est, want)
		}
		if len(Alarms(look(t, c))) == 0 {
			t.Error("the alarm is gone, and it would come back")
		}
	})
}

// TestDefragWhileWriting: three members are defragmented while somebody writes and reads through all of them. Nothing that etcd could have served fails.
func TestDefragWhileWriting(t *testing.T) {
	eachVersion(t, func(t *testing.T, version string) {
		lc := lab.StartEtcd(t, lab.EtcdOptions{Version: version, Members: 3, UnsafeNoFsync: true})
		cli := lc.Client(t)
		for round := range 4 {
			lab.Fill(t, cli, lab.FillOptions{Keys: 3000, ValueSize: 4 << 10, Seed: uint64(round)})
		}
		c := maintained(t, lc)
		v := look(t, c)
		p, _ := PlanCompact(v, CompactRule{})
		if done, err := c.Compact(t.Context(), v, p.Revision); !done || err != nil {
			t.Fatalf("compact: %t, %v", done, err)
		}
		if done, err := c.Compact(t.Context(), v, p.Revision); done || err != nil {
			t.Fatalf("compact again: %t, %v", done, err)
		}
		if _, err := c.freed(t.Context()); err != nil {
			t.Fatal(err)
		}
		w := machines.Write(t, clientv3.Config{Endpoints: lc.Endpoints()}, machines.WriterOptions{})
		d := PlanDefrag(look(t, c), Rule{MinSize: 10 * mib})
		if len(d.Steps) != 3 || !d.MovesLeader {
			t.Fatalf("%+v", d)
		}
		done, err := c.Defrag(t.Context(), d, DefragOptions{})
		if err != nil || len(done) != 3 {
			t.Fatalf("%+v, %v", done, err)
		}
		if r := w.Finish(t, cli); r.Failed > 0 || r.Acknowledged < 20 {
			t.Errorf("the writer: %v", r)
		} else {
			t.Log(r)
		}
		for _, one := range done {
			if one.After > one.Before*2/3 {
				t.Errorf("%+v is hardly smaller", one)
			}
		}
		after := look(t, c)
		if after.Agreed().Leader == d.Steps[2].Member {
			t.Error("the leader was not moved")
		}
		rev := after.Answers[0].Revision
		first := lc.HashKV(t, 0, rev).Hash
		for i := range 2 {
			if got := lc.HashKV(t, i+1, rev).Hash; got != first {
				t.Errorf("member %d has the hash %x, the first %x", i+1, got, first)
			}
		}
	})
}

// TestDefragStops: what is not well is not made worse: a member that dies ends it, and what was done is told.
func TestDefragStops(t *testing.T) {
	lc := lab.StartEtcd(t, lab.EtcdOptions{Members: 3, UnsafeNoFsync: true})
	c := maintained(t, lc)
	d := PlanDefrag(look(t, c), Rule{All: true})
	leader := lc.Leader(t)
	victim := slices.IndexFunc(lc.Members, func(m *lab.EtcdMember) bool { return m.Name == d.Steps[1].Name })
	if victim == leader {
		t.Fatal("the leader is not last")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	stopping := *c
	stopping.Say = func(line string) {
		t.Log(line)
		if strings.Contains(line, "before, ") { // the first is done
			lc.Kill(victim)
			cancel()
		}
	}
	done, err := stopping.Defrag(ctx, d, DefragOptions{})
	if err == nil || len(done) != 1 || done[0].Name != d.Steps[0].Name {
		t.Fatalf("%+v, %v", done, err)
	}
	v := look(t, c)
	_, err = Pass(GatesOfDefrag(v, PlanDefrag(v, Rule{All: true}), nil), "")
	if fail.ExitCode(err) != fail.Unsafe || !strings.Contains(err.Error(), lc.Members[victim].Name) {
		t.Errorf("a member is dead, and: %v", err)
	}
}

// TestDisarm: CORRUPT goes when all hashes are equal, and alarms of members that are gone go, too.
func TestDisarm(t *testing.T) {
	eachVersion(t, func(t *testing.T, version string) {
		lc := lab.StartEtcd(t, lab.EtcdOptions{Version: version, Members: 3, UnsafeNoFsync: true})
		cli := lc.Client(t)
		if _, err := cli.Put(t.Context(), "a", "b"); err != nil {
			t.Fatal(err)
		}
		c := maintained(t, lc)
		v := look(t, c)
		conn, err := c.dialVoter(t.Context(), v)
		if err != nil {
			t.Fatal(err)
		}
		for member, kind := range map[uint64]pb.AlarmType{v.Answers[0].MemberID: pb.AlarmType_CORRUPT, 0xdead: pb.AlarmType_NOSPACE} {
			if _, err := conn.Maintenance().Alarm(t.Context(), &pb.AlarmRequest{Action: pb.AlarmRequest_ACTIVATE, MemberID: member, Alarm: kind}); err != nil {
				t.Fatal(err)
			}
		}
		_ = conn.Close()
		if v, err = c.LookForDisarm(t.Context()); err != nil {
			t.Fatal(err)
		}
		alarms := Alarms(v)
		if len(alarms) != 2 || alarms[0].Kind != "CORRUPT" || !alarms[1].Gone {
			t.Fatalf("%+v", alarms)
		}
		if _, err := Pass(GatesOfDisarm(v, alarms), ""); err != nil {
			t.Fatal(err)
		}
		if err := c.Disarm(t.Context(), v, alarms); err != nil {
			t.Fatal(err)
		}
		lab.Eventually(t, 10*time.Second, "all members know", func() error {
			if got := Alarms(look(t, c)); len(got) != 0 {
				return fmt.Errorf("%+v", got)
			}
			return nil
		})
		if ok, err := c.Writable(t.Context(), look(t, c)); !ok || err != nil {
			t.Errorf("writes: %t, %v", ok, err)
		}
	})
}
