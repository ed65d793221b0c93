package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/rogpeppe/go-internal/testscript"

	"etcd-steward/integration/lab"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"steward": main, "planner": planner})
}

// secretValue is in every etcd of the scripts; it must never be found in a store.
const secretValue = "plain-text-that-must-not-leak"

// TestScripts runs testdata/*.txtar. Each script begins with the promise that it guards, and has a folder of its own with a store, two
// age identities, and real servers at hand.
func TestScripts(t *testing.T) {
	env := startServers(t)
	cmds := maps.Clone(commands)
	cmds["etcd"] = etcdFor(t)
	maps.Copy(cmds, clusterCommands(t))
	cmds["rewrite"] = cmdRewrite
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup:               func(e *testscript.Env) error { return prepare(e, env) },
		Cmds:                cmds,
		Condition:           func(cond string) (bool, error) { return condition(cond) },
	})
}

// startServers starts what all scripts share: nobody changes it but by adding objects below a prefix of his own.
func startServers(t *testing.T) map[string]string {
	plain := lab.StartEtcd(t, lab.EtcdOptions{UnsafeNoFsync: true})
	secure := lab.StartEtcd(t, lab.EtcdOptions{UnsafeNoFsync: true, TLS: true})
	other := lab.NewCA(t)
	old := lab.NewCA(t)
	late := lab.StartEtcd(t, lab.EtcdOptions{UnsafeNoFsync: true, TLS: true, ServerPair: old.Issue(t, "expired", time.Now().Add(-time.Hour))})
	soon := old.Issue(t, "client", time.Now().Add(24*time.Hour))
	big := lab.StartEtcd(t, lab.EtcdOptions{UnsafeNoFsync: true})
	lab.Fill(t, big.Client(t), lab.FillOptions{Keys: 4000, ValueSize: 1 << 10, Seed: 1})
	expired := lab.StartS3(t, lab.S3Options{Expired: true})
	s3 := lab.StartS3(t, lab.S3Options{Accounts: true})
	s3.CreateUser("nobody", "nobody-secret-0123456789")
	roles := startRoles(t)
	for _, c := range []*lab.Cluster{plain, secure, big} {
		for i := range 20 {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			if _, err := c.Client(t).Put(ctx, fmt.Sprintf("/registry/secrets/default/s%02d", i), secretValue); err != nil {
				t.Fatal(err)
			}
			cancel()
		}
	}
	return map[string]string{
		"ETCD": plain.Endpoint(0), "ETCD_DATA": plain.DataDir(0), "ETCD_NAME": plain.Members[0].Name,
		"ETCD_TLS": secure.Endpoint(0), "ETCD_CA": secure.CA.File, "ETCD_CERT": secure.Pair.Cert, "ETCD_KEY": secure.Pair.Key,
		"ETCD_EXPIRED": late.Endpoint(0), "ETCD_EXPIRED_CA": old.File, "ETCD_EXPIRED_CERT": soon.Cert, "ETCD_EXPIRED_KEY": soon.Key, "ETCD_BIG": big.Endpoint(0),
		"OTHER_CA": other.File, "NOBODY_LISTENS": lab.FreeAddr(t),
		"S3": s3.Endpoint, "S3_CA": s3.CA.File, "S3_DIR": filepath.Join(s3.Dir, s3.Bucket), "BUCKET": s3.Bucket, "S3_EXPIRED": expired.Endpoint, "S3_EXPIRED_CA": expired.CA.File,
		"AWS_ACCESS_KEY_ID": s3.Access, "AWS_SECRET_ACCESS_KEY": s3.Secret, "S3_SECRET": s3.Secret,
		"ROLES_S3": roles.Endpoint, "ROLES_CA": roles.CA.File, "ROLES_BUCKET": roles.Bucket, "ROLES_DIR": filepath.Join(roles.Dir, roles.Bucket),
		"AWS_EC2_METADATA_DISABLED": "true",
		"ETCDCTL":                   lab.Tool(t, "etcdctl"), "ETCDUTL": lab.Tool(t, "etcdutl"),
		"SECRET": secretValue,
	}
}

// prepare gives a script its own folder, store and keys.
func prepare(e *testscript.Env, env map[string]string) error {
	for k, v := range env {
		e.Setenv(k, v)
	}
	for _, dir := range []string{"store", "cache", "home"} {
		if err := os.Mkdir(filepath.Join(e.WorkDir, dir), 0o700); err != nil {
			return err
		}
	}
	for name, variable := range map[string]string{"id.txt": "RECIPIENT", "other.txt": "OTHER_RECIPIENT"} {
		id, err := age.GenerateX25519Identity()
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(e.WorkDir, name), []byte(id.String()+"\n"), 0o600); err != nil {
			return err
		}
		e.Setenv(variable, id.Recipient().String())
	}
	e.Setenv("HOME", filepath.Join(e.WorkDir, "home"))
	e.Setenv("CACHE_DIRECTORY", filepath.Join(e.WorkDir, "cache"))
	e.Setenv("STEWARD_CONFIG", "") // whatever this machine has
	e.Setenv("STEWARD_STORE", "file://"+filepath.Join(e.WorkDir, "store"))
	e.Values[interruptedKey{}] = &interrupted{}
	e.Values[clusterKey{}] = new(*lab.Cluster)
	e.Setenv("PREFIX", filepath.Base(e.WorkDir))
	return nil
}

func condition(cond string) (bool, error) {
	if cond == "root" {
		return os.Geteuid() == 0, nil
	}
	return false, fmt.Errorf("unknown condition %q", cond)
}
