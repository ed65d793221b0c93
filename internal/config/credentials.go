package config

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"etcd-steward/internal/host/tree"
)

// credentialNames are the names under which systemd's LoadCredential= (systemd.exec(5)) may hand over a file that the config does
// not name. With several clusters, a cluster's own has its name behind a dot, etcd-key.events; those without are for all that have none.
var credentialNames = map[string]string{
	"s3.access_key_id_file":      "s3-access-key-id",
	"s3.secret_access_key_file":  "s3-secret-access-key",
	"s3.session_token_file":      "s3-session-token",
	"s3.ca_file":                 "s3-ca",
	"encryption.recipients_file": "age-recipients",
	"encryption.identity_file":   "age-identity",
	"clusters[].tls.ca":          "etcd-ca",
	"clusters[].tls.cert":        "etcd-cert",
	"clusters[].tls.key":         "etcd-key",
	"clusters[].password_file":   "etcd-password",
}

// credentialsFolder is where the unit's LoadCredential= takes credentials from. Whoever may read it, which is root, is given the same without systemd, so that
// what is typed on a master reaches the store as the daemon does.
const credentialsFolder = "/etc/steward/credentials" //nolint:gosec // a folder, no credential

// credentials fills file fields that were left out with what systemd handed over, or would.
func (c *Config) credentials(root string) {
	dir, ok := c.lookup("CREDENTIALS_DIRECTORY")
	own := !ok || dir == ""
	if own {
		dir = filepath.Join(root, credentialsFolder)
		if _, err := os.ReadDir(dir); err != nil {
			return
		}
	}
	ownTLS := map[int]bool{}
	for i := range c.Clusters {
		ownTLS[i] = c.Clusters[i].TLS != (TLS{}) || !allHTTPS(c.Clusters[i].Endpoints)
	}
	eachLeaf(reflect.ValueOf(c).Elem(), "", func(path string, v reflect.Value) {
		name, ok := credentialNames[anyCluster(path)]
		if !ok || c.given(path) || own && strings.HasPrefix(name, "s3-") && name != "s3-ca" && c.otherKeys() {
			return
		}
		names := []string{name}
		if anyCluster(path) != path {
			i := c.clusterOf(path)
			if ownTLS[i] && strings.Contains(path, ".tls.") {
				return // half of the config's files and half of systemd's would fit nothing
			}
			names = []string{name + "." + c.Clusters[i].Name, name}
		}
		for _, name := range names {
			if file := filepath.Join(dir, name); !blank(file) {
				v.SetString(file)
				c.origins[path] = Origin{Kind: FromCredential, Name: name}
				return
			}
		}
	})
}

// otherKeys says whether the SDK's environment, or a profile, names the keys to the store: who has set that means it, and not the daemon's.
func (c *Config) otherKeys() bool {
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"} {
		if v, ok := c.lookup(name); ok && v != "" {
			return true
		}
	}
	return c.given("s3.profile")
}

// blank says whether there is no such credential: no file, or one with nothing in it. The unit gives a newline as the fallback
// (SetCredential=) for files that do not exist, since systemd would not start the service without one.
func blank(file string) bool {
	text, err := tree.Tree("/").Read(file)
	return errors.Is(err, os.ErrNotExist) || err == nil && len(bytes.TrimSpace(text)) == 0
}

// clusterOf is the index of the cluster that a field belongs to.
func (c *Config) clusterOf(path string) int {
	for i := range c.Clusters {
		if at := index("clusters", i); len(path) > len(at) && path[:len(at)] == at {
			return i
		}
	}
	return 0
}
