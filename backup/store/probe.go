package store

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	mrand "math/rand/v2"
	"strings"
	"time"
)

// Answer is what a probe found out about one ability.
type Answer string

// The answers. Unknown ones could not be asked, mostly because this role may not.
const (
	Yes     Answer = "yes"
	No      Answer = "NO"
	Unasked Answer = "unknown"
)

// Capabilities is what a store can do, as far as a probe with these credentials could find out.
type Capabilities struct {
	Store          string // its URL
	Exclusive      Answer // IfAbsent is honoured
	ExclusiveParts Answer // and for multipart uploads; Yes where there are none
	CompareAndSwap Answer // IfMatch is honoured
	Checksum       Answer // Head returns the SHA-256 that was stored
	Versioning     Answer // the store keeps overwritten and deleted versions
	ObjectLock     Answer // objects can be locked
	DefaultLock    string // the bucket's own default, e.g. "governance 30 d"
	ConfiguredLock string // what Puts with Retain ask for
}

// String is the one line that is said at start-up.
func (c Capabilities) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: exclusive create %s", c.Store, c.Exclusive)
	switch {
	case c.Exclusive == Yes && c.ExclusiveParts == Yes:
		b.WriteString(" (also multipart)")
	case c.Exclusive == Yes:
		fmt.Fprintf(&b, " (multipart: %s)", c.ExclusiveParts)
	}
	fmt.Fprintf(&b, ", compare-and-swap %s, SHA-256 %s, versioning %s, object lock %s",
		c.CompareAndSwap, c.Checksum, onOff(c.Versioning), onOff(c.ObjectLock))
	if c.DefaultLock != "" {
		fmt.Fprintf(&b, " (bucket default %s)", c.DefaultLock)
	}
	if c.ConfiguredLock != "" {
		fmt.Fprintf(&b, ", snapshots locked %s", c.ConfiguredLock)
	}
	return b.String()
}

func onOff(a Answer) string {
	switch a {
	case Yes:
		return "on"
	case No:
		return "off"
	}
	return string(a)
}

// String is e.g. "governance 30 d", or "" for no lock.
func (l ObjectLock) String() string {
	if l.Mode == "" {
		return ""
	}
	return fmt.Sprintf("%s %d d", strings.ToLower(l.Mode), l.Days)
}

// Probe finds out what a store can do by trying it on one small object, which it overwrites and leaves. It needs the right to put key;
// what else it may not ask is Unasked. An error means that not even the put works. Several probes of one key may run at once.
func Probe(ctx context.Context, s Store, key string) (Capabilities, error) {
	caps := Capabilities{
		Store: s.String(), Exclusive: Unasked, ExclusiveParts: Unasked, CompareAndSwap: Unasked, Checksum: Unasked,
		Versioning: Unasked, ObjectLock: Unasked,
	}
	if _, err := probePut(ctx, s, key, PutOptions{}); err != nil {
		return caps, err
	}
	_, err := probePut(ctx, s, key, PutOptions{IfAbsent: true})
	switch {
	case err == nil:
		caps.Exclusive = No
	case errors.Is(err, Exists):
		caps.Exclusive = Yes
	case !errors.Is(err, Unsupported):
		return caps, err
	default:
		caps.Exclusive = No
	}
	if caps.CompareAndSwap, caps.Checksum, err = probeSwap(ctx, s, key); err != nil {
		return caps, err
	}
	switch s := innermost(s).(type) {
	case *s3Store:
		err := s.probe(ctx, key, &caps)
		return caps, err
	case *fileStore: // a folder has neither parts nor versions nor locks
		caps.ExclusiveParts, caps.Versioning, caps.ObjectLock = Yes, No, No
	}
	return caps, nil
}

// innermost looks through wrappers.
func innermost(s Store) Store {
	for {
		w, ok := s.(interface{ Unwrap() Store })
		if !ok {
			return s
		}
		s = w.Unwrap()
	}
}

func probePut(ctx context.Context, s Store, key string, opts PutOptions) (Info, error) {
	text := []byte("etcd-steward tries what this store can do: " + rand.Text() + "\n")
	return s.Put(ctx, key, Source{Reader: bytes.NewReader(text), Size: int64(len(text)), SHA256: sha256.Sum256(text)}, opts)
}

// probeSwap tries a swap with a wrong ETag, which must fail, and with the right one, which must succeed. Another probe may come in
// between, hence the repetitions.
func probeSwap(ctx context.Context, s Store, key string) (swap, checksum Answer, err error) {
	_, err = probePut(ctx, s, key, PutOptions{IfMatch: `"00000000000000000000000000000000"`})
	switch {
	case err == nil, errors.Is(err, Unsupported):
		return No, probeChecksum(ctx, s, key), nil
	case !errors.Is(err, Changed):
		return Unasked, Unasked, err
	}
	for try := range 8 {
		before, err := probePut(ctx, s, key, PutOptions{})
		if err != nil {
			return Unasked, Unasked, err
		}
		_, err = probePut(ctx, s, key, PutOptions{IfMatch: before.ETag})
		if err == nil {
			return Yes, probeChecksum(ctx, s, key), nil
		}
		if !errors.Is(err, Changed) {
			return Unasked, Unasked, err
		}
		if now, err := s.Head(ctx, key); err == nil && now.ETag == before.ETag {
			return No, probeChecksum(ctx, s, key), nil
		}
		select { // let the other probe finish
		case <-time.After(mrand.N(10 * time.Millisecond << try)): //nolint:gosec // chance, not secrecy
		case <-ctx.Done():
			return Unasked, Unasked, interrupted(ctx, "probe", key)
		}
	}
	return Unasked, probeChecksum(ctx, s, key), nil
}

func probeChecksum(ctx context.Context, s Store, key string) Answer {
	info, err := s.Head(ctx, key)
	switch {
	case err != nil:
		return Unasked
	case info.SHA256 == [32]byte{}:
		return No
	}
	return Yes
}
