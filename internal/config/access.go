package config

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"etcd-steward/internal/fail"
)

// Modes that make a file unfit for what it is.
const (
	othersRead  fs.FileMode = 0o004
	othersAll   fs.FileMode = 0o007
	othersWrite fs.FileMode = 0o022 // group or others: whoever writes the config decides where backups go, and to whom they are encrypted
	notOwner    fs.FileMode = 0o077
)

// checkConfigAccess refuses a config that others can read, or that anybody but its owner can write. Its group may read it:
// that is how the daemon's own user does.
func checkConfigAccess(f *os.File) error {
	st, err := f.Stat()
	if err != nil {
		return fmt.Errorf("read config: %w", err)
	}
	if !st.Mode().IsRegular() {
		return fail.New(fail.Usage, fmt.Errorf("config %s is not a file", f.Name()), "")
	}
	return checkAccess(f.Name(), st, othersRead|othersWrite, "chmod 0640 "+f.Name())
}

// checkAccess refuses a file that has one of the bits in bad, or that belongs to somebody else than root or this user.
func checkAccess(path string, st fs.FileInfo, bad fs.FileMode, fix string) error {
	if st.Mode().Perm()&bad != 0 {
		return fail.Refused(fmt.Errorf("%s has mode %04o: others can %s it", path, st.Mode().Perm(), what(st.Mode().Perm()&bad)), fix)
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		panic("unreachable: a file without an owner")
	}
	if uid := int(sys.Uid); uid != 0 && uid != os.Geteuid() {
		return fail.Refused(fmt.Errorf("%s belongs to user %d, who is neither root nor the user that runs this", path, uid), "chown root "+path)
	}
	return nil
}

func what(bits fs.FileMode) string {
	if bits&0o044 == 0 {
		return "write"
	}
	return "read"
}

// secretFile is a file that a field names and nobody else may read.
type secretFile struct {
	field, path string
	bad         fs.FileMode
	anyOwner    bool
}

// secretFiles are all such files that the config names.
func (c *Config) secretFiles() []secretFile {
	all := []secretFile{
		{field: "s3.access_key_id_file", path: c.S3.AccessKeyIDFile},
		{field: "s3.secret_access_key_file", path: c.S3.SecretAccessKeyFile},
		{field: "s3.session_token_file", path: c.S3.SessionTokenFile},
		{field: "encryption.identity_file", path: c.Encryption.IdentityFile},
	}
	for i, cl := range c.Clusters {
		at := index("clusters", i)
		all = append(
			all, secretFile{field: at + ".password_file", path: cl.PasswordFile},
			// Installers of etcd give its keys to a user and a group of their own; only others must be kept out.
			secretFile{field: at + ".tls.key", path: cl.TLS.Key, bad: othersAll, anyOwner: true},
		)
	}
	var named []secretFile
	for _, s := range all {
		if s.path != "" {
			named = append(named, s)
		}
	}
	return named
}

// checkSecrets looks at every secret file that the config names.
func (c *Config) checkSecrets() error {
	for _, s := range c.secretFiles() {
		if err := c.checkSecret(s); err != nil {
			return err
		}
	}
	return nil
}

func (c *Config) checkSecret(s secretFile) error {
	st, err := os.Stat(s.path)
	if err != nil {
		return fail.New(fail.Usage, fmt.Errorf("%s: %s: %w", c.origin(s.field), s.field, err), "")
	}
	bad := s.bad
	if bad == 0 {
		bad = notOwner
	}
	if c.isCredential(s.path) {
		// systemd keeps this folder for the service alone. An ACL for its user shows in the group's bits.
		bad &^= 0o070
		s.anyOwner = true
	}
	if st.Mode().Perm()&bad == 0 && s.anyOwner {
		return nil
	}
	return checkAccess(s.path, st, bad, "chmod 0600 "+s.path)
}

// isCredential says whether path lies in systemd's folder of this service's credentials.
func (c *Config) isCredential(path string) bool {
	dir, ok := c.lookup("CREDENTIALS_DIRECTORY")
	return ok && dir != "" && strings.HasPrefix(filepath.Clean(path), filepath.Clean(dir)+"/")
}

// readSecret reads a one-line secret file. Its content never enters an error.
func (c *Config) readSecret(field, path string) (secret, error) {
	if path == "" {
		return "", nil
	}
	if err := c.checkSecret(secretFile{field: field, path: path}); err != nil {
		return "", err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("%s: read %s: %w", c.origin(field), field, err)
	}
	line := strings.TrimRight(string(text), "\r\n")
	if line == "" || strings.ContainsAny(line, "\r\n\x00") {
		return "", fail.New(fail.Usage, fmt.Errorf("%s: %s: %s must hold one line", c.origin(field), field, path), "")
	}
	return secret(line), nil
}
