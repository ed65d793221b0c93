package envelope

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"

	"etcd-steward/internal/fail"
)

func TestParseRecipients(t *testing.T) {
	x, y, pq := classic(t), classic(t), hybrid(t)
	for name, c := range map[string]struct {
		keys []string
		want string // part of the error; "" means success
	}{
		"none":         {nil, ""},
		"one":          {[]string{x.Recipient().String()}, ""},
		"two":          {[]string{x.Recipient().String(), " " + y.Recipient().String() + "\n"}, ""},
		"hybrid":       {[]string{pq.Recipient().String()}, ""},
		"twice":        {[]string{x.Recipient().String(), x.Recipient().String()}, "given twice"},
		"both kinds":   {[]string{x.Recipient().String(), pq.Recipient().String()}, "quantum"},
		"typo":         {[]string{x.Recipient().String()[:20] + "z" + x.Recipient().String()[21:] + "q"}, "not an age public key"},
		"empty":        {[]string{""}, "not an age public key"},
		"SSH":          {[]string{"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIL"}, "SSH keys are not supported"},
		"a secret key": {[]string{x.String()}, "secret key"},
		"a PQ secret":  {[]string{strings.ToLower(pq.String())}, "secret key"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ParseRecipients(c.keys)
			if c.want == "" {
				if err != nil || len(got) != len(c.keys) {
					t.Fatalf("%d recipients, %v; want %d", len(got), err, len(c.keys))
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) || fail.ExitCode(err) != fail.Usage || fail.HintOf(err) == "" {
				t.Fatalf("%v (code %d, hint %q), want %q", err, fail.ExitCode(err), fail.HintOf(err), c.want)
			}
			noSecret(t, err, x.String(), pq.String())
		})
	}
}

// noSecret: neither the error nor its hint shows a piece of a secret key.
func noSecret(t *testing.T, err error, secrets ...string) {
	t.Helper()
	text := strings.ToUpper(err.Error() + fail.HintOf(err))
	for _, s := range secrets {
		for at := len("AGE-SECRET-KEY-PQ-1"); at+8 < len(s); at += 4 {
			if strings.Contains(text, s[at:at+8]) {
				t.Fatalf("the error shows a secret: %v", err)
			}
		}
	}
}

func TestLoadIdentities(t *testing.T) {
	x, pq := classic(t), hybrid(t)
	file := func(t *testing.T, text string, mode os.FileMode) string {
		path := filepath.Join(t.TempDir(), "identity")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := "# created: today\n# public key: " + x.Recipient().String() + "\n" + x.String() + "\n\n" + pq.String() + "\n"
	for _, mode := range []os.FileMode{0o600, 0o400} {
		ids, err := LoadIdentities(file(t, good, mode))
		if err != nil || len(ids) != 2 {
			t.Fatalf("mode %o: %d identities, %v", mode, len(ids), err)
		}
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620, 0o644, 0o777} {
		path := file(t, good, mode)
		_, err := LoadIdentities(path)
		if fail.ExitCode(err) != fail.Unsafe || fail.HintOf(err) != "chmod 600 "+path {
			t.Errorf("mode %o: %v (code %d, hint %q), want it refused", mode, err, fail.ExitCode(err), fail.HintOf(err))
		}
	}
	for name, text := range map[string]string{
		"empty": "", "comments": "# nothing\n", "a public key": x.Recipient().String() + "\n", "broken": x.String()[:40] + "\n",
		"broken second": good + "AGE-SECRET-KEY-1" + x.String()[30:] + "\n", "encrypted": "age-encryption.org/v1\n-> scrypt", "long": strings.Repeat("#", identityFileMax+1),
	} {
		_, err := LoadIdentities(file(t, text, 0o600))
		if err == nil || fail.HintOf(err) == "" {
			t.Errorf("%s: %v (hint %q), want an error with a hint", name, err, fail.HintOf(err))
			continue
		}
		noSecret(t, err, x.String(), pq.String())
	}
	if _, err := LoadIdentities(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v, want %v", err, os.ErrNotExist)
	}
}

// systemd's LoadCredential gives access through an ACL, whose mask shows as the group's right.
func TestLoadIdentitiesCredential(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "identity")
	if err := os.WriteFile(path, []byte(classic(t).String()), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	for mode, ok := range map[os.FileMode]bool{0o440: true, 0o400: true, 0o444: false, 0o460: false} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadIdentities(path); (err == nil) != ok {
			t.Errorf("mode %o: %v", mode, err)
		}
	}
}

// A missing or wrong identity says which public keys could read the object, and is not damage.
func TestNoIdentity(t *testing.T) {
	x, y, pq := classic(t), classic(t), hybrid(t)
	stored, s := sealWith(t, mixed(2, 3*smallBlock), Options{Recipients: []age.Recipient{x.Recipient()}}, smallBlock)
	for name, ids := range map[string][]age.Identity{"none": nil, "another": {y}, "others": {y, pq}} {
		err := Decode(t.Context(), s.Object("k"), s.ContentSize, fetchFrom(stored), nil, DecodeOptions{Identities: ids, IdentitiesFrom: "/etc/steward/key"})
		if !errors.Is(err, ErrNoIdentity) || errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), x.Recipient().String()) || fail.HintOf(err) == "" {
			t.Errorf("%s: %v (hint %q)", name, err, fail.HintOf(err))
		}
		if ids != nil && !strings.Contains(err.Error(), "none of the identities in /etc/steward/key matches") {
			t.Errorf("%s: %v does not name the file", name, err)
		}
		noSecret(t, err, x.String(), y.String(), pq.String())
	}
}
