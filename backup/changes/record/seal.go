package record

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"os"
	"time"

	"etcd-steward/backup/changes"
	"etcd-steward/backup/repo"
	"etcd-steward/internal/atomicfile"
	"etcd-steward/internal/version"
)

// sealer makes segments. Its buffers are used again.
type sealer struct {
	o     *Options
	queue *queue
	w     *changes.SealWriter
	out   bytes.Buffer
}

func steward() string { return version.Get().Version }

// seal closes the open segment and hands it on. The caller holds mu; the tail must not be halfway through a revision.
func (r *Recorder) seal() error {
	r.late = false
	if r.tail.empty() {
		return nil
	}
	if r.tail.halfway() {
		r.tail.rollback()
	}
	if err := r.tail.lastMark(time.Now()); err != nil {
		return err
	}
	check, ok, err := r.tail.fingerprint()
	if err == nil && ok {
		err = r.sealer.seal(r, check)
	}
	if err != nil {
		return fmt.Errorf("seal revisions %d to %d: %w", r.tail.first, r.tail.have, err)
	}
	r.known.check, r.known.plain = check, false
	return r.tail.reset()
}

// seal writes the segment. What is larger than memory should be goes to the spool folder at once.
func (z *sealer) seal(r *Recorder, check fingerprint) error {
	t := &r.tail
	now := time.Now()
	seg := repo.Segment{Timeline: r.known.timeline, First: t.first, Last: t.have, ID: repo.NewSnapshotID(now), Encrypted: len(z.o.Recipients) > 0}
	seg.Key = repo.SegmentKey(seg.Timeline, seg.First, seg.Last, seg.ID, seg.Encrypted)
	h := changes.Header{
		ClusterID: seg.Timeline.Cluster, Timeline: seg.Timeline, First: seg.First, Last: seg.Last, Events: t.events,
		EtcdVersion: r.known.version, Host: z.o.Host, Steward: steward(), Created: now.UTC().Round(0),
	}
	s := &sealed{seg: seg, since: t.since, end: r.recorded()}
	s.end.Check, s.end.CheckSHA256 = check.Revision, check.SHA256
	var err error
	if t.length > memMax {
		err = z.toFile(r, h, s)
	} else {
		err = z.toMemory(r, h, s)
	}
	if err != nil {
		return err
	}
	r.notes.written()
	z.queue.add(s)
	events := t.events
	r.status.set(func(st *Status) { st.Events += events })
	return nil
}

func (z *sealer) toMemory(r *Recorder, h changes.Header, s *sealed) error {
	z.out.Reset()
	if err := z.write(&z.out, r, h); err != nil {
		return err
	}
	s.data = bytes.Clone(z.out.Bytes())
	s.sum, s.seg.Size = sha256.Sum256(s.data), int64(len(s.data))
	if z.out.Cap() > 2*int(z.o.SegmentSize) {
		z.out = bytes.Buffer{}
	}
	return nil
}

func (z *sealer) toFile(r *Recorder, h changes.Header, s *sealed) error {
	if err := z.queue.settleDisk(); err != nil {
		return err
	}
	f, err := os.CreateTemp(z.o.SpoolDir, tempPrefix)
	if err != nil {
		return err
	}
	out := &counter{w: f, sum: sha256.New()}
	err = z.write(out, r, h)
	if err == nil {
		out.sum.Sum(s.sum[:0])
		s.seg.Size = out.n
		s.path = z.o.SpoolDir + string(os.PathSeparator) + spooledName(s)
		err = atomicfile.Commit(f, s.path, true)
	}
	if err != nil {
		_ = f.Close()
		_ = os.Remove(f.Name())
	}
	return err
}

// write encodes, compresses and encrypts.
func (z *sealer) write(dst io.Writer, r *Recorder, h changes.Header) error {
	var err error
	if z.w == nil {
		z.w, err = changes.NewSealWriter(dst, z.o.Recipients)
	} else {
		err = z.w.Reset(dst, z.o.Recipients)
	}
	if err != nil {
		return err
	}
	enc, err := changes.NewEncoder(z.w, h)
	if err != nil {
		return err
	}
	if err := enc.Copy(changes.NewSplitter(r.tail.buf.Section(0, r.tail.length))); err != nil {
		return err
	}
	if err := r.notes.write(enc, r.tail.have); err != nil {
		return err
	}
	if err := enc.Close(); err != nil {
		return err
	}
	return z.w.Close()
}

type counter struct {
	w   io.Writer
	sum hash.Hash
	n   int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.sum.Write(p[:n])
	c.n += int64(n)
	return n, err
}
