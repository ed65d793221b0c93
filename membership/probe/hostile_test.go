package probe

import (
	"context"
	"fmt"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
)

// liar is what answers where a member should. No real etcd lies.
type liar struct {
	pb.UnimplementedMaintenanceServer
	pb.UnimplementedClusterServer
	pb.UnimplementedKVServer

	status func(n int64) *pb.StatusResponse
	list   *pb.MemberListResponse
	hash   func(n int64) *pb.HashKVResponse
	asked  atomic.Int64
}

func (l *liar) Status(context.Context, *pb.StatusRequest) (*pb.StatusResponse, error) {
	return l.status(l.asked.Add(1)), nil
}

func (l *liar) HashKV(context.Context, *pb.HashKVRequest) (*pb.HashKVResponse, error) {
	return l.hash(l.asked.Add(1)), nil
}

func (l *liar) MemberList(context.Context, *pb.MemberListRequest) (*pb.MemberListResponse, error) {
	return l.list, nil
}

// listen returns where it answers.
func (l *liar) listen(t *testing.T) string {
	t.Helper()
	at, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	pb.RegisterMaintenanceServer(s, l)
	pb.RegisterClusterServer(s, l)
	pb.RegisterKVServer(s, l)
	ended := make(chan struct{})
	go func() { defer close(ended); _ = s.Serve(at) }()
	t.Cleanup(func() { s.Stop(); <-ended })
	return at.Addr().String()
}

// TestBehindABalancer: where every question leads to another member, what they say is not taken for what one says: it would look like a split.
func TestBehindABalancer(t *testing.T) {
	header := func(n int64) *pb.ResponseHeader {
		return &pb.ResponseHeader{ClusterId: 7, MemberId: uint64(n), Revision: 100 * n, RaftTerm: 2}
	}
	l := &liar{
		status: func(n int64) *pb.StatusResponse {
			return &pb.StatusResponse{Header: header(n), Leader: 1, RaftIndex: 100, RaftAppliedIndex: 100, RaftTerm: 2, Version: "3.6.0"}
		},
		hash: func(n int64) *pb.HashKVResponse { return &pb.HashKVResponse{Header: header(n), Hash: uint32(n)} },
	}
	a := look(t, 5*time.Second, Access{Endpoints: []string{l.listen(t)}}, Options{Hash: true}).Answers[0]
	if a.Err != nil || a.MemberID != 1 {
		t.Fatalf("got %+v", a)
	}
	if a.After.Revision != 0 || a.Hash != nil || a.HashErr == nil {
		t.Errorf("another member's answers were taken: %+v, %+v, %v", a.After, a.Hash, a.HashErr)
	}
}

// TestHostileMember: what one says without end is kept only as far as it can matter, and judging it takes no time.
func TestHostileMember(t *testing.T) {
	st := &pb.StatusResponse{Header: &pb.ResponseHeader{ClusterId: 7, MemberId: 1, Revision: 1}, Leader: 1, RaftIndex: 1, RaftAppliedIndex: 1, Version: strings.Repeat("3", 1<<20)}
	for i := range 50000 {
		st.Errors = append(st.Errors, fmt.Sprintf("memberID:%d alarm:NOSPACE", i+1))
	}
	list := &pb.MemberListResponse{Header: st.Header}
	for i := range 100 {
		m := &pb.Member{ID: uint64(i + 1), Name: strings.Repeat("n", 1000), ClientURLs: []string{"unix://x"}}
		for k := range 1000 {
			m.PeerURLs = append(m.PeerURLs, fmt.Sprintf("http://10.%d.0.%d:2380", i, k))
		}
		list.Members = append(list.Members, m)
	}
	l := &liar{status: func(int64) *pb.StatusResponse { return st }, list: list}
	v := look(t, 5*time.Second, Access{Endpoints: []string{l.listen(t)}}, Options{})
	a := v.Answers[0]
	if a.Err != nil || len(a.Alarms) > maxErrors || len(a.Members) != maxMembers || len(a.Version) > maxName {
		t.Fatalf("%v, %d alarms, %d members, a version of %d bytes", a.Err, len(a.Alarms), len(a.Members), len(a.Version))
	}
	for _, m := range a.Members {
		if len(m.PeerURLs) > maxURLs || len(m.Name) > maxName {
			t.Fatalf("%d peer URLs, a name of %d bytes", len(m.PeerURLs), len(m.Name))
		}
	}
}

// TestHugeMetrics: a page without end costs no memory beyond what is read of it.
func TestHugeMetrics(t *testing.T) {
	var page strings.Builder
	page.WriteString("# TYPE etcd_server_has_leader gauge\netcd_server_has_leader 1\n")
	for i := 0; page.Len() < maxMetrics; i++ {
		fmt.Fprintf(&page, "x%d{a=\"%d\"} 1\n", i, i)
	}
	text := page.String()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	m := parseMetrics(strings.NewReader(text))
	runtime.ReadMemStats(&after)
	if m == nil {
		t.Error("it is no page")
	}
	if used := after.TotalAlloc - before.TotalAlloc; used > 2<<20 {
		t.Errorf("%d bytes were allocated for a page of %d", used, len(text))
	}
}
