package rebuild

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"

	"etcd-steward/backup/changes"
	"etcd-steward/backup/dbfile"
	"etcd-steward/backup/repo"
	"etcd-steward/backup/revision"
)

// Full describes a full snapshot that was made offline.
type Full struct {
	// Info is what the new file says about itself.
	Info dbfile.Info
	// SHA256 is the trailer behind the database.
	SHA256 repo.SHA256
	// Size is the file's length with the trailer.
	Size int64
	// Proof is a recorded hash that the new file was found to have; nil when none can be compared with it.
	Proof *changes.Proof
}

// Compact makes a full snapshot out of a file that To has made: without the history that etcd's compaction at the revision at removes,
// without free pages, and with the SHA-256 trailer that etcd's own stream has. At 0, it takes the compaction of the newest
// proof in res, so that the new snapshot holds as much history as the cluster did; without a proof it keeps all.
//
// Both files must give the same HashKV, and the new one every recorded hash that can be compared with it, or the error is ErrNotProven.
// dst must not exist; after an error it is to be removed. Its name in its folder is for the caller to make durable.
func Compact(ctx context.Context, path, dst string, at revision.Revision, res Result) (full Full, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("make a full snapshot of revision %d: %w", res.Revision, err)
		}
	}()
	if n := len(res.Proofs); at == 0 && n > 0 {
		at = res.Proofs[n-1].CompactRevision
	}
	at = max(at, res.CompactRevision)
	want, err := copyCompacted(ctx, path, dst, at, res.Revision)
	if err != nil {
		return full, err
	}
	if full.Info, err = info(ctx, dst); err != nil {
		return full, err
	}
	if full.Info.HashKV != want || full.Info.Revision != res.Revision || full.Info.CompactRevision != at {
		return full, fmt.Errorf("%w: at revision %d with compaction at %d it is %08x before and %08x after", ErrNotProven, res.Revision, at, want, full.Info.HashKV)
	}
	for i := len(res.Proofs) - 1; i >= 0; i-- {
		if res.Proofs[i].CompactRevision >= at {
			if err := Prove(ctx, dst, res.Proofs[i:i+1]); err != nil {
				return full, err
			}
			full.Proof = &res.Proofs[i]
			break
		}
	}
	full.SHA256, full.Size, err = addTrailer(ctx, dst)
	return full, err
}

// copyCompacted writes dst and gives the hash that it must have, computed from the source.
func copyCompacted(ctx context.Context, path, dst string, at, rev revision.Revision) (want uint32, err error) {
	f, err := dbfile.Open(path)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if want, err = f.HashKV(ctx, rev, at); err != nil {
		return 0, err
	}
	return want, f.CopyCompacted(ctx, dst, at)
}

func info(ctx context.Context, path string) (_ dbfile.Info, err error) {
	f, err := dbfile.Open(path)
	if err != nil {
		return dbfile.Info{}, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return f.Info(ctx)
}

// addTrailer puts the SHA-256 of a db file behind it, as a snapshot from etcd has it.
func addTrailer(ctx context.Context, path string) (sum repo.SHA256, size int64, err error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return sum, 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	h, buf := sha256.New(), make([]byte, 1<<20)
	for {
		n, err := f.Read(buf)
		h.Write(buf[:n])
		size += int64(n)
		if errors.Is(err, io.EOF) {
			break
		}
		if err = errors.Join(err, ctx.Err()); err != nil {
			return sum, 0, err
		}
	}
	h.Sum(sum[:0])
	if _, err := f.Write(sum[:]); err != nil {
		return sum, 0, err
	}
	return sum, size + sha256.Size, f.Sync()
}
