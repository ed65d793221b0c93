package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"filippo.io/age"
	"github.com/urfave/cli/v2"

	"etcd-steward/backup/repo"
	"etcd-steward/backup/repo/envelope"
	"etcd-steward/backup/store"
	"etcd-steward/internal/config"
	"etcd-steward/internal/fail"
)

// config is the effective configuration: flags, environment, file, what this machine runs, defaults.
func (c *call) config() (*config.Config, error) {
	opts := config.Options{
		Path: config.DefaultPath, Optional: true, Flags: overrides(c.Context, os.LookupEnv), Etcdctl: true, Cluster: c.cluster(),
		Etcd: c.String("etcd"),
	}
	for _, k := range keepFlags {
		if c.IsSet(k.flag) {
			opts.Flags = append(opts.Flags, config.Flag{Name: "--" + k.flag, Field: k.field, Value: c.String(k.flag)})
		}
	}
	if path := c.flagOr("config", "STEWARD_CONFIG"); path != "" {
		opts.Path, opts.Optional = path, false
	}
	return config.Resolve(opts)
}

// flagOr is a flag's value, or that of a variable.
func (c *call) flagOr(flag, env string) string {
	if c.IsSet(flag) {
		return c.String(flag)
	}
	if env == "" {
		return ""
	}
	return os.Getenv(env)
}

// cluster is the name that was asked for; "" when none was.
func (c *call) cluster() string { return c.flagOr("cluster", "STEWARD_CLUSTER") }

// store opens the configured store.
func (c *call) store(cfg *config.Config) (store.Store, error) {
	sc, err := cfg.StoreConfig()
	if err != nil {
		return nil, err
	}
	st, err := store.Open(c.ctx, sc)
	if err != nil {
		return nil, err
	}
	return st, nil
}

// existing opens the repository to read from. On a machine without a configuration the name of the cluster need not be known: when the
// store holds one repository, it is that one.
func (c *call) existing(cfg *config.Config) (*repo.Repo, error) {
	st, err := c.store(cfg)
	if err != nil {
		return nil, err
	}
	name := c.cluster() // which need not be one that this machine's configuration knows
	if name == "" {
		cl, err := cfg.Cluster("")
		if err != nil {
			return nil, fail.New(fail.Usage, err, "--cluster NAME")
		}
		name = cl.Name
	}
	r, err := repo.Open(c.ctx, st, name)
	if err != nil {
		return nil, err
	}
	if _, ok := r.Identity(); ok || c.cluster() != "" {
		return r, nil
	}
	names, err := repo.Clusters(c.ctx, st)
	switch {
	case err != nil || len(names) == 0: // an empty store is no error; the caller says that there is nothing
		return r, nil //nolint:nilerr // a role without the right to list the whole store
	case slices.Contains(names, name): // made meanwhile, by a daemon that has just begun
		return repo.Open(c.ctx, st, name)
	case len(names) == 1 && cfg.Path() == "":
		c.note("the store holds backups of one cluster, %q", names[0])
		return repo.Open(c.ctx, st, names[0])
	}
	return nil, fail.New(fail.Usage, fmt.Errorf("%s holds no backups of cluster %q, but of %s", st, name, strings.Join(names, ", ")), "name one with --cluster NAME")
}

// identities loads the files given with --identity, or else the configured one. Without any there are none.
func (c *call) identities(cfg *config.Config) ([]age.Identity, error) {
	files := c.identityFiles()
	if len(files) == 0 && cfg.Encryption.IdentityFile != "" {
		files = []string{cfg.Encryption.IdentityFile}
	}
	var all []age.Identity
	for _, f := range files {
		ids, err := envelope.LoadIdentities(f)
		if err != nil {
			return nil, err
		}
		all = append(all, ids...)
	}
	return all, nil
}

// identityFiles are those that were given for this run.
func (c *call) identityFiles() []string {
	if files := wordsOf(c.Context, "identity"); len(files) > 0 {
		return files
	}
	if file := os.Getenv("STEWARD_IDENTITY"); file != "" {
		return []string{file}
	}
	return nil
}

// ids are the arguments as backup IDs.
func ids(args []string) []repo.SnapshotID {
	var all []repo.SnapshotID
	for _, a := range args {
		if !strings.EqualFold(a, "newest") {
			all = append(all, repo.SnapshotID(strings.ToUpper(a)))
			continue
		}
		all = append(all, "newest")
	}
	return all
}

// spoolDir is where snapshots and decrypted databases may lie for a while: as asked, or as configured, or the user's cache when that
// cannot be written.
func (c *call) spoolDir(cfg *config.Config) (string, error) {
	if dir := c.String("spool-dir"); dir != "" {
		return dir, nil
	}
	cl, err := cfg.Cluster(c.cluster())
	if err == nil && writable(cl.Snapshot.Spool) {
		return cl.Snapshot.Spool, nil
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fail.New(fail.Usage, fmt.Errorf("no folder for temporary files: %w", err), "name one with --spool-dir")
	}
	return filepath.Join(cache, "steward", "spool"), nil
}

func writable(dir string) bool {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return false
	}
	f, err := os.CreateTemp(dir, ".writable-*")
	if err != nil {
		return false
	}
	return errors.Join(f.Close(), os.Remove(f.Name())) == nil
}

func spoolFlag() cli.Flag {
	return &cli.StringFlag{Name: "spool-dir", Usage: "`FOLDER` for temporary files, as large as the database (default: from the configuration)"}
}
