package changes

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"
)

// A sealed segment is age(zstd frames, trailer). Each frame is independent and holds FrameSize bytes of content, the last one
// fewer. The trailer is one zstd skippable frame, which every zstd decoder ignores, with the SHA-256 of all frames before it: zstd's own checksums
// cover the content, not every bit of the frames.

// FrameSize is the length of content in every frame but the last.
const FrameSize = 8 << 20

const (
	trailerMagic = 0x184D2A5E // one of zstd's sixteen magics of skippable frames (RFC 8878, 3.1.2)
	trailerLen   = 8 + sha256.Size
	// frameWindow is how far back a match may lie: the encoder holds twice as much, for ever.
	frameWindow = 2 << 20
	// streamBuffer is how much of a small segment is read or written at once.
	streamBuffer = 64 << 10
)

// SealWriter compresses and encrypts a segment's content.
type SealWriter struct {
	out   io.Writer // behind age, when it is encrypted
	age   io.WriteCloser
	zstd  *zstd.Encoder
	sum   hash.Hash
	block []byte
	frame []byte
	err   error
}

// NewSealWriter writes to dst, encrypted to recipients; without any it is not encrypted. It may be used again with Reset.
func NewSealWriter(dst io.Writer, recipients []age.Recipient) (*SealWriter, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderCRC(true), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(frameWindow))
	if err != nil {
		return nil, fmt.Errorf("seal segment: %w", err)
	}
	w := &SealWriter{zstd: enc, sum: sha256.New()}
	return w, w.Reset(dst, recipients)
}

// Reset begins another segment with the same buffers.
func (w *SealWriter) Reset(dst io.Writer, recipients []age.Recipient) error {
	w.out, w.age, w.err, w.block = dst, nil, nil, w.block[:0]
	w.sum.Reset()
	if len(recipients) == 0 {
		return nil
	}
	enc, err := age.Encrypt(dst, recipients...)
	if err != nil {
		w.err = fmt.Errorf("seal segment: %w", err)
		return w.err
	}
	w.out, w.age = enc, enc
	return nil
}

// Write implements io.Writer. It does not keep p.
func (w *SealWriter) Write(p []byte) (n int, err error) {
	for len(p) > 0 && w.err == nil {
		k := min(len(p), FrameSize-len(w.block))
		if need := len(w.block) + k; need > cap(w.block) { // doubling leaves less behind than append does
			w.block = slices.Grow(w.block, min(FrameSize, max(streamBuffer, 2*need))-len(w.block))
		}
		w.block = append(w.block, p[:k]...)
		p, n = p[k:], n+k
		if len(w.block) == FrameSize {
			w.flush()
		}
	}
	return n, w.err
}

// Close writes the last frame and the trailer. It does not close dst.
func (w *SealWriter) Close() error {
	if len(w.block) > 0 && w.err == nil {
		w.flush()
	}
	if w.err != nil {
		return w.err
	}
	t := binary.LittleEndian.AppendUint32(nil, trailerMagic)
	t = binary.LittleEndian.AppendUint32(t, sha256.Size)
	if _, err := w.out.Write(w.sum.Sum(t)); err != nil {
		return w.fail(err)
	}
	if w.age != nil {
		if err := w.age.Close(); err != nil {
			return w.fail(err)
		}
	}
	w.err = errors.New("segment is closed")
	return nil
}

func (w *SealWriter) flush() {
	w.frame = w.zstd.EncodeAll(w.block, w.frame[:0])
	w.block = w.block[:0]
	w.sum.Write(w.frame)
	if _, err := w.out.Write(w.frame); err != nil {
		_ = w.fail(err)
	}
}

func (w *SealWriter) fail(err error) error {
	w.err = fmt.Errorf("seal segment: %w", err)
	return w.err
}
