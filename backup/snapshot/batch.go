package snapshot

import (
	"sync"
	"sync/atomic"

	"google.golang.org/grpc/mem"
)

const (
	// A batch goes to the disk in one system call. There are as many batches as keep the network, the hash, the disk and the
	// compression from waiting for each other; together with what gRPC holds they are the stream's memory.
	batchBytes    = 1 << 20
	batches       = 8
	batchMessages = 256 // of less than 4 KiB each: then a batch is sent with less than batchBytes
)

// batch is some messages' worth of the database, still in gRPC's buffers. Several sinks read it; the last one gives it back.
type batch struct {
	pieces [][]byte
	size   int
	bufs   []mem.BufferSlice
	users  atomic.Int32
	pool   *pool
}

func (b *batch) add(m *message) {
	b.pieces = append(b.pieces, m.blob...)
	b.bufs = append(b.bufs, m.bufs)
	b.size += m.size
	m.bufs = nil
}

// done is called by each user once.
func (b *batch) done() {
	if b.users.Add(-1) > 0 {
		return
	}
	for _, s := range b.bufs {
		s.Free()
	}
	clear(b.pieces)
	clear(b.bufs)
	b.pieces, b.bufs, b.size = b.pieces[:0], b.bufs[:0], 0
	b.pool.free <- b
}

// pool is the batches that there are.
type pool struct{ free chan *batch }

func newPool() *pool {
	p := &pool{free: make(chan *batch, batches)}
	for range batches {
		p.free <- &batch{pool: p}
	}
	return p
}

// sink is one consumer of the stream, in its own goroutine.
type sink struct {
	in    chan *batch
	write func(*batch) error
}

// sinks gives every batch to every consumer. The first error of one ends the stream; the others only let go of what still comes.
type sinks struct {
	pool   *pool
	all    []*sink
	joined sync.WaitGroup
	fail   func(error)
}

func startSinks(fail func(error), consumers ...*sink) *sinks {
	s := &sinks{pool: newPool(), all: consumers, fail: fail}
	for _, k := range consumers {
		k.in = make(chan *batch, batches)
		s.joined.Go(func() {
			failed := false
			for b := range k.in {
				if !failed {
					if err := k.write(b); err != nil {
						failed = true
						s.fail(err)
					}
				}
				b.done()
			}
		})
	}
	return s
}

// give never blocks: each sink's queue has room for all batches.
func (s *sinks) give(b *batch) {
	b.users.Store(int32(len(s.all)))
	for _, k := range s.all {
		k.in <- b
	}
}

// close waits until all that was given is consumed.
func (s *sinks) close() {
	for _, k := range s.all {
		close(k.in)
	}
	s.joined.Wait()
}
