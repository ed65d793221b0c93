package lease

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"etcd-steward/backup/repo"
	"etcd-steward/backup/store"
)

const (
	kind          = "lease"
	format        = 1
	keyPrefix     = "coordination/"
	clockKey      = keyPrefix + "clock.json"
	recordSizeMax = 64 << 10
	resultMax     = 4 << 10
	takeTries     = 10
	ttlMin        = time.Second
	ttlMax        = 24 * time.Hour
	// futureMax is how far ahead of a claim a finished tick may be. One further ahead was finished by a host whose clock was wrong; believing it would end
	// all work until that day.
	futureMax = time.Hour
	// expiryMargin is added to a lease's TTL before anyone takes it: S3 gives times in whole seconds, and a second more does no harm.
	expiryMargin = 2 * time.Second
)

// record is the lease object of one job.
type record struct {
	// Lease is drawn at every Take, Nonce at every write: so no two writes have the same content, nor the same ETag.
	Lease string `json:"lease"`
	Nonce string `json:"nonce"`
	// Holder works on Tick; "" when nobody does.
	Holder     string    `json:"holder,omitempty"`
	Tick       time.Time `json:"tick,omitzero"`
	TTLSeconds float64   `json:"ttl_seconds,omitempty"`
	// Done is the newest tick that was finished.
	Done   time.Time `json:"done,omitzero"`
	DoneBy string    `json:"done_by,omitempty"`
	Result string    `json:"result,omitempty"`
}

// Status is what a lease object says.
type Status struct {
	Holder string    // who works, "" if nobody
	Tick   time.Time // on what
	Until  time.Time // when it expires unless renewed, about, by this machine's clock
	Done   time.Time // the newest tick that was finished
	DoneBy string
	Result string
}

// Lease is a claim's result. Renew, Finish and Release work only on one whose outcome was Mine. It is safe for concurrent use.
type Lease struct {
	st   store.Store
	key  string
	mine bool
	ttl  time.Duration

	mu    sync.Mutex
	rec   record
	etag  string
	until time.Time // by this clock: when the lease ends unless renewed
}

// Status is what the lease object said when it was last read or written.
func (l *Lease) Status() Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.rec
	return Status{Holder: r.Holder, Tick: r.Tick, Until: l.until, Done: r.Done, DoneBy: r.DoneBy, Result: r.Result}
}

// Take claims a tick of the job that the object key (coordination/...) stands for. The Lease is set for every outcome; its Status says who and until
// when. An expired lease is taken over. Whether it expired is judged by the store's clock alone.
func Take(ctx context.Context, st store.Store, key string, c Claim) (*Lease, Outcome, error) {
	if !strings.HasPrefix(key, keyPrefix) || key == clockKey || c.Holder == "" || c.Tick.IsZero() || c.TTL < ttlMin || c.TTL > ttlMax {
		return nil, 0, fmt.Errorf("take lease %s: a claim by %q for tick %v of %v", key, c.Holder, c.Tick, c.TTL)
	}
	l := &Lease{st: st, key: key, ttl: c.TTL}
	for range takeTries {
		outcome, err := l.try(ctx, c)
		if errors.Is(err, errRaced) {
			continue
		}
		if err != nil {
			return nil, 0, fmt.Errorf("take lease %s: %w", key, err)
		}
		return l, outcome, nil
	}
	return nil, 0, fmt.Errorf("take lease %s: %d others were faster, one after the other", key, takeTries)
}

// errRaced: someone wrote between our reading and our writing.
var errRaced = errors.New("raced")

