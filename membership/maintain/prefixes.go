package maintain

import (
	stdbytes "bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"etcd-steward/membership/probe"
)

// Prefix is a part of the keys.
type Prefix struct {
	Prefix string `json:"prefix"`
	Keys   int64  `json:"keys"`
	// Bytes are estimated, from the size of the first few values.
	Bytes int64 `json:"bytes_estimated"`
}

// Bounds of the search for the largest prefixes.
const (
	prefixesMax  = 200 // that are counted
	prefixDepth  = 3   // slashes: /registry/pods/
	prefixSample = 10  // values that are read of each
)

// Largest finds which parts of the keys are the largest: it counts each and reads a few values of it, so that what it asks of etcd does not grow with the
// database. False says that there are more prefixes than were counted.
func (c *Cluster) Largest(ctx context.Context, v *probe.View, n int) (all []Prefix, complete bool, err error) {
	conn, err := c.dialVoter(ctx, v)
	if err != nil {
		return nil, false, err
	}
	defer func() { _ = conn.Close() }()
	ask := func(r *pb.RangeRequest) (*pb.RangeResponse, error) {
		r.Serializable = true
		return probe.Call(ctx, conn, callLimit, conn.KV().Range, r)
	}
	walk := walker{next: []byte{0}}
	for range prefixesMax {
		first, err := ask(&pb.RangeRequest{Key: walk.next, RangeEnd: []byte{0}, Limit: 1, KeysOnly: true})
		if err != nil {
			return nil, false, fmt.Errorf("look for the largest prefixes: %w", err)
		}
		if len(first.GetKvs()) == 0 {
			complete = true
			break
		}
		name, from, end := walk.step(string(first.GetKvs()[0].GetKey()))
		counted, err := ask(&pb.RangeRequest{Key: from, RangeEnd: end, CountOnly: true})
		if err != nil {
			return nil, false, fmt.Errorf("count %q: %w", name, err)
		}
		sample, err := ask(&pb.RangeRequest{Key: from, RangeEnd: end, Limit: prefixSample})
		if err != nil {
			return nil, false, fmt.Errorf("read some of %q: %w", name, err)
		}
		all = append(all, estimate(name, counted.GetCount(), sample))
		if stdbytes.Equal(end, []byte{0}) {
			complete = true
			break
		}
	}
	slices.SortFunc(all, func(a, b Prefix) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), strings.Compare(a.Prefix, b.Prefix))
	})
	return all[:min(n, len(all))], complete, nil
}

func estimate(prefix string, keys int64, sample *pb.RangeResponse) Prefix {
	p := Prefix{Prefix: prefix, Keys: keys}
	var size int64
	for _, kv := range sample.GetKvs() {
		size += int64(len(kv.GetKey()) + len(kv.GetValue()))
	}
	if n := int64(len(sample.GetKvs())); n > 0 {
		p.Bytes = size * keys / n
	}
	return p
}

// walker goes through the keys by jumping over whole prefixes.
type walker struct {
	next   []byte
	parent string
	single int // keys in a row that were prefixes of their own, below parent
}

// singlesMax is how many such keys are named; what follows below the same parent is one entry.
const singlesMax = 8

// step names the part that begins with a key, and its range. A key with few slashes stands alone, so that "/registry/x" does not hide "/registry/pods/".
func (w *walker) step(key string) (name string, from, end []byte) {
	at, parent, slashes := 0, 0, 0
	for i := range len(key) {
		if key[i] == '/' && slashes < prefixDepth {
			at, parent = i+1, i+1
			slashes++
		}
	}
	name, from = key[:at], []byte(key[:at])
	switch slashes {
	case prefixDepth:
		w.single = 0
		end = endOf(from)
	default:
		if w.parent != key[:parent] {
			w.parent, w.single = key[:parent], 0
		}
		if w.single++; w.single > singlesMax {
			name, from, end = key[:parent], []byte(key), endOf([]byte(key[:parent]))
		} else {
			name, from, end = key, []byte(key), append([]byte(key), 0)
		}
	}
	w.next = end
	return name, from, end
}

// endOf is the first key behind all that begin with a prefix.
func endOf(prefix []byte) []byte {
	end := slices.Clone(prefix)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i] < 0xff {
			end[i]++
			return end[:i+1]
		}
	}
	return []byte{0}
}
