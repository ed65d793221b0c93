package changestest

import (
	"context"
	"encoding/binary"
	"fmt"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/proto"
)

// Record is one record of etcd's key bucket.
type Record struct{ Key, Value string }

// Late makes the records of the revisions from to `to` with etcd's own client and its own encoder: what the change log must say. The history must not
// be compacted.
func Late(ctx context.Context, cli *clientv3.Client, from, to int64) ([]Record, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var out []Record
	last, sub := from-1, uint64(0)
	for resp := range cli.Watch(ctx, "\x00", clientv3.WithFromKey(), clientv3.WithRev(from)) {
		if err := resp.Err(); err != nil {
			return nil, fmt.Errorf("late watch from %d: %w", from, err)
		}
		for _, ev := range resp.Events {
			rev := ev.Kv.ModRevision
			if rev > to {
				break
			}
			if sub++; rev != last {
				last, sub = rev, 0
			}
			kv := ev.Kv
			key := binary.BigEndian.AppendUint64(nil, uint64(rev))
			key = binary.BigEndian.AppendUint64(append(key, '_'), sub)
			if ev.Type == clientv3.EventTypeDelete {
				key, kv = append(key, 't'), &mvccpb.KeyValue{Key: ev.Kv.Key}
			}
			value, err := proto.Marshal(kv)
			if err != nil {
				return nil, err
			}
			out = append(out, Record{string(key), string(value)})
		}
		if last >= to {
			return out, nil
		}
	}
	return nil, fmt.Errorf("late watch from %d ended at %d of %d: %w", from, last, to, ctx.Err())
}
