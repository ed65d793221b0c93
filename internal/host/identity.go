package host

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
)

// Identity is whose data a directory holds: etcd's IDs of the cluster and of the member.
type Identity struct{ Cluster, Member uint64 }

// ErrNoIdentity means that a directory has no WAL that begins as etcd's do.
var ErrNoIdentity = errors.New("no WAL that says whose it is")

// Whose reads from the WAL whose data an etcd has. A name or a URL can be given to another member; this cannot. Without data, or with a WAL that is
// damaged, it is ErrNoIdentity.
func (m *Machine) Whose(e *Etcd) (Identity, error) {
	dir, err := e.WALDir()
	if err != nil {
		return Identity{}, err
	}
	if dir == "" {
		data, err := e.DataDir()
		if err != nil {
			return Identity{}, err
		}
		dir = filepath.Join(data, "member", "wal")
	}
	return identityIn(m.Path(dir))
}

// identityIn reads the newest segment of a WAL: each begins with a checksum and the metadata (server, storage/wal/wal.go cut).
func identityIn(dir string) (Identity, error) {
	found, err := filepath.Glob(filepath.Join(dir, "*.wal"))
	if err != nil || len(found) == 0 {
		return Identity{}, fmt.Errorf("%s: %w", dir, ErrNoIdentity)
	}
	newest := slices.Max(found) // the names are numbers of one length
	f, err := os.Open(newest)
	if err != nil {
		return Identity{}, fmt.Errorf("read whose data it is: %w", err)
	}
	defer func() { _ = f.Close() }()
	id, err := readIdentity(bufio.NewReader(f))
	if err != nil {
		return id, fmt.Errorf("%s: %w", newest, err)
	}
	return id, nil
}

const (
	walMetadata  = 1       // wal.MetadataType
	walFrames    = 4       // the metadata is the second
	walRecordMax = 1 << 10 // checksum and metadata have a few bytes
)

// readIdentity reads a segment's first records: a length of 8 bytes, whose highest byte counts the padding, then walpb.Record.
func readIdentity(r io.Reader) (Identity, error) {
	for range walFrames {
		var head [8]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return Identity{}, ErrNoIdentity
		}
		field := binary.LittleEndian.Uint64(head[:])
		size, pad := field&(1<<56-1), uint64(0)
		if field>>63 == 1 {
			pad = field >> 56 & 7
		}
		if size == 0 || size > walRecordMax {
			return Identity{}, ErrNoIdentity
		}
		record := make([]byte, size+pad)
		if _, err := io.ReadFull(r, record); err != nil {
			return Identity{}, ErrNoIdentity
		}
		kind, data := numberAndBytes(record[:size], 1, 3)
		if kind != walMetadata {
			continue
		}
		member, _ := numberAndBytes(data, 1, 0) // etcdserverpb.Metadata
		cluster, _ := numberAndBytes(data, 2, 0)
		if member == 0 || cluster == 0 {
			return Identity{}, ErrNoIdentity
		}
		return Identity{Cluster: cluster, Member: member}, nil
	}
	return Identity{}, ErrNoIdentity
}

// numberAndBytes are two fields of a message; what is not a message has none.
func numberAndBytes(msg []byte, number, bytes protowire.Number) (n uint64, b []byte) {
	for len(msg) > 0 {
		field, kind, size := protowire.ConsumeTag(msg)
		if size < 0 {
			return 0, nil
		}
		msg = msg[size:]
		switch {
		case field == number && kind == protowire.VarintType:
			v, _ := protowire.ConsumeVarint(msg)
			n = v
		case field == bytes && kind == protowire.BytesType:
			v, _ := protowire.ConsumeBytes(msg)
			b = v
		}
		if size = protowire.ConsumeFieldValue(field, kind, msg); size < 0 {
			return 0, nil
		}
		msg = msg[size:]
	}
	return n, b
}
