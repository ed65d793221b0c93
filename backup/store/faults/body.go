package faults

import "io"

// Reader gives the bytes of body until at bytes of the object have passed (offset is where body begins), then err. With io.EOF it is a
// store that silently lost the end.
func Reader(body io.ReadCloser, offset, at int64, err error) io.ReadCloser {
	return &endingBody{ReadCloser: body, left: max(0, at-offset), err: err}
}

type endingBody struct {
	io.ReadCloser
	left int64
	err  error
}

// Read implements io.Reader.
func (b *endingBody) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, b.err
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

// Flip inverts one bit (0 to 7) of the byte at position at of the object; offset is where body begins.
func Flip(body io.ReadCloser, offset, at int64, bit uint) io.ReadCloser {
	return &flippedBody{ReadCloser: body, pos: offset, at: at, mask: 1 << (bit % 8)}
}

type flippedBody struct {
	io.ReadCloser
	pos, at int64
	mask    byte
}

// Read implements io.Reader.
func (b *flippedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if i := b.at - b.pos; i >= 0 && i < int64(n) {
		p[i] ^= b.mask
	}
	b.pos += int64(n)
	return n, err
}
