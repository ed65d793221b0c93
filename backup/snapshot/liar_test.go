package snapshot

import (
	"bytes"
	"context"
	"crypto/sha256"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"etcd-steward/internal/fail"
)

// liar is a member that sends what a test wants: no real one can be made to do so on demand.
type liar struct {
	pb.UnimplementedMaintenanceServer
	send func(send func(remaining int, blob []byte) error) error
}

func (l *liar) Status(context.Context, *pb.StatusRequest) (*pb.StatusResponse, error) {
	return &pb.StatusResponse{Header: &pb.ResponseHeader{MemberId: 1, ClusterId: 1}, Version: "3.7.3", DbSize: 1 << 20}, nil
}

func (l *liar) Snapshot(_ *pb.SnapshotRequest, srv pb.Maintenance_SnapshotServer) error {
	return l.send(func(remaining int, blob []byte) error {
		return srv.Send(&pb.SnapshotResponse{RemainingBytes: uint64(remaining), Blob: blob, Version: "3.7.0"})
	})
}

func startLiar(t *testing.T, send func(send func(remaining int, blob []byte) error) error) (Cluster, Member) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer()
	pb.RegisterMaintenanceServer(srv, &liar{send: send})
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(l)
	}()
	t.Cleanup(func() {
		srv.Stop()
		<-done
	})
	return Cluster{Endpoints: []string{"http://" + l.Addr().String()}}, Member{Endpoint: "http://" + l.Addr().String(), ID: 1, ClusterID: 1}
}

// database is a small real db file with a key bucket.
func database(t *testing.T) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "db")
	db, err := bolt.Open(path, 0o600, &bolt.Options{NoFreelistSync: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Update(func(tx *bolt.Tx) error {
		for _, name := range []string{"key", "meta"} {
			b, err := tx.CreateBucket([]byte(name))
			if err != nil {
				return err
			}
			if name == "key" {
				if err := b.Put([]byte("\x00\x00\x00\x00\x00\x00\x00\x07_\x00\x00\x00\x00\x00\x00\x00\x00"), bytes.Repeat([]byte{0x2a, 1, 'x'}, 3000)); err != nil {
					return err
				}
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

type sender = func(remaining int, blob []byte) error

// whole sends db as etcd does, in messages of n bytes, without the trailer.
func whole(send sender, db []byte, n int) error {
	for at := 0; at < len(db); at += n {
		end := min(at+n, len(db))
		if err := send(len(db)-end, db[at:end]); err != nil {
			return err
		}
	}
	return nil
}

// TestLiars: whatever a member does wrong, the stream ends soon, says what was wrong, and leaves nothing.
func TestLiars(t *testing.T) {
	db := database(t)
	sum := sha256.Sum256(db)
	wrong := bytes.Clone(db)
	wrong[len(wrong)/2] ^= 1
	for _, tc := range []struct {
		name, words, hint string
		send              func(send sender) error
	}{
		{"empty messages for ever", "an empty message with", "another member", func(send sender) error {
			if err := send(len(db)-4096, db[:4096]); err != nil {
				return err
			}
			for {
				if err := send(len(db)-4096, nil); err != nil {
					return err
				}
			}
		}},
		{"empty from the start", "announced", "again", func(send sender) error { return send(len(db), nil) }},
		{"nothing at all", "ended after 0 of 0", "again", func(sender) error { return nil }},
		{"ends early", "ended after 4096 of", "again", func(send sender) error { return send(len(db)-4096, db[:4096]) }},
		{"no trailer", "without the hash", "again", func(send sender) error { return whole(send, db, 5000) }},
		{"half a trailer", "without the hash", "again", func(send sender) error {
			if err := whole(send, db, 5000); err != nil {
				return err
			}
			return send(0, sum[:16])
		}},
		{"more than announced", "more than", "again", func(send sender) error {
			if err := whole(send, db, 5000); err != nil {
				return err
			}
			return send(0, db)
		}},
		{"wrong byte", "the database's hash is", "another member", func(send sender) error {
			if err := whole(send, wrong, 5000); err != nil {
				return err
			}
			return send(0, sum[:])
		}},
		{"another total", "remain", "again", func(send sender) error {
			if err := send(len(db)-4096, db[:4096]); err != nil {
				return err
			}
			return send(len(db), db[4096:8192])
		}},
		{"not a database", "the spooled snapshot", "again", func(send sender) error {
			junk := make([]byte, 32<<10)
			s := sha256.Sum256(junk)
			if err := whole(send, junk, 5000); err != nil {
				return err
			}
			return send(0, s[:])
		}},
		{"an error of its own", "broke off after 4.0 KiB of", "log", func(send sender) error {
			if err := send(len(db)-4096, db[:4096]); err != nil {
				return err
			}
			return status.Error(codes.Unknown, "input/output error")
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, m := startLiar(t, func(send func(int, []byte) error) error { return tc.send(send) })
			dir := t.TempDir()
			begun := time.Now()
			_, err := Stream(t.Context(), c, m, SpoolOptions{Dir: dir})
			if took := time.Since(begun); took > 10*time.Second {
				t.Errorf("it took %v", took)
			}
			wantError(t, err, tc.words, tc.hint)
			nothingLeft(t, dir)
		})
	}
}

// TestOddSizes: messages of any size are one and the same snapshot.
func TestOddSizes(t *testing.T) {
	db := database(t)
	sum := sha256.Sum256(db)
	for _, n := range []int{7, 4096, 5001, 1 << 20} {
		c, m := startLiar(t, func(send func(int, []byte) error) error {
			if err := whole(send, db, n); err != nil {
				return err
			}
			if err := send(0, sum[:7]); err != nil { // nothing says that the trailer is one message
				return err
			}
			return send(0, sum[7:])
		})
		s, err := Stream(t.Context(), c, m, SpoolOptions{Dir: t.TempDir()})
		if err != nil {
			t.Fatalf("messages of %d bytes: %v (hint %q)", n, err, fail.HintOf(err))
		}
		want := append(bytes.Clone(db), sum[:]...)
		if got := content(t, s); !bytes.Equal(got, want) {
			t.Errorf("messages of %d bytes: the spool is not what was sent", n)
		}
		checkSealed(t, s, nil, want)
		if s.Revision != 7 {
			t.Errorf("revision %d, want 7", s.Revision)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}