func (l *Lease) try(ctx context.Context, c Claim) (Outcome, error) {
	rec, info, err := l.read(ctx)
	if err != nil {
		return 0, err
	}
	l.rec, l.etag = rec, info.ETag
	if !rec.Done.Before(c.Tick) && !rec.Done.After(c.Tick.Add(futureMax)) {
		return Done, nil
	}
	if rec.Holder != "" && (c.Gone == nil || !c.Gone(rec.Holder)) {
		left, err := l.left(ctx, rec, info)
		if err != nil {
			return 0, err
		}
		l.until = time.Now().Add(left)
		if left > 0 {
			return Held, nil
		}
	}
	next := record{
		Lease: rand.Text(), Holder: c.Holder, Tick: c.Tick.UTC(), TTLSeconds: c.TTL.Seconds(),
		Done: rec.Done, DoneBy: rec.DoneBy, Result: rec.Result,
	}
	began := time.Now()
	if err := l.write(ctx, next); err != nil {
		return 0, err
	}
	// A store that ignores conditions let us all win: what it has in the end tells some of us better.
	if there, _, err := l.read(ctx); err != nil || there.Lease != next.Lease {
		return 0, errors.Join(err, errRaced)
	}
	l.mine, l.until = true, began.Add(c.TTL)
	return Mine, nil
}

// read returns the record and the version that it has or had: if someone wrote in between, the version is older than the record and a write on it fails,
// which is what is wanted. No object, and a damaged one, is an empty record: then a tick may be done twice, but none is lost.
func (l *Lease) read(ctx context.Context) (record, store.Info, error) {
	info, err := l.st.Head(ctx, l.key)
	if errors.Is(err, store.NotFound) {
		return record{}, store.Info{}, nil
	}
	if err != nil {
		return record{}, store.Info{}, err
	}
	body, err := l.st.Get(ctx, l.key, 0, -1)
	if errors.Is(err, store.NotFound) {
		return record{}, store.Info{}, nil
	}
	if err != nil {
		return record{}, store.Info{}, err
	}
	doc, err := io.ReadAll(io.LimitReader(body, recordSizeMax))
	if err := errors.Join(err, body.Close()); err != nil {
		return record{}, store.Info{}, err
	}
	var rec record
	if err := repo.Unseal(kind, format, doc, &rec); errors.Is(err, repo.ErrDamaged) {
		return record{}, info, nil
	} else if err != nil {
		return record{}, store.Info{}, err
	}
	return rec, info, nil
}

// left is how long the lease in rec has still to run, by the store's clock: this machine's and the holder's may differ by minutes. The clock is read by
// writing an object and asking when that was.
func (l *Lease) left(ctx context.Context, rec record, info store.Info) (time.Duration, error) {
	doc, err := repo.Seal("clock", format, struct {
		Nonce string `json:"nonce"`
	}{rand.Text()})
	if err != nil {
		return 0, err
	}
	if _, err := l.put(ctx, clockKey, doc, store.PutOptions{}); err != nil {
		return 0, err
	}
	now, err := l.st.Head(ctx, clockKey)
	if err != nil {
		return 0, err
	}
	ttl := min(max(time.Duration(rec.TTLSeconds*float64(time.Second)), 0), ttlMax)
	return ttl + expiryMargin - now.Modified.Sub(info.Modified), nil
}

// write replaces the version that was read. It compares content before it believes that someone else was faster: a lost response and a retry look
// the same.
func (l *Lease) write(ctx context.Context, next record) error {
	next.Nonce = rand.Text()
	doc, err := repo.Seal(kind, format, next)
	if err != nil {
		return err
	}
	info, err := l.put(ctx, l.key, doc, store.PutOptions{IfAbsent: l.etag == "", IfMatch: l.etag})
	if errors.Is(err, store.Unsupported) {
		info, err = l.put(ctx, l.key, doc, store.PutOptions{})
	}
	if errors.Is(err, store.Exists) || errors.Is(err, store.Changed) || errors.Is(err, store.NotFound) {
		var there record
		if there, info, err = l.read(ctx); err != nil {
			return err
		}
		if there.Nonce != next.Nonce {
			return errRaced
		}
	}
	if err != nil {
		return err
	}
	l.rec, l.etag = next, info.ETag
	return nil
}

func (l *Lease) put(ctx context.Context, key string, doc []byte, opts store.PutOptions) (store.Info, error) {
	return l.st.Put(ctx, key, store.Source{Reader: bytes.NewReader(doc), Size: int64(len(doc)), SHA256: sha256.Sum256(doc)}, opts)
}
