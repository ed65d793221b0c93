package config

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"

	"etcd-steward/internal/fail"
)

// TestConfigModes: a config that others can read or write is refused, whatever it says.
func TestConfigModes(t *testing.T) {
	for mode, want := range map[fs.FileMode]string{
		0o600: "", 0o640: "", 0o400: "", 0o440: "",
		0o644: "has mode 0644: others can read it", 0o604: "has mode 0604: others can read it",
		0o660: "has mode 0660: others can write it", 0o602: "has mode 0602: others can write it", 0o666: "has mode 0666: others can read it",
	} {
		path := write(t, small)
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		_, err := Load(path)
		if want == "" {
			if err != nil {
				t.Errorf("mode %04o: %v", mode, err)
			}
			continue
		}
		if err == nil || !strings.HasSuffix(err.Error(), want) || fail.ExitCode(err) != fail.Unsafe || fail.HintOf(err) != "chmod 0640 "+path {
			t.Errorf("mode %04o: got %v (code %d, hint %q), want %s", mode, err, fail.ExitCode(err), fail.HintOf(err), want)
		}
	}
}

// TestOwner: a config of another user is refused, since that user decides what is in it.
func TestOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give a file away")
	}
	path := write(t, small)
	if err := os.Chown(path, 12345, 0); err != nil {
		t.Fatal(err)
	}
	_, err := Load(path)
	if err == nil || !strings.Contains(err.Error(), "belongs to user 12345") || fail.ExitCode(err) != fail.Unsafe {
		t.Errorf("got %v", err)
	}
}

// TestSecretModes: every file that holds a secret is refused when others can read it, and before it is used.
func TestSecretModes(t *testing.T) {
	dir := t.TempDir()
	file := func(name string, mode fs.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("secret\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good, open, group := file("good", 0o600), file("open", 0o604), file("group", 0o640)
	etcd := "clusters:\n- endpoints: ['https://a:2379']\n  "
	for _, c := range []struct{ name, text, bad string }{
		{"all good", "s3: {access_key_id_file: " + good + ", secret_access_key_file: " + good + "}\n", ""},
		{"access key", "s3: {access_key_id_file: " + open + ", secret_access_key_file: " + good + "}\n", open},
		{"secret key, group", "s3: {access_key_id_file: " + good + ", secret_access_key_file: " + group + "}\n", group},
		{"password", etcd + "username: u\n  password_file: " + group + "\n", group},
		{"etcd's key", etcd + "tls: {cert: " + open + ", key: " + open + "}\n", open},
		{"etcd's key, group", etcd + "tls: {cert: " + open + ", key: " + group + "}\n", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Load(write(t, small+c.text))
			if c.bad == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.HasPrefix(err.Error(), c.bad+" has mode") || fail.ExitCode(err) != fail.Unsafe {
				t.Errorf("got %v", err)
			}
		})
	}
	t.Run("identity", func(t *testing.T) {
		text := strings.Replace(small, "{rec", "{identity_file: "+open+", rec", 1)
		if _, err := Load(write(t, text)); err == nil || fail.ExitCode(err) != fail.Unsafe {
			t.Errorf("got %v", err)
		}
	})
	t.Run("missing", func(t *testing.T) {
		path := write(t, small+"s3:\n  access_key_id_file: /nonexistent/key\n  secret_access_key_file: "+good+"\n")
		_, err := Load(path)
		if want := path + ":4: s3.access_key_id_file: stat /nonexistent/key: no such file or directory"; err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	})
}

// TestCredentialModes: systemd gives a service's user its credentials by an ACL, whose mask shows as the group's bits.
func TestCredentialModes(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s3-secret-access-key")
	if err := os.WriteFile(path, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o440); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		dir string
		ok  bool
	}{"credential": {dir, true}, "some file": {dir + "-other", false}} {
		cfg := &Config{lookup: env(map[string]string{"CREDENTIALS_DIRECTORY": c.dir}), origins: map[string]Origin{}}
		got, err := cfg.readSecret("s3.secret_access_key_file", path)
		if c.ok && (err != nil || got != "secret") || !c.ok && fail.ExitCode(err) != fail.Unsafe {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestStoreConfig(t *testing.T) {
	dir := t.TempDir()
	key := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	id, good := key("id", "AKIA\n"), key("key", "hunter2\r\n")
	c, err := resolve(t, small+"s3: {endpoint: 'https://s', region: r, path_style: false, access_key_id_file: "+id+", secret_access_key_file: "+good+", object_lock: {mode: governance, days: 30}}\n", Options{})
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.StoreConfig()
	if err != nil {
		t.Fatal(err)
	}
	if got.URL != "s3://bucket/prefix" || got.S3.AccessKeyID != "AKIA" || got.S3.SecretAccessKey != "hunter2" || got.S3.PathStyle == nil || *got.S3.PathStyle ||
		got.S3.ObjectLock.Days != 30 || got.S3.Endpoint != "https://s" || got.S3.Region != "r" {
		t.Errorf("got %+v", got)
	}
	for name, text := range map[string]string{"empty": "\n", "two lines": "hunter2\nhunter3\n"} {
		c.S3.SecretAccessKeyFile = key("bad", text)
		if _, err := c.StoreConfig(); err == nil || strings.Contains(err.Error(), "hunter") || !strings.HasSuffix(err.Error(), "must hold one line") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestRecipients(t *testing.T) {
	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	other := key.Recipient().String()
	file := filepath.Join(t.TempDir(), "recipients")
	if err := os.WriteFile(file, []byte("# operators\n"+other+"\n\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	bad := filepath.Join(t.TempDir(), "identity")
	if err := os.WriteFile(bad, []byte("AGE-SECRET-KEY-1HUNTER2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		text string
		n    int
		code fail.Code
	}{
		"undecided":      {"store: s3://b\n", 0, fail.Unsafe},
		"none":           {"encryption: {none: true}\n", 0, fail.OK},
		"both":           {"encryption: {recipients: [" + recipient + "], recipients_file: " + file + "}\n", 2, fail.OK},
		"no file":        {"encryption: {recipients_file: /nonexistent}\n", 0, fail.Usage},
		"not recipients": {"encryption: {recipients_file: " + bad + "}\n", 0, fail.Usage},
	} {
		cfg, err := resolve(t, c.text, Options{})
		if err != nil {
			t.Fatal(err)
		}
		got, err := cfg.Recipients()
		if len(got) != c.n || fail.ExitCode(err) != c.code || err != nil && strings.Contains(err.Error(), "HUNTER2") {
			t.Errorf("%s: got %d recipients, %v", name, len(got), err)
		}
	}
}
