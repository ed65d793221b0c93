package doctor

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"etcd-steward/integration/lab"
)

// three run, and the last is stopped.
func threeLessOne(t *testing.T, version string, extra ...string) []*node {
	t.Helper()
	nodes := newNodes(t, version, 3)
	var last *lab.Process
	for _, n := range nodes {
		n.extra = extra
		last = n.start(t)
	}
	for _, n := range nodes {
		n.serves(t)
	}
	last.Stop()
	nodes[0].serves(t)
	return nodes
}

func playWiped(t *testing.T, version string) string {
	n := threeLessOne(t, version)[2]
	n.dir, n.state = n.dir+".new", "existing"
	return ends(t, n.start(t))
}

func playBootstrapped(t *testing.T, version string) string {
	n := threeLessOne(t, version)[2]
	n.dir = n.dir + ".new"
	return ends(t, n.start(t))
}

func playRemoved(t *testing.T, version string) string {
	nodes := threeLessOne(t, version)
	cli := nodes[0].cli(t)
	list := must(cli.MemberList(t.Context()))(t)
	for _, m := range list.Members {
		if m.Name != "m2" {
			continue
		}
		lab.Eventually(t, 30*time.Second, "it is removed", func() error {
			_, err := cli.MemberRemove(t.Context(), m.ID)
			return err
		})
	}
	return ends(t, nodes[2].start(t))
}

func playOtherCluster(t *testing.T, version string) string {
	nodes := newNodes(t, version, 2)
	nodes[1].token = "another"
	nodes[1].start(t)
	return nodes[0].start(t).Log
}

// playStale restores two of three members from an early snapshot under the same token; the third comes with its old, longer log.
func playStale(t *testing.T, version string) string {
	nodes := newNodes(t, version, 3)
	var procs []*lab.Process
	for _, n := range nodes {
		procs = append(procs, n.start(t))
	}
	for _, n := range nodes {
		n.serves(t)
	}
	file := snapshot(t, nodes[0])
	cli := nodes[0].cli(t)
	for range 300 {
		must(cli.Put(t.Context(), "more", "and more"))(t)
	}
	for _, p := range procs {
		p.Stop()
	}
	for _, n := range nodes[:2] {
		n.dir += ".restored"
		lab.Etcdutl(t, "snapshot", "restore", file, "--data-dir", n.dir, "--name", n.name, "--initial-cluster", n.initial,
			"--initial-cluster-token", n.token, "--initial-advertise-peer-urls", "http://"+n.peer)
		n.extra = []string{"--snapshot-count", "10"}
		if version == "3.5" || version == "3.6" {
			n.extra = append(n.extra, "--experimental-snapshot-catchup-entries", "1")
		} else {
			n.extra = append(n.extra, "--snapshot-catchup-entries", "1")
		}
	}
	nodes[0].start(t)
	nodes[1].start(t)
	nodes[0].serves(t)
	for range 50 {
		must(nodes[0].cli(t).Put(t.Context(), "other", "history"))(t)
	}
	moveAround(t, nodes[:2])
	return nodes[2].start(t).Log
}

// moveAround makes elections, so that the terms of the new history are not those of the old one: with equal ones, the stale member would just go on, unseen.
func moveAround(t *testing.T, nodes []*node) {
	t.Helper()
	for range 4 {
		lab.Eventually(t, 30*time.Second, "the leader moves", func() error {
			for _, n := range nodes {
				cli := n.cli(t)
				st, err := cli.Status(t.Context(), "http://"+n.client)
				if err != nil || st.Leader != st.Header.MemberId {
					continue
				}
				for _, m := range must(cli.MemberList(t.Context()))(t).Members {
					if m.Name != "m2" && m.ID != st.Leader {
						_, err := cli.MoveLeader(t.Context(), m.ID)
						return err
					}
				}
			}
			return errors.New("there is none")
		})
	}
}

// snapshot is a file with what a member has.
func snapshot(t *testing.T, n *node) string {
	t.Helper()
	r := must(n.cli(t).Snapshot(t.Context()))(t)
	defer func() { _ = r.Close() }()
	path := filepath.Join(t.TempDir(), "snapshot.db")
	f := must(os.Create(path))(t)
	must(f.ReadFrom(r))(t)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func playWrongName(t *testing.T, version string) string {
	n := newNode(t, version, "m0")
	n.name = "m1"
	return ends(t, n.start(t))
}

// playDowngrade starts the version on what the one after it wrote.
func playDowngrade(t *testing.T, version string) string {
	next := map[string]string{"3.5": "3.6", "3.6": "3.7"}[version]
	n := newNode(t, next, "m0")
	p := n.start(t)
	n.serves(t)
	lab.Eventually(t, 30*time.Second, "the cluster's version is known", func() error {
		b, err := os.ReadFile(p.Log)
		if err == nil && !strings.Contains(string(b), `"cluster-version":"`+next) {
			err = errors.New("not yet")
		}
		return err
	})
	p.Stop()
	n.version = version
	return ends(t, n.start(t))
}

// playDivergence changes one byte of a value on the disk of one member.
func playDivergence(t *testing.T, version string) string {
	n := threeLessOne(t, version, "--snapshot-count", "2")[2] // 3.5 knows its peers that early only from a snapshot
	db := must(bbolt.Open(filepath.Join(n.dir, "member", "snap", "db"), 0o600, nil))(t)
	err := db.Update(func(tx *bbolt.Tx) error {
		k, v := tx.Bucket([]byte("key")).Cursor().First()
		return tx.Bucket([]byte("key")).Put(append([]byte(nil), k...), append(append([]byte(nil), v[:len(v)-1]...), v[len(v)-1]^1))
	})
	if err = errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	switch version {
	case "3.5":
		n.extra = []string{"--experimental-initial-corrupt-check"}
	case "3.6":
		n.extra = []string{"--feature-gates", "InitialCorruptCheck=true"}
	default:
		n.extra = []string{"--feature-gates", "InitialCorruptCheck=true"}
	}
	return ends(t, n.start(t))
}

func playAlone(t *testing.T, version string) string {
	return newNodes(t, version, 3)[0].start(t).Log
}

func playUnhealthy(t *testing.T, version string) string {
	nodes := threeLessOne(t, version)
	cli := nodes[0].cli(t)
	var err error
	lab.Eventually(t, 30*time.Second, "an addition is refused", func() error {
		if _, err = cli.MemberAddAsLearner(t.Context(), []string{"http://127.0.0.1:1"}); err == nil {
			return errors.New("accepted")
		}
		return nil
	})
	return said(t, err)
}

func playTwoLearners(t *testing.T, version string) string {
	n := newNode(t, version, "m0")
	n.start(t)
	n.serves(t)
	cli := n.cli(t)
	must(cli.MemberAddAsLearner(t.Context(), []string{"http://127.0.0.1:1"}))(t)
	_, err := cli.MemberAddAsLearner(t.Context(), []string{"http://127.0.0.1:2"})
	return said(t, err)
}

func playEarlyPromotion(t *testing.T, version string) string {
	n := newNode(t, version, "m0")
	n.start(t)
	n.serves(t)
	cli := n.cli(t)
	added := must(cli.MemberAddAsLearner(t.Context(), []string{"http://127.0.0.1:1"}))(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, err := cli.MemberPromote(ctx, added.Member.ID)
	return said(t, err)
}
