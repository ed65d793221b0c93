package changes

import (
	"context"
	"errors"
	"fmt"
	"io"

	"filippo.io/age"

	"etcd-steward/backup/repo"
)

// Segment is an open segment of a repository.
type Segment struct {
	*Decoder
	unseal *UnsealReader
	body   io.Closer
}

// OpenSegment streams a segment from the repository's store and decodes it. A header that does not agree with the segment's name
// is ErrDamaged. Close it after use.
func OpenSegment(ctx context.Context, r *repo.Repo, s repo.Segment, identities []age.Identity) (*Segment, error) {
	body, err := r.SegmentData(ctx, s)
	if err != nil {
		return nil, err
	}
	seg, err := NewSegment(body, s, identities)
	if err != nil {
		return nil, fmt.Errorf("open segment %s: %w", s.Key, errors.Join(err, body.Close()))
	}
	return seg, nil
}

// NewSegment decodes a segment from its stored bytes, wherever they come from. Close closes body.
func NewSegment(body io.ReadCloser, s repo.Segment, identities []age.Identity) (*Segment, error) {
	unseal, err := NewUnsealReader(body, s.Encrypted, identities)
	if err != nil {
		return nil, err
	}
	dec, err := NewDecoder(unseal)
	if err == nil {
		h := dec.Header()
		err = h.Matches(s)
	}
	if err != nil {
		unseal.Close()
		return nil, err
	}
	return &Segment{Decoder: dec, unseal: unseal, body: body}, nil
}

// Close frees the segment's buffers and closes its source.
func (s *Segment) Close() error {
	s.unseal.Close()
	return s.body.Close()
}
