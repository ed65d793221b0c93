package snapshot

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime/debug"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"

	"etcd-steward/internal/endpoint"
	"etcd-steward/internal/fail"
)

const (
	defaultStall = 30 * time.Second
	trailerSize  = sha256.Size
	// maxTotal is far above what etcd can hold: its own limit for a database is 8 GiB by recommendation.
	maxTotal = 1 << 42
)

// Stream takes a snapshot of m into the spool folder. Every byte goes, in the buffers that it came in, to the file, to the hash and to the
// sealed object. On any error, a cancelled context included, nothing stays in the folder. The caller must Close the Spool.
//
// The error has a hint and says whose fault it is: the member stopped sending, the disk is full, the bytes are not those that were
// announced. Nothing is retried.
func Stream(ctx context.Context, c Cluster, m Member, o SpoolOptions) (*Spool, error) {
	if o.StallTimeout <= 0 {
		o.StallTimeout = defaultStall
	}
	e, err := c.access().Parse(m.Endpoint)
	if err != nil {
		return nil, err
	}
	// One connection for the status and for the stream: behind a load balancer another one might be another member's.
	conn, err := c.access().Dial(e, grpc.WithInitialWindowSize(streamWindow), grpc.WithInitialConnWindowSize(connWindow), grpc.WithReadBufferSize(readBuffer))
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	now, authed, err := c.same(ctx, e, conn, m)
	if err != nil {
		return nil, fmt.Errorf("take a snapshot of %s: %w", e.URL, err)
	}
	s, err := newSpool(o, now.DBSize)
	if err != nil {
		return nil, err
	}
	s.EtcdVersion = now.Version
	t := transfer{cluster: c, endpoint: e, conn: conn, spool: s, options: o}
	if err := t.run(authed); err != nil {
		return nil, errors.Join(fmt.Errorf("take a snapshot of %s: %w", e.URL, err), s.Close())
	}
	if err := s.name(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	// The buffers of the compression go back to the system before the walk takes its own: together they would be the process's peak.
	debug.FreeOSMemory()
	return s, nil
}

// Flow control and buffers of the stream's connection. Fixed windows spare the first seconds of finding them, and what that finds on a local
// connection is too small.
const (
	streamWindow = 4 << 20
	connWindow   = 8 << 20
	readBuffer   = 128 << 10
)

// same asks the member who it is, on the connection that will carry the stream, and logs in there.
func (c Cluster) same(ctx context.Context, e endpoint.Endpoint, conn *grpc.ClientConn, m Member) (Member, context.Context, error) {
	asking, cancel := context.WithTimeout(ctx, c.access().Bound())
	defer cancel()
	token, err := c.access().Token(asking, conn)
	if err != nil {
		return Member{}, nil, c.reason(ctx, e, err)
	}
	now, err := describe(endpoint.WithToken(asking, token), e, conn)
	if err != nil {
		return Member{}, nil, c.reason(ctx, e, err)
	}
	if now.ID != m.ID || now.ClusterID != m.ClusterID {
		return Member{}, nil, fail.Hint(fmt.Errorf("it is member %016x of cluster %s now, and was %016x of %s before", now.ID, now.ClusterID, m.ID, m.ClusterID),
			"give the members' own addresses instead of a load balancer's")
	}
	return now.Member, endpoint.WithToken(ctx, token), nil
}

// transfer is one stream on its way into a spool.
type transfer struct {
	cluster  Cluster
	endpoint endpoint.Endpoint
	conn     *grpc.ClientConn
	spool    *Spool
	options  SpoolOptions

	received int64 // of the database
	total    int64 // as announced
	trailer  []byte
	dog      *watchdog
}

// run receives the stream and ends all sinks, whatever happens.
func (t *transfer) run(ctx context.Context) error {
	begun := time.Now()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	t.dog = startWatchdog(t.options.StallTimeout, cancel)
	defer t.dog.stop()
	hash := sha256.New()
	seal, err := t.spool.seal(t.options)
	if err != nil {
		return err
	}
	defer seal.Abort()
	out := startSinks(cancel,
		&sink{write: func(b *batch) error {
			for _, p := range b.pieces {
				_, _ = hash.Write(p)
			}
			return nil
		}},
		&sink{write: t.spool.write},
		&sink{write: func(b *batch) error {
			for _, p := range b.pieces {
				if _, err := seal.Write(p); err != nil {
					return err
				}
			}
			return nil
		}},
	)
	err = t.receive(ctx, out)
	out.close()
	if cause := context.Cause(ctx); cause != nil {
		return cause // it is why receiving ended, or what became of what was received
	}
	if err != nil {
		return t.broken(ctx, err)
	}
	if sum := hash.Sum(nil); string(sum) != string(t.trailer) {
		return fail.Hint(fmt.Errorf("the database's hash is %x, but the member announced %x", sum, t.trailer), damagedHint)
	}
	if _, err := seal.Write(t.trailer); err != nil {
		return err
	}
	t.spool.Size, t.spool.SHA256 = t.received, [sha256.Size]byte(t.trailer)
	if t.spool.Sealed, err = seal.Close(); err != nil {
		return err
	}
	t.spool.Seconds = time.Since(begun).Seconds()
	t.report()
	return nil
}

// broken says why receiving ended early: before the first message it is a matter of the way there, after it the member's.
func (t *transfer) broken(ctx context.Context, err error) error {
	switch {
	case fail.HintOf(err) != "":
		return err // ours: what came is wrong
	case t.received == 0:
		return t.cluster.reason(ctx, t.endpoint, err)
	}
	return fail.Hint(fmt.Errorf("the member broke off after %s of %s: %s", bytesOf(t.received), bytesOf(t.total), endpoint.Words(err)),
		"etcd may have crashed or been restarted: look at its log, and take the snapshot again, from another member if there is one")
}

const damagedHint = "take it again; if it happens twice, take it from another member, and look at this one's memory and disk"

// receive reads messages until the stream ends as it should.
func (t *transfer) receive(ctx context.Context, out *sinks) error {
	desc := &grpc.StreamDesc{StreamName: "Snapshot", ServerStreams: true}
	stream, err := t.conn.NewStream(ctx, desc, "/etcdserverpb.Maintenance/Snapshot", grpc.ForceCodecV2(newCodec()), grpc.MaxCallRecvMsgSize(maxMessage))
	if err != nil {
		return endpoint.Error(err)
	}
	if err := stream.SendMsg(&pb.SnapshotRequest{}); err != nil && !errors.Is(err, io.EOF) { // EOF: RecvMsg tells why
		return endpoint.Error(err)
	}
	if err := stream.CloseSend(); err != nil {
		return endpoint.Error(err)
	}
	var b *batch
	defer func() {
		if b != nil {
			b.users.Store(1)
			b.done()
		}
	}()
	for {
		if b == nil {
			if b, err = t.next(ctx, out.pool); err != nil {
				return err
			}
		}
		var m message
		err := stream.RecvMsg(&m)
		if errors.Is(err, io.EOF) {
			if b.size > 0 {
				out.give(b)
				b = nil
			}
			return t.whole()
		}
		if err != nil {
			return endpoint.Error(err)
		}
		if err := t.take(&m, b); err != nil {
			m.bufs.Free()
			return err
		}
		if b.size >= batchBytes || len(b.bufs) >= batchMessages {
			out.give(b)
			b = nil
			t.report()
		}
	}
}

// next waits for a batch that the sinks have done with; when that takes long, they are to blame, not the member.
func (t *transfer) next(ctx context.Context, p *pool) (*batch, error) {
	select {
	case b := <-p.free:
		return b, nil
	default:
	}
	t.dog.local(true)
	defer t.dog.local(false)
	select {
	case b := <-p.free:
		return b, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// take holds a message against what was announced, and adds it to the batch.
func (t *transfer) take(m *message, b *batch) error {
	t.dog.progress()
	if t.total == 0 {
		if m.size == 0 || m.remaining > maxTotal {
			return t.wrong("it announced %d bytes in a first message of %d", m.remaining, m.size)
		}
		t.total = int64(m.remaining) + int64(m.size)
		if err := t.spool.reserve(t.total); err != nil {
			return err
		}
	}
	size := int64(m.size)
	switch {
	case size == 0:
		// etcd 3.5 to 3.7 send empty messages for ever when reading the database fails (etcd-io/etcd#22125).
		return t.wrong("it sent an empty message with %d of %d bytes to come: it cannot read its own database", t.total-t.received, t.total)
	case t.received == t.total:
		if len(t.trailer)+m.size > trailerSize {
			return t.wrong("it sent more than the %d bytes that it announced", t.total)
		}
		for _, p := range m.blob {
			t.trailer = append(t.trailer, p...)
		}
		m.bufs.Free()
		return nil
	case t.received+size > t.total || int64(min(m.remaining, math.MaxInt64)) != t.total-t.received-size:
		return t.wrong("after %d bytes it says that %d of %d remain", t.received+size, m.remaining, t.total)
	}
	t.received += size
	b.add(m)
	return nil
}

// whole says whether the stream ended where it should.
func (t *transfer) whole() error {
	if t.total == 0 || t.received < t.total {
		return t.wrong("the stream ended after %d of %d bytes", t.received, t.total)
	}
	if len(t.trailer) != trailerSize {
		return t.wrong("the stream ended without the hash that belongs behind the database")
	}
	return nil
}

func (t *transfer) wrong(format string, args ...any) error {
	return fail.Hint(fmt.Errorf("the member's stream is not whole: "+format, args...), damagedHint)
}

func (t *transfer) report() {
	if t.options.Progress != nil {
		t.options.Progress(t.received, t.total)
	}
}
