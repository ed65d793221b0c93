// Package watch reads etcd's watch over the whole key space without decoding what it does not need: an event's record is taken
// from the message as the server wrote it.
//
// It promises to stop reading, and so make the server wait, when its caller does: etcd's own client buffers without bound instead. It reads one
// member, does not reconnect, and does not judge what it reads; backup/changes/record does.
package watch

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"etcd-steward/backup/changes"
	"etcd-steward/backup/repo"
)

// Options say how to watch.
type Options struct {
	From repo.Revision
	// Whole asks for messages that are not cut, up to so many bytes; a longer one is ErrTooLarge. 0 asks for fragments, of the server's --max-request-bytes or one event. Whole is
	// better while it does: etcd needs time with the square of the number of events to cut one message, a minute for a prefix of 150,000 keys.
	Whole int
}

// ErrTooLarge means that a message was longer than Options.Whole; a watch for fragments gives it in parts.
var ErrTooLarge = errors.New("message is too large")

// maxFragment is the longest fragment that is read: one event is never cut.
const maxFragment = changes.MaxEvent + 1<<20

// method is etcd's watch service (etcd api/etcdserverpb/rpc.proto).
const method = "/etcdserverpb.Watch/Watch"

// CompactedError says that the revision to begin at is gone from the member's history.
type CompactedError struct {
	From, Compacted repo.Revision
}

// Error implements error.
func (e *CompactedError) Error() string {
	return fmt.Sprintf("watch from revision %d: history is compacted at %d", e.From, e.Compacted)
}

// Stream is one watch on one member. Next and RequestProgress may be called from two goroutines.
type Stream struct {
	from   repo.Revision
	stream grpc.ClientStream
	cancel context.CancelFunc
	msg    message
	resp   Response
}

// Open begins a watch on every key on the member that conn leads to. The stream ends with an error when the
// member loses its leader, so that a member which is cut off is not taken for an idle cluster. Close it after use.
func Open(ctx context.Context, conn *grpc.ClientConn, o Options) (*Stream, error) {
	from, limit := o.From, maxFragment
	if o.Whole > 0 {
		limit = o.Whole
	}
	if from < 1 {
		return nil, fmt.Errorf("watch from revision %d", from)
	}
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	s := &Stream{from: from, cancel: cancel}
	var err error
	s.stream, err = conn.NewStream(ctx, &grpc.StreamDesc{StreamName: "Watch", ServerStreams: true, ClientStreams: true}, method,
		grpc.ForceCodecV2(codec{}), grpc.MaxCallRecvMsgSize(limit), grpc.MaxCallSendMsgSize(math.MaxInt32))
	if err == nil {
		err = s.stream.SendMsg(&etcdserverpb.WatchRequest{RequestUnion: &etcdserverpb.WatchRequest_CreateRequest{
			// "\x00" to "\x00" is every key there can be. ProgressNotify is the server's own, every ten minutes; RequestProgress asks sooner.
			CreateRequest: &etcdserverpb.WatchCreateRequest{Key: []byte{0}, RangeEnd: []byte{0}, StartRevision: int64(from), ProgressNotify: true, Fragment: o.Whole == 0},
		}})
	}
	if err != nil {
		cancel()
		return nil, fmt.Errorf("watch from revision %d: %w", from, err)
	}
	return s, nil
}

// RequestProgress asks the member to say up to which revision everything has been sent. It answers only once it has.
func (s *Stream) RequestProgress() error {
	err := s.stream.SendMsg(&etcdserverpb.WatchRequest{RequestUnion: &etcdserverpb.WatchRequest_ProgressRequest{
		ProgressRequest: &etcdserverpb.WatchProgressRequest{},
	}})
	if err != nil {
		return fmt.Errorf("request progress: %w", err)
	}
	return nil
}

// Next waits for the next message and returns it, valid until the next call. A cancelled watch is an error: *CompactedError when
// the member's history begins later.
func (s *Stream) Next() (*Response, error) {
	if err := s.stream.RecvMsg(&s.msg); err != nil {
		// gRPC has no other sign for it (rpc_util.go, recv); a server that is overloaded answers with the same code.
		if st := status.Convert(err); st.Code() == codes.ResourceExhausted && strings.Contains(st.Message(), "received message larger than max") {
			err = fmt.Errorf("%w: %w", ErrTooLarge, err)
		}
		return nil, fmt.Errorf("watch: %w", err)
	}
	if err := s.resp.Parse(s.msg.data); err != nil {
		return nil, fmt.Errorf("watch: %w", err)
	}
	switch r := &s.resp; {
	case r.CompactRevision > 0:
		return nil, &CompactedError{From: s.from, Compacted: r.CompactRevision}
	case r.Canceled:
		return nil, fmt.Errorf("watch: cancelled by the member: %w", errors.New(r.Reason))
	}
	return &s.resp, nil
}

// Close ends the watch; a Next that waits returns.
func (s *Stream) Close() { s.cancel() }
