package snapshot

import (
	"bytes"
	"math/rand/v2"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
)

// cut cuts a message into buffers at random places, as the network does.
func cut(rng *rand.Rand, b []byte) (s mem.BufferSlice) {
	for len(b) > 0 {
		n := 1 + rng.IntN(min(len(b), 1+rng.IntN(40)))
		s = append(s, mem.SliceBuffer(b[:n]))
		b = b[n:]
	}
	return s
}

// TestMessage compares with protobuf's own decoder, however the message is cut.
func TestMessage(t *testing.T) {
	const seed = 17
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 2000 {
		want := &pb.SnapshotResponse{Header: &pb.ResponseHeader{ClusterId: rng.Uint64(), Revision: rng.Int64()}, RemainingBytes: rng.Uint64() >> rng.IntN(64), Version: "3.6.0"}
		if n := rng.IntN(300); n > 0 {
			want.Blob = make([]byte, n)
			for i := range want.Blob {
				want.Blob[i] = byte(rng.Uint32())
			}
		}
		raw, err := proto.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		var m message
		if err := newCodec().Unmarshal(cut(rng, raw), &m); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if got := bytes.Join(m.blob, nil); !bytes.Equal(got, want.Blob) || m.size != len(got) || m.remaining != want.RemainingBytes || m.version != "3.6.0" {
			t.Fatalf("seed %d: got %d bytes, %d to come, version %q; want %v", seed, m.size, m.remaining, m.version, want)
		}
		m.bufs.Free()
	}
}

// FuzzMessage: no bytes make the parser crash, nor find more than there is, nor what protobuf would not.
func FuzzMessage(f *testing.F) {
	raw, err := proto.Marshal(&pb.SnapshotResponse{RemainingBytes: 300, Blob: []byte("hello"), Version: "3.6.0"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw, uint64(1))
	f.Add([]byte{0x1a, 0xff, 0xff, 0xff, 0xff, 0x0f}, uint64(2))
	f.Fuzz(func(t *testing.T, b []byte, seed uint64) {
		var m message
		if err := m.parse(cut(rand.New(rand.NewPCG(seed, 0)), b)); err != nil {
			return
		}
		var want pb.SnapshotResponse
		if proto.Unmarshal(b, &want) != nil {
			return // stricter in what it accepts of the fields that do not matter here
		}
		if got := bytes.Join(m.blob, nil); !bytes.Equal(got, want.Blob) || m.remaining != want.RemainingBytes {
			t.Errorf("got %q and %d, want %q and %d", got, m.remaining, want.Blob, want.RemainingBytes)
		}
	})
}
