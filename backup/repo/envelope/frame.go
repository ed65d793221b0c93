package envelope

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/klauspost/compress/zstd"
)

// encoder makes one zstd frame of one block. Each worker has its own.
type encoder struct {
	zstd *zstd.Encoder
	dec  *decoder // nil: frames are not verified
}

func (e *encoder) open(verify bool, blockSize int) (err error) {
	// All that affects the bytes is said here: frames that carry their content's size and checksum, for decoders with any window from 8 MiB.
	e.zstd, err = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1),
		zstd.WithEncoderCRC(true), zstd.WithWindowSize(encoderWindow), zstd.WithZeroFrames(true), zstd.WithEncoderPadding(1))
	if err == nil && verify {
		e.dec, err = newDecoder(blockSize)
	}
	if err != nil {
		return fmt.Errorf("open the compressor: %w", err)
	}
	return nil
}

// encoderWindow is how far back a frame may refer. etcd's pages repeat what is near: from 512 KiB to 8 MiB the ratio of a 2 GB file was the same
// (6.06), while every encoder holds twice its window.
const encoderWindow = 1 << 20

// frame appends in's frame to out.
func (e *encoder) frame(in, out []byte) ([]byte, error) {
	out = e.zstd.EncodeAll(in, out)
	if e.dec == nil {
		return out, nil
	}
	back, err := e.dec.block(out, len(in))
	if err == nil && !bytes.Equal(back, in) {
		err = errors.New("it decodes to other bytes")
	}
	if err != nil {
		return nil, fmt.Errorf("the compressor made a frame that is wrong: %w", err)
	}
	return out, nil
}

// probeSize is how much of a block is encoded to guess the length of its frame.
const probeSize = 256 << 10

// room makes a buffer for the frame of in. What its middle compresses to tells how long: growing a small buffer step by step would leave several times its size
// as garbage where content does not compress.
func (e *encoder) room(in []byte) []byte {
	mid := in[len(in)/2:]
	mid = mid[:min(len(mid), probeSize)]
	guess := len(e.zstd.EncodeAll(mid, nil)) * (len(in)/len(mid) + 1)
	return make([]byte, 0, min(guess+guess/4, len(in))+4096)
}

// decoder reads single blocks, into a buffer of its own that the next call overwrites.
type decoder struct {
	zstd *zstd.Decoder
	buf  []byte
}

// newDecoder bounds what a hostile frame can make it allocate: blockSize of content, and no window beyond it.
func newDecoder(blockSize int) (*decoder, error) {
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.IgnoreChecksum(false), zstd.WithDecodeAllCapLimit(true),
		zstd.WithDecoderMaxMemory(uint64(max(blockSize, 1<<20))), zstd.WithDecoderMaxWindow(32<<20), zstd.WithDecoderLowmem(true))
	if err != nil {
		return nil, err
	}
	return &decoder{zstd: z, buf: make([]byte, 0, blockSize)}, nil
}

// block decodes in, which must be frames of exactly size bytes of content.
func (d *decoder) block(in []byte, size int) ([]byte, error) {
	if size > cap(d.buf) {
		return nil, fmt.Errorf("a block of %d bytes, more than %d", size, cap(d.buf))
	}
	out, err := d.zstd.DecodeAll(in, d.buf[:0:size])
	if err == nil && len(out) != size {
		err = fmt.Errorf("%d bytes of content instead of %d", len(out), size)
	}
	return out, err
}
