package restore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"filippo.io/age"

	"etcd-steward/backup"
	"etcd-steward/backup/changes"
	"etcd-steward/backup/repo"
	"etcd-steward/backup/repo/envelope"
	"etcd-steward/internal/fail"
)

// headMax is how much of an object is read to see who can open it. It holds an age header of 40 post-quantum recipients, or of 600 others; a longer one is left
// to the fetch.
const headMax = 64 << 10

// tryIdentities opens the header of an encrypted object, so that a wrong identity is found while etcd may still run.
func (p *Plan) tryIdentities(ctx context.Context, m *repo.Manifest) error {
	o := p.options
	if !m.Object.Encrypted() {
		return nil
	}
	if len(o.Identities) == 0 {
		return fail.Hint(fmt.Errorf("backup %s is encrypted to %v, and there is no identity to open it with", m.ID, m.Object.Recipients), "give the age identity file with --identity")
	}
	head, err := readHead(ctx, o.Repo, m)
	if err != nil {
		return wanting(fmt.Errorf("read the head of backup %s: %w", m.ID, err), damagedHint)
	}
	unread := bytes.NewReader(head)
	_, err = age.Decrypt(unread, o.Identities...)
	var noMatch *age.NoIdentityMatchError
	matched := !errors.As(err, &noMatch)
	switch {
	case err == nil:
		return nil
	case !matched && !envelope.HoldsRecipient(m.Object.Recipients, o.Identities):
		from := "given"
		if o.IdentitiesFrom != "" {
			from = "in " + o.IdentitiesFrom
		}
		return fail.Hint(fmt.Errorf("backup %s is encrypted to %s: %w: none of the identities %s matches", m.ID, strings.Join(m.Object.Recipients, ", "), envelope.ErrNoIdentity, from),
			"give the secret key that belongs to one of these public keys: --identity FILE (age-keygen -y FILE shows its public key)")
	case matched && unread.Len() == 0 && len(head) == headMax: // the header goes on beyond the head
		return nil
	}
	return wanting(fmt.Errorf("backup %s: %w: age header: %w", m.ID, envelope.ErrDamaged, err), damagedHint)
}

// trySegments opens the first and the last of the segments, for the same reason: only their headers are read. Before that, those that overlap are read: one that is
// damaged is replaced, and a contradiction is found before anything is made.
func (p *Plan) trySegments(ctx context.Context, l *backup.Located) error {
	const otherKey = "the change log is encrypted to another public key than the snapshot: give both secret keys with --identity, or restore the snapshot alone with --id"
	if len(l.Segments) == 0 {
		return nil
	}
	var noMatch *age.NoIdentityMatchError
	for _, s := range l.Segments {
		if s.Encrypted && len(p.options.Identities) == 0 {
			return fail.Hint(fmt.Errorf("segment %s is encrypted, and there is no identity to open it with", s.Key), "give the age identity file with --identity")
		}
	}
	if err := l.Settle(ctx, p.options.Repo, p.options.Identities); errors.As(err, &noMatch) {
		return fail.Hint(err, otherKey)
	} else if err != nil {
		return err
	}
	for _, s := range []repo.Segment{l.Segments[0], l.Segments[len(l.Segments)-1]} {
		seg, err := changes.OpenSegment(ctx, p.options.Repo, s, p.options.Identities)
		if errors.As(err, &noMatch) {
			return fail.Hint(err, otherKey)
		}
		if err != nil {
			return wanting(err, logHint)
		}
		if err := seg.Close(); err != nil {
			return fmt.Errorf("close segment %s: %w", s.Key, err)
		}
	}
	return nil
}

// logHint is for a change log whose bytes are not what they were.
const logHint = "restore a revision below the damage (--to-revision), or a snapshot alone (--id); `steward backup list` shows what there is"

func readHead(ctx context.Context, r *repo.Repo, m *repo.Manifest) (head []byte, err error) {
	length := min(m.Object.Size, headMax)
	body, err := r.Data(ctx, m, 0, length)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, body.Close()) }()
	return io.ReadAll(io.LimitReader(body, length))
}
