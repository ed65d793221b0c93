package envelope

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"filippo.io/age"

	"etcd-steward/internal/fail"
)

// ParseRecipients reads age public keys: age1… (X25519) and age1pq1… (hybrid, proof against quantum computers), not both kinds at once. SSH keys
// and plugins are not accepted.
func ParseRecipients(keys []string) ([]age.Recipient, error) {
	var out []age.Recipient
	seen := map[string]bool{}
	hybrids := 0
	for i, key := range keys {
		key = strings.TrimSpace(key)
		r, hybrid, err := parseRecipient(key)
		if err != nil {
			return nil, fail.New(fail.Usage, fmt.Errorf("recipient %d: %w", i+1, err),
				"a recipient is the line that `age-keygen` prints as public key: age1...")
		}
		if seen[key] {
			return nil, fail.New(fail.Usage, fmt.Errorf("recipient %s is given twice", key), "remove one of them")
		}
		seen[key] = true
		if hybrid {
			hybrids++
		}
		out = append(out, r)
	}
	if hybrids > 0 && hybrids < len(out) {
		return nil, fail.New(fail.Usage, errors.New("recipients of both kinds, age1... and age1pq1...: what the first can read, a quantum computer can"),
			"use keys of one kind; `age-keygen -pq` makes hybrid ones")
	}
	return out, nil
}

// parseRecipient never puts key into an error unless it is a public key: someone may have pasted a secret.
func parseRecipient(key string) (r age.Recipient, hybrid bool, err error) {
	switch {
	case strings.HasPrefix(strings.ToUpper(key), "AGE-SECRET-KEY-"):
		return nil, false, errors.New("this is a secret key; it has no place here, and should be replaced if others could read it")
	case strings.HasPrefix(key, "age1pq1"):
		r, err = age.ParseHybridRecipient(key)
		hybrid = true
	case strings.HasPrefix(key, "age1"):
		r, err = age.ParseX25519Recipient(key)
	case strings.HasPrefix(key, "ssh-"):
		return nil, false, errors.New("SSH keys are not supported")
	default:
		return nil, false, errors.New("not an age public key")
	}
	if err != nil {
		return nil, false, fmt.Errorf("%q is not an age public key: %w", key, err)
	}
	return r, hybrid, nil
}

const identityFileMax = 1 << 20

// LoadIdentities reads an age identity file, as age-keygen writes it. It refuses (fail.Unsafe) a file that others than its owner can read; a
// credential of systemd may be readable by its group, since systemd grants access through an ACL, which shows as that.
func LoadIdentities(path string) ([]age.Identity, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fail.Hint(fmt.Errorf("read identities: %w", err), "--identity FILE names the file that age-keygen wrote")
	}
	defer func() { _ = f.Close() }()
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read identities: %w", err)
	}
	others := os.FileMode(0o077)
	if dir := os.Getenv("CREDENTIALS_DIRECTORY"); dir != "" && filepath.Dir(path) == filepath.Clean(dir) {
		others = 0o037
	}
	if st.Mode().Perm()&others != 0 {
		return nil, fail.Refused(fmt.Errorf("identity file %s can be read or changed by others (mode %04o)", path, st.Mode().Perm()), "chmod 600 "+path)
	}
	text, err := io.ReadAll(io.LimitReader(f, identityFileMax+1))
	if err != nil {
		return nil, fmt.Errorf("read identities: %w", err)
	}
	ids, err := parseIdentities(text)
	if err != nil {
		return nil, fail.Hint(fmt.Errorf("identity file %s: %w", path, err), "the file that age-keygen wrote has lines AGE-SECRET-KEY-... and comments")
	}
	return ids, nil
}

// parseIdentities goes line by line, so that no error of the parser can repeat a secret.
func parseIdentities(text []byte) ([]age.Identity, error) {
	switch {
	case len(text) > identityFileMax:
		return nil, fmt.Errorf("more than %d bytes", identityFileMax)
	case bytes.HasPrefix(text, []byte("age-encryption.org/")) || bytes.HasPrefix(text, []byte("-----BEGIN AGE")):
		return nil, errors.New("it is itself encrypted; decrypt it first, for example: --identity <(age -d FILE)")
	}
	var ids []age.Identity
	for i, line := range strings.Split(string(text), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		var id age.Identity
		var err error
		if strings.HasPrefix(line, "AGE-SECRET-KEY-PQ-1") {
			id, err = age.ParseHybridIdentity(line)
		} else {
			id, err = age.ParseX25519Identity(line)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d is not an age secret key", i+1)
		}
		ids = append(ids, id)
	}
	if len(ids) == 0 {
		return nil, errors.New("no secret key in it")
	}
	return ids, nil
}
