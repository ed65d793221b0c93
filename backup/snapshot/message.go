package snapshot

import (
	"errors"
	"io"

	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // registers the codec that this one stands before
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

// codec hands a snapshot's messages over in the buffers that they came in from the network. Decoding them as protobuf copies the
// whole database once more, into 32 KiB of garbage per message: this halves the client's CPU time.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2("proto")} }

// Name is that of the codec which it stands before: the wire format is the same.
func (codec) Name() string { return "proto" }

// Unmarshal keeps the buffers of a *message, and decodes everything else as usual.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	m, ok := v.(*message)
	if !ok {
		return c.CodecV2.Unmarshal(data, v)
	}
	return m.parse(data)
}

// message is an etcdserverpb.SnapshotResponse (api, etcdserverpb/rpc.proto).
type message struct {
	remaining uint64
	version   string
	// blob is a part of the database, in pieces; they are valid until bufs are freed.
	blob [][]byte
	size int
	bufs mem.BufferSlice
}

const (
	fieldRemaining = 2
	fieldBlob      = 3
	fieldVersion   = 4

	// etcd sends 32 KiB at once (server, v3rpc/maintenance.go snapshotSendBufferSize).
	maxMessage = 4 << 20
	maxVersion = 64
)

var errMessage = errors.New("the member sent a message that is no part of a snapshot")

// parse finds the fields in the buffers, and holds on to those.
func (m *message) parse(data mem.BufferSlice) error {
	blob := m.blob[:0]
	*m = message{}
	r := fields{bufs: data, left: data.Len()}
	for r.left > 0 {
		tag, err := r.varint()
		if err != nil {
			return err
		}
		n, err := r.varint() // a varint's value, or the length of bytes
		if err != nil {
			return err
		}
		number, kind := protowire.DecodeTag(tag)
		switch {
		case kind == protowire.VarintType && number == fieldRemaining:
			m.remaining = n
		case kind == protowire.VarintType:
		case kind != protowire.BytesType || n > uint64(r.left):
			return errMessage
		case number == fieldBlob:
			blob = r.take(int(n), blob[:0])
			m.size = int(n)
		case number == fieldVersion && n <= maxVersion:
			m.version = ""
			for _, b := range r.take(int(n), nil) {
				m.version += string(b)
			}
		default:
			r.take(int(n), nil)
		}
	}
	data.Ref()
	m.blob, m.bufs = blob, data
	return nil
}

// fields reads through buffers as if they were one.
type fields struct {
	bufs mem.BufferSlice
	at   int // in the first
	left int
}

func (r *fields) byte() (byte, error) {
	for len(r.bufs) > 0 {
		if b := r.bufs[0].ReadOnlyData(); r.at < len(b) {
			r.at++
			r.left--
			return b[r.at-1], nil
		}
		r.bufs, r.at = r.bufs[1:], 0
	}
	return 0, io.ErrUnexpectedEOF
}

func (r *fields) varint() (v uint64, err error) {
	for shift := 0; shift < 64; shift += 7 {
		b, err := r.byte()
		if err != nil {
			return 0, errMessage
		}
		if v |= uint64(b&0x7f) << shift; b < 0x80 {
			return v, nil
		}
	}
	return 0, errMessage
}

// take appends the next n bytes to pieces; there are as many.
func (r *fields) take(n int, pieces [][]byte) [][]byte {
	r.left -= n
	for n > 0 {
		b := r.bufs[0].ReadOnlyData()[r.at:]
		if len(b) == 0 {
			r.bufs, r.at = r.bufs[1:], 0
			continue
		}
		b = b[:min(n, len(b))]
		pieces = append(pieces, b)
		r.at += len(b)
		n -= len(b)
	}
	return pieces
}
