// Package wire walks protobuf messages in place: it allocates nothing and copies nothing. It does not interpret fields, and knows no
// groups, which etcd does not use.
package wire

import (
	"encoding/binary"
	"errors"
)

// ErrMalformed means that the bytes are not a protobuf message.
var ErrMalformed = errors.New("not a protobuf message")

// Wire types.
const (
	Varint  = 0
	fixed64 = 1
	Bytes   = 2
	fixed32 = 5
)

// Field is one field of a protobuf message on the wire.
type Field struct {
	Number int
	Varint uint64 // of a varint field
	Bytes  []byte // of a length-delimited field: a part of the message, not a copy
}

// Next splits the first field off a protobuf message. It allocates nothing.
func Next(b []byte) (f Field, rest []byte, err error) {
	tag, n := binary.Uvarint(b)
	if n <= 0 || tag>>3 == 0 || tag>>3 > 1<<29-1 {
		return f, nil, ErrMalformed
	}
	b = b[n:]
	f.Number = int(tag >> 3)
	switch tag & 7 {
	case Varint:
		if f.Varint, n = binary.Uvarint(b); n <= 0 {
			return f, nil, ErrMalformed
		}
		return f, b[n:], nil
	case Bytes:
		size, n := binary.Uvarint(b)
		if n <= 0 || size > uint64(len(b)-n) {
			return f, nil, ErrMalformed
		}
		f.Bytes = b[n : n+int(size)]
		return f, b[n+int(size):], nil
	case fixed64:
		return skip(f, b, 8)
	case fixed32:
		return skip(f, b, 4)
	}
	return f, nil, ErrMalformed
}

func skip(f Field, b []byte, n int) (Field, []byte, error) {
	if len(b) < n {
		return f, nil, ErrMalformed
	}
	return f, b[n:], nil
}
