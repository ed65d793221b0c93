package record

import (
	"context"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/test/bufconn"

	"etcd-steward/backup/repo"
	"etcd-steward/backup/snapshot"
	"etcd-steward/backup/store"
	"etcd-steward/backup/store/faults"
)

// quietMember is a member of which nobody wants anything: it has revisions up to rev, answers, and says nothing by itself. It needs no network, so that time
// can be simulated.
type quietMember struct {
	pb.UnimplementedKVServer
	pb.UnimplementedWatchServer
	pb.UnimplementedLeaseServer
	pb.UnimplementedAuthServer
	rev      atomic.Int64
	wrote    chan int64 // revisions that are new
	progress atomic.Int64
}

func (q *quietMember) header() *pb.ResponseHeader {
	return &pb.ResponseHeader{ClusterId: 7, MemberId: 8, Revision: q.rev.Load(), RaftTerm: 2}
}

// Range answers the question for the newest revision.
func (q *quietMember) Range(context.Context, *pb.RangeRequest) (*pb.RangeResponse, error) {
	return &pb.RangeResponse{Header: q.header()}, nil
}

// LeaseLeases says that there are no leases.
func (q *quietMember) LeaseLeases(context.Context, *pb.LeaseLeasesRequest) (*pb.LeaseLeasesResponse, error) {
	return &pb.LeaseLeasesResponse{Header: q.header()}, nil
}

// AuthStatus says that there are no users.
func (q *quietMember) AuthStatus(context.Context, *pb.AuthStatusRequest) (*pb.AuthStatusResponse, error) {
	return &pb.AuthStatusResponse{Header: q.header(), AuthRevision: 1}, nil
}

func (q *quietMember) events(from, to int64) *pb.WatchResponse {
	m := &pb.WatchResponse{Header: q.header()}
	for rev := from; rev <= to; rev++ {
		m.Events = append(m.Events, &mvccpb.Event{Kv: &mvccpb.KeyValue{Key: []byte("key"), Value: []byte("value"), CreateRevision: 1, ModRevision: rev, Version: rev}})
	}
	return m
}

// Watch gives what there is and what is written, and answers requests for progress.
func (q *quietMember) Watch(s pb.Watch_WatchServer) error {
	asked := make(chan *pb.WatchRequest)
	go func() {
		defer close(asked)
		for {
			req, err := s.Recv()
			if err != nil {
				return
			}
			asked <- req
		}
	}()
	for {
		var send []*pb.WatchResponse
		select {
		case req, ok := <-asked:
			if !ok {
				return nil
			}
			if c := req.GetCreateRequest(); c != nil {
				send = append(send, &pb.WatchResponse{Header: q.header(), Created: true})
				if from, to := c.StartRevision, q.rev.Load(); from <= to {
					send = append(send, q.events(from, to))
				}
			} else {
				q.progress.Add(1)
				send = append(send, &pb.WatchResponse{Header: q.header(), WatchId: -1})
			}
		case rev := <-q.wrote:
			q.rev.Store(rev)
			send = append(send, q.events(rev, rev))
		}
		for _, m := range send {
			if err := s.Send(m); err != nil {
				return err
			}
		}
	}
}

// serve returns how to connect to the member. What it begins ends with the test.
func (q *quietMember) serve(t *testing.T) func(context.Context) (*member, error) {
	t.Helper()
	l := bufconn.Listen(1 << 20)
	s := grpc.NewServer(grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second, PermitWithoutStream: true}))
	pb.RegisterKVServer(s, q)
	pb.RegisterWatchServer(s, q)
	pb.RegisterLeaseServer(s, q)
	pb.RegisterAuthServer(s, q)
	go func() { _ = s.Serve(l) }()
	t.Cleanup(s.Stop)
	return func(ctx context.Context) (*member, error) {
		cli, err := clientv3.New(clientv3.Config{
			Endpoints: []string{"http://127.0.0.1:1"}, Logger: zap.NewNop(), Context: context.WithoutCancel(ctx),
			DialOptions: []grpc.DialOption{grpc.WithNoProxy(), grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) })},
		})
		if err != nil {
			return nil, err
		}
		m := &member{Member: snapshot.Member{ID: 8, ClusterID: 7, Endpoint: "quiet", Version: "3.6.16", Quorum: true}, cli: cli}
		if m.rev, m.term, err = m.now(ctx); err != nil {
			m.close()
			return nil, err
		}
		return m, nil
	}
}

