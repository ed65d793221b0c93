package watch

import (
	"fmt"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
)

// message holds one received message as it came. Its buffer is used again for the next one.
type message struct{ data []byte }

const (
	keepMessage  = 4 << 20 // a larger buffer is given back after the message that needed it
	firstMessage = 64 << 10
)

// codec copies received messages out of gRPC's buffers and leaves them undecoded; what is sent is encoded as usual.
type codec struct{}

var _ encoding.CodecV2 = codec{}

// Name is that of gRPC's own codec: on the wire there is no difference.
func (codec) Name() string { return "proto" }

// Marshal implements encoding.CodecV2.
func (codec) Marshal(v any) (mem.BufferSlice, error) {
	m, ok := v.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("cannot send a %T", v)
	}
	b, err := proto.Marshal(m)
	if err != nil {
		return nil, err
	}
	return mem.BufferSlice{mem.SliceBuffer(b)}, nil
}

// Unmarshal implements encoding.CodecV2.
func (codec) Unmarshal(data mem.BufferSlice, v any) error {
	m, ok := v.(*message)
	if !ok {
		return fmt.Errorf("cannot receive into a %T", v)
	}
	n := data.Len()
	if cap(m.data) < n || cap(m.data) > keepMessage && n < keepMessage {
		m.data = make([]byte, 0, max(firstMessage, n))
	}
	m.data = m.data[:n]
	data.CopyTo(m.data)
	return nil
}
