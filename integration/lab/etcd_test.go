package lab

import (
	"testing"
	"time"
)

// TestEtcd: the lab's clusters of every version start, lose a member, get it back, and agree.
func TestEtcd(t *testing.T) {
	if testing.Short() {
		t.Skip("starts etcd")
	}
	for _, version := range []string{"3.5", "3.6", "3.7"} {
		t.Run(version, func(t *testing.T) {
			c := StartEtcd(t, EtcdOptions{Version: version, Members: 3, TLS: true, UnsafeNoFsync: true})
			cli := c.Client(t)
			Fill(t, cli, FillOptions{Keys: 300})
			lost := (c.Leader(t) + 1) % 3
			c.Kill(lost)
			Fill(t, cli, FillOptions{Keys: 10, First: 300})
			c.Restart(t, lost)
			c.WaitHealthy(t)
			resp, err := cli.Get(t.Context(), FillOptions{}.Key(305))
			if err != nil {
				t.Fatal(err)
			}
			if got, want := string(resp.Kvs[0].Value), string(FillOptions{}.Value(305)); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
			want := c.HashKV(t, 0, resp.Header.Revision)
			for i := range c.Members {
				if got := c.HashKV(t, i, resp.Header.Revision); got.Hash != want.Hash {
					t.Errorf("member %d has hash %d, member 0 has %d", i, got.Hash, want.Hash)
				}
			}
		})
	}
}

// TestLearner: a learner joins and stays one.
func TestLearner(t *testing.T) {
	if testing.Short() {
		t.Skip("starts etcd")
	}
	c := StartEtcd(t, EtcdOptions{UnsafeNoFsync: true})
	i := c.AddLearner(t)
	st, err := c.ClientOf(t, i).Status(t.Context(), c.Endpoint(i))
	if err != nil {
		t.Fatal(err)
	}
	if !st.IsLearner {
		t.Errorf("member %d: %v is no learner", i, st)
	}
}

// TestValueSize: values have the length asked for, and depend on nothing but the options.
func TestValueSize(t *testing.T) {
	for _, size := range []int{2, 100, 1024, 5000} {
		a, b := FillOptions{ValueSize: size, Seed: 7}, FillOptions{ValueSize: size, Seed: 8}
		if v := a.Value(3); len(v) != size {
			t.Errorf("got %d bytes, want %d", len(v), size)
		}
		again := a.Value(3)
		if string(a.Value(3)) != string(again) {
			t.Error("the same options gave another value")
		}
		if size >= 1024 && string(a.Value(3)) == string(b.Value(3)) {
			t.Error("another seed gave the same value")
		}
	}
}

// TestDriver: the lab serves programs as it serves tests.
func TestDriver(t *testing.T) {
	if testing.Short() {
		t.Skip("starts etcd")
	}
	var proc *Process
	if code := Run(func(t T) { proc = StartEtcd(t, EtcdOptions{UnsafeNoFsync: true}).Members[0].Proc }); code != 0 {
		t.Errorf("Run returned %d, want 0", code)
	}
	select {
	case <-proc.Done():
	case <-time.After(time.Second):
		t.Error("the member outlives the program that started it")
	}
	if code := Run(func(t T) { t.Fatalf("as intended") }); code != 1 {
		t.Errorf("Run after Fatalf returned %d, want 1", code)
	}
}

// TestFillOffline: a member that is filled offline holds what Fill would have put.
func TestFillOffline(t *testing.T) {
	if testing.Short() {
		t.Skip("starts etcd")
	}
	c := StartEtcd(t, EtcdOptions{UnsafeNoFsync: true})
	c.Stop(0)
	o := FillOptions{Keys: 20000, ValueSize: 100, Seed: 3}
	FillOffline(t, c.DataDir(0), o)
	c.Restart(t, 0)
	c.WaitHealthy(t)
	cli := c.Client(t)
	for _, i := range []int{0, 16383, 16384, 19999} {
		resp, err := cli.Get(t.Context(), o.Key(i))
		if err != nil || len(resp.Kvs) != 1 {
			t.Fatalf("key %d: %v, %v", i, resp, err)
		}
		if got, want := string(resp.Kvs[0].Value), string(o.Value(i)); got != want || resp.Kvs[0].ModRevision != int64(i+2) {
			t.Errorf("key %d: got %q at %d, want %q at %d", i, got, resp.Kvs[0].ModRevision, want, i+2)
		}
	}
	put, err := cli.Put(t.Context(), "next", "")
	if err != nil || put.Header.Revision != 20002 {
		t.Errorf("the next revision is %v, want 20002 (%v)", put, err)
	}
}