// TestIdleHour: in an hour in which nothing is written no segment is made and nothing grows, while each answer of the member moves on until when that is
// known, and the mark is written at its interval.
func TestIdleHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st, err := store.Open(t.Context(), store.Config{URL: "file://" + t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		var segments, marks atomic.Int64
		wrapped := faults.Wrap(st, faults.Hooks{Before: func(_ context.Context, op, key string) error {
			if op == "put" && strings.Contains(key, "/changes/") {
				segments.Add(1)
			}
			if op == "put" && strings.Contains(key, "coordination/recorded/") {
				marks.Add(1)
			}
			return nil
		}})
		rp, err := repo.Open(t.Context(), wrapped, "test")
		if err != nil {
			t.Fatal(err)
		}
		quiet := &quietMember{wrote: make(chan int64)}
		quiet.rev.Store(5)
		r, err := New(Options{Repo: rp, Cluster: snapshot.Cluster{Endpoints: []string{"quiet"}}, SpoolDir: t.TempDir(), Host: "test", ProofEvery: -1})
		if err != nil {
			t.Fatal(err)
		}
		r.reach = quiet.serve(t)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx) }()
		defer func() {
			cancel()
			<-done
		}()
		time.Sleep(time.Minute)
		quiet.wrote <- 6
		time.Sleep(time.Minute)
		if s := r.Status(); s.State != Recording || s.Through != 6 || s.Segments != 1 {
			t.Fatalf("status %+v, want revision 6 in one segment", s)
		}
		idle(t, r, quiet, &segments, &marks)
		rec, _, err := rp.Recorded(t.Context(), r.Status().Timeline)
		if err != nil || rec.Through != 6 || time.Since(rec.Time) > r.o.MarkEvery+2*r.o.Progress {
			t.Fatalf("the mark says %+v at %s (%v)", rec, time.Now(), err)
		}
		// The recorder still hears what happens.
		quiet.wrote <- 7
		time.Sleep(time.Minute)
		if s := r.Status(); s.Through != 7 || s.Segments != 2 || s.Reconnects != 0 {
			t.Fatalf("status %+v, want revision 7 in a second segment", s)
		}
	})
}

// idle lets the hour pass.
func idle(t *testing.T, r *Recorder, quiet *quietMember, segments, marks *atomic.Int64) {
	t.Helper()
	size := func() [4]int64 {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.queue.mu.Lock()
		defer r.queue.mu.Unlock()
		return [4]int64{r.tail.length, int64(len(r.queue.items)), int64(len(r.notes.leases) + len(r.notes.proofs)), int64(cap(r.tail.buf.mem))}
	}
	before, stored, marked, asked, began := size(), segments.Load(), marks.Load(), quiet.progress.Load(), time.Now()
	for last := r.Status().ThroughTime; time.Since(began) < time.Hour; {
		time.Sleep(2 * r.o.Progress)
		s := r.Status()
		if !s.ThroughTime.After(last) || time.Since(s.ThroughTime) > 2*r.o.Progress || s.Through != 6 {
			t.Fatalf("at %s the status says revision %d as of %s, and %s before", time.Now(), s.Through, s.ThroughTime, last)
		}
		last = s.ThroughTime
	}
	if got := size(); got != before {
		t.Errorf("sizes %v, and %v an hour before", got, before)
	}
	if n := segments.Load() - stored; n != 0 {
		t.Errorf("%d segments were stored", n)
	}
	if n, want := marks.Load()-marked, int64(time.Hour/r.o.MarkEvery); n < want-2 || n > want+2 {
		t.Errorf("the mark was written %d times, want %d", n, want)
	}
	if n, want := quiet.progress.Load()-asked, int64(time.Hour/r.o.Progress); n < want-2 || n > want+2 {
		t.Errorf("the member was asked for its progress %d times, want %d", n, want)
	}
}
