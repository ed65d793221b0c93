package watch

import (
	"errors"
	"fmt"
	"strings"

	"etcd-steward/backup/changes"
	"etcd-steward/backup/changes/wire"
	"etcd-steward/backup/repo"
)

// Response is one message of a watch.
type Response struct {
	ClusterID repo.ClusterID
	MemberID  uint64
	// Revision is the member's when it sent the message.
	Revision repo.Revision
	RaftTerm uint64
	// Created answers the request for the watch; Canceled ends it, with a Reason.
	Created, Canceled bool
	Reason            string
	// CompactRevision is set when the watch asked for a revision that is gone.
	CompactRevision repo.Revision
	// Fragment says that the next message continues this one; a revision is whole only at the end of one without it.
	Fragment bool
	// Events is the number of events in the message.
	Events int

	data   []byte
	change Change // what Each gives: here, so that it is not allocated each time
}

// Progress says whether the message is a progress notification: everything up to Revision has been sent.
func (r *Response) Progress() bool { return !r.Created && !r.Canceled && !r.Fragment && r.Events == 0 }

// Change is one event of a message; its slices are parts of it.
type Change struct {
	Revision  repo.Revision
	Tombstone bool
	Key       []byte
	Lease     int64
	// Record is the KeyValue as the server stores it; nil for a tombstone, whose record AppendTombstone makes of the key.
	Record []byte
}

// Field numbers of WatchResponse and ResponseHeader (etcd api/etcdserverpb/rpc.proto), and of Event (api/mvccpb/kv.proto).
const (
	respHeader   = 1
	respCreated  = 3
	respCanceled = 4
	respCompact  = 5
	respReason   = 6
	respFragment = 7
	respEvents   = 11

	headCluster  = 1
	headMember   = 2
	headRevision = 3
	headTerm     = 4

	eventType = 1
	eventKV   = 2
	typeDel   = 1
)

var errMessage = errors.New("the member's message makes no sense")

// reasonMax bounds what of a server's text goes into errors and logs.
const reasonMax = 200

// Parse reads a WatchResponse as it came over the wire, and points into it.
func (r *Response) Parse(b []byte) error {
	*r = Response{data: b}
	for len(b) > 0 {
		f, rest, err := wire.Next(b)
		if err != nil {
			return fmt.Errorf("%w: %w", errMessage, err)
		}
		b = rest
		switch f.Number {
		case respHeader:
			if err := r.header(f.Bytes); err != nil {
				return err
			}
		case respCreated:
			r.Created = f.Varint != 0
		case respCanceled:
			r.Canceled = f.Varint != 0
		case respCompact:
			r.CompactRevision = repo.Revision(f.Varint)
		case respReason:
			r.Reason = strings.ToValidUTF8(string(f.Bytes[:min(len(f.Bytes), reasonMax)]), "?")
		case respFragment:
			r.Fragment = f.Varint != 0
		case respEvents:
			r.Events++
		}
	}
	if r.ClusterID == 0 || r.Revision < 0 || r.CompactRevision < 0 {
		return fmt.Errorf("%w: cluster %s, revision %d", errMessage, r.ClusterID, r.Revision)
	}
	return nil
}

func (r *Response) header(b []byte) error {
	for len(b) > 0 {
		f, rest, err := wire.Next(b)
		if err != nil {
			return fmt.Errorf("%w: %w", errMessage, err)
		}
		b = rest
		switch f.Number {
		case headCluster:
			r.ClusterID = repo.ClusterID(f.Varint)
		case headMember:
			r.MemberID = f.Varint
		case headRevision:
			r.Revision = repo.Revision(f.Varint)
		case headTerm:
			r.RaftTerm = f.Varint
		}
	}
	return nil
}

// Each calls f with the message's events, in order, until it fails.
func (r *Response) Each(f func(*Change) error) error {
	c := &r.change
	for b := r.data; len(b) > 0; {
		field, rest, err := wire.Next(b)
		if err != nil {
			return fmt.Errorf("%w: %w", errMessage, err)
		}
		b = rest
		if field.Number != respEvents {
			continue
		}
		if err := c.parse(field.Bytes); err != nil {
			return err
		}
		if err := f(c); err != nil {
			return err
		}
	}
	return nil
}

func (c *Change) parse(b []byte) error {
	*c = Change{}
	var record []byte
	for len(b) > 0 {
		f, rest, err := wire.Next(b)
		if err != nil {
			return fmt.Errorf("%w: %w", errMessage, err)
		}
		b = rest
		switch f.Number {
		case eventType:
			c.Tombstone = f.Varint == typeDel
			if f.Varint > typeDel {
				return fmt.Errorf("%w: an event of type %d", errMessage, f.Varint)
			}
		case eventKV:
			record = f.Bytes
		}
	}
	kv, err := changes.ParseKeyValue(record)
	if err != nil || len(kv.Key) == 0 || kv.ModRevision < 1 {
		return fmt.Errorf("%w: an event without key or revision", errMessage)
	}
	c.Key, c.Lease, c.Revision = kv.Key, kv.Lease, repo.Revision(kv.ModRevision)
	if !c.Tombstone {
		c.Record = record
	}
	return nil
}
