package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"etcd-steward/backup/changes/record"
	"etcd-steward/backup/changes/record/recordtest"
	"etcd-steward/backup/repo"
	"etcd-steward/backup/repo/envelope"
	"etcd-steward/backup/snapshot"
	"etcd-steward/backup/store"
	"etcd-steward/integration/lab"
)

// etcdFor is the command that starts an etcd of a script's own, for scripts that delete, compact, or count revisions:
// etcd [VERSION [FLAGS...]]. It sets ETCDCTL_ENDPOINTS.
func etcdFor(t *testing.T) func(ts *testscript.TestScript, neg bool, args []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if neg {
			ts.Fatalf("usage: etcd [VERSION [FLAGS...]]")
		}
		o := lab.EtcdOptions{UnsafeNoFsync: true}
		if len(args) > 0 {
			o.Version, o.ExtraArgs = args[0], args[1:]
		}
		ts.Setenv("ETCDCTL_ENDPOINTS", lab.StartEtcd(t, o).Endpoint(0))
	}
}

// record [-prove] [REVISION]: records from the script's etcd into its store until the revision, or the newest one, is there. -prove also
// has a member's hash recorded, and puts the key "proven" for it to travel with.
func cmdRecord(ts *testscript.TestScript, neg bool, args []string) {
	prove := len(args) > 0 && args[0] == "-prove"
	if prove {
		args = args[1:]
	}
	if neg || len(args) > 1 {
		ts.Fatalf("usage: record [-prove] [REVISION]")
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	endpoint := ts.Getenv("ETCDCTL_ENDPOINTS")
	cli, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, DialTimeout: 5 * time.Second, Logger: zap.NewNop()})
	ts.Check(err)
	defer func() { _ = cli.Close() }()
	rev, err := newestRevision(ctx, cli)
	ts.Check(err)
	if len(args) == 1 {
		n, err := strconv.ParseInt(args[0], 10, 64)
		ts.Check(err)
		rev = repo.Revision(n)
	}
	rec, err := startRecorder(ctx, ts, endpoint)
	ts.Check(err)
	defer func() { ts.Check(rec.Stop()) }()
	ts.Check(rec.Wait(ctx, rev))
	if !prove {
		return
	}
	rec.Prove()
	for rec.Status().Proof == 0 {
		select {
		case <-ctx.Done():
			ts.Fatalf("no member gave its hash")
		case <-time.After(10 * time.Millisecond):
		}
	}
	resp, err := cli.Put(ctx, "proven", fmt.Sprint(rec.Status().Proof))
	ts.Check(err)
	ts.Check(rec.Wait(ctx, repo.Revision(resp.Header.Revision)))
}

func newestRevision(ctx context.Context, cli *clientv3.Client) (repo.Revision, error) {
	resp, err := cli.Get(ctx, "\x00")
	if err != nil {
		return 0, err
	}
	return repo.Revision(resp.Header.Revision), nil
}

func startRecorder(ctx context.Context, ts *testscript.TestScript, endpoint string) (*recordtest.Recorder, error) {
	st, err := store.Open(ctx, store.Config{URL: ts.Getenv("STEWARD_STORE"), S3: store.S3Options{
		Endpoint: ts.Getenv("STEWARD_S3_ENDPOINT"), CAFile: ts.Getenv("STEWARD_S3_CA_FILE"),
		AccessKeyID: ts.Getenv("AWS_ACCESS_KEY_ID"), SecretAccessKey: ts.Getenv("AWS_SECRET_ACCESS_KEY"),
	}})
	if err != nil {
		return nil, err
	}
	r, err := repo.Open(ctx, st, "main")
	to, keyErr := envelope.ParseRecipients([]string{ts.Getenv("RECIPIENT")})
	if err = errors.Join(err, keyErr); err != nil {
		return nil, err
	}
	return recordtest.Start(record.Options{
		Repo: r, Cluster: snapshot.Cluster{Endpoints: []string{endpoint}}, Recipients: to,
		SpoolDir: filepath.Join(ts.Getenv("WORK"), "recorder"),
	})
}

// moment VARIABLE: a time after everything before it in the script, and before everything after it, by the clock of this machine.
func cmdMoment(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: moment VARIABLE")
	}
	now := time.Now()
	for time.Since(now) < 5*time.Millisecond { // names carry milliseconds
		time.Sleep(time.Millisecond)
	}
	ts.Setenv(args[0], now.UTC().Format(time.RFC3339Nano))
}
