package config

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"filippo.io/age"

	"etcd-steward/backup/repo/envelope"
	"etcd-steward/backup/store"
	"etcd-steward/internal/fail"
)

// StoreConfig is what store.Open wants. It reads the files of the S3 keys.
func (c *Config) StoreConfig() (store.Config, error) {
	if c.Store == "" {
		return store.Config{}, fail.New(fail.Usage, errors.New("no store is given"), "give --store s3://bucket/prefix, or store: in "+DefaultPath)
	}
	s := store.S3Options{
		Endpoint: c.S3.Endpoint, Region: c.S3.Region, CAFile: c.S3.CAFile, Profile: c.S3.Profile,
		ObjectLock: store.ObjectLock{Mode: c.S3.ObjectLock.Mode, Days: c.S3.ObjectLock.Days},
	}
	if c.given("s3.path_style") {
		s.PathStyle = &c.S3.PathStyle
	}
	for _, k := range []struct {
		field, path string
		to          *string
	}{
		{"s3.access_key_id_file", c.S3.AccessKeyIDFile, &s.AccessKeyID},
		{"s3.secret_access_key_file", c.S3.SecretAccessKeyFile, &s.SecretAccessKey},
		{"s3.session_token_file", c.S3.SessionTokenFile, &s.SessionToken},
	} {
		text, err := c.readSecret(k.field, k.path)
		if err != nil {
			return store.Config{}, err
		}
		*k.to = string(text)
	}
	return store.Config{URL: c.Store, S3: s}, nil
}

// Recipients are the public keys that backups are encrypted to; none and no error only for encryption: {none: true}.
func (c *Config) Recipients() ([]age.Recipient, error) {
	e := c.Encryption
	if e.None {
		return nil, nil
	}
	keys := e.Recipients
	if e.RecipientsFile != "" {
		more, err := c.recipientsFile(e.RecipientsFile)
		if err != nil {
			return nil, err
		}
		keys = slices.Concat(keys, more)
	}
	all, err := envelope.ParseRecipients(keys)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.origin("encryption"), err)
	}
	if len(all) == 0 {
		return nil, fail.Refused(errors.New("nobody is named to whom backups are encrypted"),
			"give --recipient age1..., encryption.recipients in the config, or --no-encryption")
	}
	return all, nil
}

// maxRecipients bounds the file of public keys.
const maxRecipients = 1 << 20

// recipientsFile reads a file with one public key a line, and comments, as age -R does.
func (c *Config) recipientsFile(path string) ([]string, error) {
	const field = "encryption.recipients_file"
	f, err := os.Open(path)
	if err != nil {
		return nil, c.fileError(field, err)
	}
	defer func() { _ = f.Close() }()
	var keys []string
	lines := bufio.NewScanner(io.LimitReader(f, maxRecipients))
	for lines.Scan() {
		if line := strings.TrimSpace(lines.Text()); line != "" && line[0] != '#' {
			keys = append(keys, line)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, c.fileError(field, err)
	}
	if _, err := envelope.ParseRecipients(keys); err != nil {
		return nil, c.fileError(field, fmt.Errorf("%s: %w", path, err))
	}
	if len(keys) == 0 {
		return nil, c.fileError(field, fmt.Errorf("%s holds no public key", path))
	}
	return keys, nil
}
