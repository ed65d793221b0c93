package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"

	"etcd-steward/internal/fail"
)

// Flag is a value from the command line. Field is a path such as store or s3.endpoint; cluster.endpoints and so on belong to
// the cluster that Options.Cluster names.
type Flag struct {
	Name  string // --endpoints
	Field string
	Value string // lists are separated by commas
}

// Options say where values may come from. The order of precedence: flags, environment, file, credentials, detection, defaults.
type Options struct {
	// Path is the file. With Optional, a missing one is no error; "" reads none.
	Path     string
	Optional bool
	// Flags override everything else.
	Flags []Flag
	// Etcdctl honours etcdctl's variables: ETCDCTL_ENDPOINTS, _CACERT, _CERT, _KEY, _USER, _PASSWORD, _DIAL_TIMEOUT. They apply to
	// one cluster: the only one, or the one that Cluster names.
	Etcdctl bool
	// Cluster is the cluster that flags and environment are about; "" means the only one. Without clusters in the file, it is
	// the name of the one that is made up.
	Cluster string
	// Etcd is the name of this machine's etcd that Cluster is, where there are several.
	Etcd string
	// Root is where detection looks, instead of /.
	Root string
	// LookupEnv is os.LookupEnv, or a test's.
	LookupEnv func(string) (string, bool)
}

// Load reads the daemon's config: the file at path, without any flag or etcdctl variable. What it returns is complete: there is a
// store, a decision on encryption, something to do, and every file that holds a secret is readable by nobody else.
// A problem has exit code Usage; a file that others can read or write is refused.
func Load(path string) (*Config, error) {
	c, err := Resolve(Options{Path: path})
	if err != nil {
		return nil, err
	}
	if err := c.checkDaemon().err(); err != nil {
		return nil, fail.New(fail.Usage, err, "steward.yaml.example shows every field")
	}
	return c, c.checkSecrets()
}

// Resolve reads a config from all that opts allows, fills in what is missing and checks that no value is at odds with another.
// Store and encryption may still be undecided: StoreConfig and Recipients say so when they are asked.
func Resolve(opts Options) (*Config, error) {
	if opts.LookupEnv == nil {
		opts.LookupEnv = os.LookupEnv
	}
	c := &Config{origins: map[string]Origin{}, lookup: opts.LookupEnv}
	if err := c.read(opts); err != nil {
		return nil, err
	}
	if err := c.layer(opts); err != nil {
		return nil, fail.New(fail.Usage, err, "")
	}
	if err := c.check().err(); err != nil {
		return nil, fail.New(fail.Usage, err, "")
	}
	return c, nil
}

// read takes in the file.
func (c *Config) read(opts Options) error {
	if opts.Path == "" {
		return nil
	}
	f, err := os.Open(opts.Path)
	if errors.Is(err, os.ErrNotExist) && opts.Optional {
		return nil
	}
	if err != nil {
		return fail.New(fail.Usage, fmt.Errorf("read config: %w", err), "name the file with --config, or write "+DefaultPath)
	}
	defer func() { _ = f.Close() }()
	// The open file is judged, not the name, which may be another file by now.
	if err := checkConfigAccess(f); err != nil {
		return err
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return fmt.Errorf("read config %s: %w", opts.Path, err)
	}
	if len(text) > maxFile {
		return fail.New(fail.Usage, fmt.Errorf("config %s is longer than %d bytes", opts.Path, maxFile), "")
	}
	c.path = opts.Path
	if err := c.parse(text); err != nil {
		return fail.New(fail.Usage, err, "")
	}
	return nil
}

// layer puts what the file does not say on top of it and below it.
func (c *Config) layer(opts Options) error {
	if len(c.Clusters) == 0 {
		c.Clusters = []Cluster{{Name: opts.Cluster}}
	}
	for i := range c.Clusters {
		cl := &c.Clusters[i]
		cl.config, cl.at = c, index("clusters", i)
		if cl.Name == "" && len(c.Clusters) == 1 {
			cl.Name = DefaultCluster
		}
	}
	if opts.Etcdctl {
		if err := c.environment(opts); err != nil {
			return err
		}
	}
	for _, f := range opts.Flags {
		if err := c.override(f.Field, f.Value, Origin{Kind: FromFlag, Name: f.Name}, opts.Cluster); err != nil {
			return err
		}
	}
	c.credentials(opts.Root)
	if err := c.detect(opts); err != nil {
		return err
	}
	for i := range c.Clusters {
		if at := index("clusters", i); !c.given(at + ".snapshot.spool") {
			c.Clusters[i].Snapshot.Spool = c.defaultSpool()
		}
	}
	if !c.given("s3.path_style") {
		c.S3.PathStyle = c.S3.Endpoint != "" // as the store takes it
	}
	eachLeaf(reflect.ValueOf(c).Elem(), "", func(path string, v reflect.Value) {
		text, ok := defaults[anyCluster(path)]
		if !ok || c.given(path) {
			return
		}
		if err := setLeaf(v, text); err != nil {
			panic("unreachable: default of " + path + ": " + err.Error())
		}
	})
	return nil
}

// defaultSpool is systemd's CacheDirectory=, or the folder that it would be.
func (c *Config) defaultSpool() string {
	if dir, ok := c.lookup("CACHE_DIRECTORY"); ok && dir != "" {
		return strings.Split(dir, ":")[0] + "/spool"
	}
	return "/var/cache/steward/spool"
}

// etcdctlVariables are the variables of etcdctl(1) and the fields that they stand for.
var etcdctlVariables = []struct{ name, field string }{
	{"ETCDCTL_ENDPOINTS", "cluster.endpoints"},
	{"ETCDCTL_CACERT", "cluster.tls.ca"},
	{"ETCDCTL_CERT", "cluster.tls.cert"},
	{"ETCDCTL_KEY", "cluster.tls.key"},
	{"ETCDCTL_DIAL_TIMEOUT", "cluster.dial_timeout"},
}

// environment applies etcdctl's variables. When several clusters could be meant, none is.
func (c *Config) environment(opts Options) error {
	cluster, err := c.Cluster(opts.Cluster)
	if err != nil {
		return nil //nolint:nilerr // whoever needs the cluster is told; the variables are about none
	}
	for _, v := range etcdctlVariables {
		if text, ok := opts.LookupEnv(v.name); ok && text != "" {
			if err := c.override(v.field, text, Origin{Kind: FromEnvironment, Name: v.name}, opts.Cluster); err != nil {
				return err
			}
		}
	}
	user, _ := opts.LookupEnv("ETCDCTL_USER")
	if user == "" {
		return nil
	}
	name, password, found := strings.Cut(user, ":")
	if !found {
		password, _ = opts.LookupEnv("ETCDCTL_PASSWORD")
	}
	cluster.password = secret(password)
	return c.override("cluster.username", name, Origin{Kind: FromEnvironment, Name: "ETCDCTL_USER"}, opts.Cluster)
}

// override sets one field from outside the file.
func (c *Config) override(field, text string, from Origin, cluster string) error {
	path := field
	if rest, ok := strings.CutPrefix(field, "cluster."); ok {
		chosen, err := c.Cluster(cluster)
		if err != nil {
			return fmt.Errorf("%s: %w", from, err)
		}
		path = join(chosen.at, rest)
	}
	found, err := false, error(nil)
	eachLeaf(reflect.ValueOf(c).Elem(), "", func(p string, v reflect.Value) {
		if p == path {
			found, err = true, setLeaf(v, text)
		}
	})
	if !found {
		panic("unreachable: no field " + path)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", from, err)
	}
	c.origins[path] = from
	return nil
}
