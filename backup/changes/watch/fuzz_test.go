package watch

import (
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"
)

// FuzzResponse: whatever a member sends, reading it does not panic, and what etcd's own decoder reads of it is read the same.
func FuzzResponse(f *testing.F) {
	for _, r := range []*etcdserverpb.WatchResponse{
		{Header: &etcdserverpb.ResponseHeader{ClusterId: 1, MemberId: 2, Revision: 3, RaftTerm: 4}, Created: true},
		{Header: &etcdserverpb.ResponseHeader{ClusterId: 1}, CompactRevision: 9, Canceled: true, CancelReason: "compacted"},
		{Header: &etcdserverpb.ResponseHeader{ClusterId: 1, Revision: 7}, Fragment: true, Events: []*mvccpb.Event{
			{Kv: &mvccpb.KeyValue{Key: []byte("a"), CreateRevision: 5, ModRevision: 7, Version: 2, Value: []byte("b"), Lease: 8}},
			{Type: mvccpb.Event_DELETE, Kv: &mvccpb.KeyValue{Key: []byte("c"), ModRevision: 7}},
		}},
	} {
		b, err := proto.Marshal(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var got Response
		if err := got.Parse(b); err != nil {
			return
		}
		n := 0
		err := got.Each(func(*Change) error { n++; return nil })
		if err != nil {
			return
		}
		var want etcdserverpb.WatchResponse
		if err := proto.Unmarshal(b, &want); err != nil {
			return // etcd's decoder is stricter: it looks into what is passed over here
		}
		if n != len(want.Events) || got.Created != want.Created || got.Canceled != want.Canceled || got.Fragment != want.Fragment ||
			int64(got.CompactRevision) != want.CompactRevision {
			t.Fatalf("got %+v with %d events, want %v", got, n, &want)
		}
	})
}
