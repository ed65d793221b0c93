package store_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"etcd-steward/backup/store"
	"etcd-steward/integration/lab"
)

// everything runs each operation once and gives the errors by operation.
func everything(t *testing.T, s store.Store) map[string]error {
	t.Helper()
	errs := map[string]error{}
	_, errs["put"] = s.Put(t.Context(), "main/a", src([]byte("x")), store.PutOptions{IfAbsent: true})
	_, errs["get"] = s.Get(t.Context(), "main/a", 0, -1)
	_, errs["head"] = s.Head(t.Context(), "main/a")
	for _, err := range s.List(t.Context(), "main/", "") {
		errs["list"] = err
	}
	errs["delete"] = s.Delete(t.Context(), "main/a")
	_, errs["parts"] = s.Put(t.Context(), "main/a", store.Source{Reader: bytes.NewReader(make([]byte, 9<<20)), Size: store.Unknown}, store.PutOptions{})
	_, errs["probe"] = store.Probe(t.Context(), s, probeKey)
	return errs
}

// TestBadDays: whatever is wrong with the way to the store, each operation says the same clear thing.
func TestBadDays(t *testing.T) {
	t.Parallel()
	s3 := lab.StartS3(t, lab.S3Options{Accounts: true})
	expired := lab.StartS3(t, lab.S3Options{Expired: true})
	plain := lab.StartS3(t, lab.S3Options{PlainHTTP: true})
	nobody := lab.FreeAddr(t)
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	notS3 := other.URL
	quick := func(c store.Config) store.Config { c.S3.BackoffMax = time.Millisecond; return c }
	with := func(f func(*store.Config)) store.Config { c := quick(s3.StoreConfig()); f(&c); return c }

	for _, c := range []struct {
		name string
		cfg  store.Config
		kind store.Kind
		text string
	}{
		{"nobody listens", with(func(c *store.Config) { c.S3.Endpoint = "https://" + nobody }), store.Unreachable, "connection refused"},
		{"no such host", with(func(c *store.Config) { c.S3.Endpoint = "https://s3.invalid" }), store.Unreachable, "s3.invalid"},
		{"wrong CA", with(func(c *store.Config) { c.S3.CAFile = lab.NewCA(t).File }), store.Untrusted, "unknown authority"},
		{"no CA", with(func(c *store.Config) { c.S3.CAFile = "" }), store.Untrusted, "unknown authority"},
		{"wrong name", with(func(c *store.Config) { c.S3.Transport = named("s3.example.com") }), store.Untrusted, "not s3.example.com"},
		{"not S3", with(func(c *store.Config) { c.S3.Endpoint = notS3 }), store.Invalid, "404"},
		{"expired certificate", quick(expired.StoreConfig()), store.Untrusted, "expired"},
		{"TLS to plain HTTP", with(func(c *store.Config) { c.S3.Endpoint = strings.Replace(plain.Endpoint, "http:", "https:", 1) }), store.Unreachable, "does not speak TLS"},
		{"no such bucket", with(func(c *store.Config) { c.URL = "s3://no-such-bucket/lab" }), store.NoBucket, "NoSuchBucket"},
		{"unknown access key", quick(s3.StoreConfigFor("nobody", s3.Secret)), store.BadCredentials, "InvalidAccessKeyId"},
		{"wrong secret", quick(s3.StoreConfigFor(s3.Access, "wrong-secret")), store.BadCredentials, "SignatureDoesNotMatch"},
		{"clock skew", with(func(c *store.Config) { c.S3.Transport = skewed }), store.ClockSkew, "RequestTimeTooSkewed"},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			s := open(t, c.cfg)
			for op, err := range everything(t, s) {
				if store.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.text) {
					t.Errorf("%s: got %v, want the kind %q with %q", op, err, c.kind, c.text)
					continue
				}
				if store.HintFor(err) == "" {
					t.Errorf("%s: no hint", op)
				}
				if strings.Contains(err.Error(), s3.Secret) || strings.Contains(err.Error(), "wrong-secret") || strings.Contains(err.Error(), "\n") {
					t.Errorf("%s: a secret or several lines in %q", op, err)
				}
				if op == "list" {
					t.Logf("%v", err)
				}
			}
		})
	}
}

// named makes the client expect another name in the certificate.
func named(name string) func(http.RoundTripper) http.RoundTripper {
	return func(next http.RoundTripper) http.RoundTripper {
		next.(*http.Transport).TLSClientConfig.ServerName = name
		return next
	}
}

// skewed makes every request look as if it came from a machine whose clock is a day off: the server judges what was signed.
func skewed(next http.RoundTripper) http.RoundTripper { return skewedTransport{next} }

type skewedTransport struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (s skewedTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.Header.Set("X-Amz-Date", time.Now().Add(-25*time.Hour).UTC().Format("20060102T150405Z"))
	resp, err := s.next.RoundTrip(req)
	if err == nil {
		resp.Header.Del("Date") // so that the SDK cannot correct its clock
	}
	return resp, err
}

// TestNoCredentials: none are found anywhere.
func TestNoCredentials(t *testing.T) {
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE"} {
		t.Setenv(name, "")
	}
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	t.Setenv("AWS_CONFIG_FILE", filepath.Join(t.TempDir(), "none"))
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", filepath.Join(t.TempDir(), "none"))
	s := open(t, store.Config{URL: "s3://bucket/p", S3: store.S3Options{Endpoint: "https://127.0.0.1:1", BackoffMax: time.Millisecond}})
	for op, err := range everything(t, s) {
		if store.KindOf(err) != store.BadCredentials {
			t.Errorf("%s: got %v, want the kind %q", op, err, store.BadCredentials)
		}
	}
	_, err := store.Open(t.Context(), store.Config{URL: "s3://bucket/p", S3: store.S3Options{Endpoint: "https://127.0.0.1:1", Profile: "nobody"}})
	wantKind(t, err, store.BadCredentials, "nobody")
}

// TestCredentialChain: environment and profile work without static keys.
func TestCredentialChain(t *testing.T) {
	s3 := lab.StartS3(t, lab.S3Options{})
	cfg := s3.StoreConfigFor("", "")
	file := filepath.Join(t.TempDir(), "credentials")
	text := "[backup]\naws_access_key_id = " + s3.Access + "\naws_secret_access_key = " + s3.Secret + "\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_CONFIG_FILE", filepath.Join(t.TempDir(), "none"))
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", file)
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	cfg.S3.Profile = "backup"
	if _, err := open(t, cfg).Put(t.Context(), "profile", src([]byte("x")), store.PutOptions{}); err != nil {
		t.Errorf("profile: %v", err)
	}
	t.Setenv("AWS_ACCESS_KEY_ID", s3.Access)
	t.Setenv("AWS_SECRET_ACCESS_KEY", s3.Secret)
	cfg.S3.Profile = ""
	if _, err := open(t, cfg).Put(t.Context(), "environment", src([]byte("x")), store.PutOptions{}); err != nil {
		t.Errorf("environment: %v", err)
	}
}

// TestStoreDies kills the server in the middle of an upload. Afterwards there is no object, and of an upload in parts
// no more than the lifecycle rule has to clean up.
func TestStoreDies(t *testing.T) {
	t.Parallel()
	const size = 24 << 20
	s3 := lab.StartS3(t, lab.S3Options{})
	for _, known := range []bool{true, false} { // in parts last: what that leaves is seen in the whole bucket
		t.Run(map[bool]string{true: "one-request", false: "in-parts"}[known], func(t *testing.T) {
			cfg := s3.StoreConfig()
			cfg.S3.BackoffMax = 10 * time.Millisecond
			s := open(t, cfg)
			data := bytes.Repeat([]byte("0123456789abcdef"), size/16)
			source := src(data)
			if !known {
				source.Size, source.SHA256 = store.Unknown, [32]byte{}
			}
			source.Reader = &killer{Reader: source.Reader, after: size / 2, kill: s3.Kill}
			_, err := s.Put(t.Context(), "main/dies", source, store.PutOptions{IfAbsent: true})
			wantKind(t, err, store.Unreachable, "put main/dies")
			s3.Restart()
			if _, err := s.Head(t.Context(), "main/dies"); store.KindOf(err) != store.NotFound {
				t.Errorf("Head after the restart: %v, want that there is none", err)
			}
			for info, err := range s.List(t.Context(), "", "") {
				t.Errorf("List after the restart: %v, %v", info.Key, err)
			}
			if left := s3.Uploads(); known && len(left) > 0 {
				t.Errorf("multipart uploads left: %q", left)
			}
			if _, err := s.Put(t.Context(), "main/dies", src(data), store.PutOptions{IfAbsent: true}); err != nil {
				t.Errorf("the next Put: %v", err)
			}
			wantContent(t, s, "main/dies", data)
			if err := s.Delete(t.Context(), "main/dies"); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestStoreComesBack: a restart of the server in the middle of an upload costs time, not the upload.
func TestStoreComesBack(t *testing.T) {
	t.Parallel()
	const size = 24 << 20
	s3 := lab.StartS3(t, lab.S3Options{})
	s := open(t, s3.StoreConfig())
	data := bytes.Repeat([]byte("0123456789abcdef"), size/16)
	for name, known := range map[string]bool{"one request": true, "in parts": false} {
		source := src(data)
		restart := func() { s3.Kill(); s3.Restart() }
		if known {
			source.Reader = &seekingKiller{killer{Reader: source.Reader, after: size / 2, kill: restart}, bytes.NewReader(data)}
		} else {
			source = store.Source{Reader: &killer{Reader: source.Reader, after: size / 2, kill: restart}, Size: store.Unknown}
		}
		if _, err := s.Put(t.Context(), "main/"+strings.ReplaceAll(name, " ", "-"), source, store.PutOptions{IfAbsent: true}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		wantContent(t, s, "main/"+strings.ReplaceAll(name, " ", "-"), data)
	}
}

// killer calls kill once, when so many bytes were read.
type killer struct {
	io.Reader
	n, after int
	kill     func()
	done     atomic.Bool
}

// Read implements io.Reader.
func (k *killer) Read(p []byte) (int, error) {
	n, err := k.Reader.Read(p)
	if k.n += n; k.n >= k.after && k.done.CompareAndSwap(false, true) {
		k.kill()
	}
	return n, err
}

type seekingKiller struct {
	killer
	seeker *bytes.Reader
}

// Seek implements io.Seeker: back to the start, for another attempt.
func (k *seekingKiller) Seek(offset int64, whence int) (int64, error) {
	k.Reader = k.seeker
	return k.seeker.Seek(offset, whence)
}

// TestOpenRefuses: what is wrong with a configuration shows before anything is sent.
func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	notPEM := filepath.Join(dir, "not.pem")
	if err := os.WriteFile(notPEM, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	s3 := func(o store.S3Options) store.Config {
		o.Endpoint = "https://127.0.0.1:1"
		return store.Config{URL: "s3://bucket/p", S3: o}
	}
	for name, c := range map[string]struct {
		cfg  store.Config
		kind store.Kind
		text string
	}{
		"empty":          {store.Config{}, store.Invalid, "want s3://"},
		"other scheme":   {store.Config{URL: "gs://bucket"}, store.Invalid, "want s3://"},
		"no bucket":      {store.Config{URL: "s3:///prefix"}, store.Invalid, "no bucket"},
		"credentials":    {store.Config{URL: "s3://user:hunter2@bucket/p"}, store.Invalid, "credentials"},
		"dots":           {store.Config{URL: "s3://bucket/a/../b"}, store.Invalid, "starts with a dot"},
		"relative":       {store.Config{URL: "file://backups"}, store.Invalid, "absolute"},
		"no folder":      {store.Config{URL: "file://" + dir + "/none"}, store.NoBucket, "no folder"},
		"a file":         {store.Config{URL: "file://" + notPEM}, store.NoBucket, "no folder"},
		"CA missing":     {s3(store.S3Options{CAFile: dir + "/none"}), store.Invalid, "CA file"},
		"CA not PEM":     {s3(store.S3Options{CAFile: notPEM}), store.Invalid, "no PEM"},
		"half a key":     {s3(store.S3Options{AccessKeyID: "a"}), store.Invalid, "go together"},
		"lock mode":      {s3(store.S3Options{ObjectLock: store.ObjectLock{Mode: "strict", Days: 1}}), store.Invalid, "governance or compliance"},
		"lock days":      {s3(store.S3Options{ObjectLock: store.ObjectLock{Mode: "compliance"}}), store.Invalid, "days"},
		"lock no mode":   {s3(store.S3Options{ObjectLock: store.ObjectLock{Days: 3}}), store.Invalid, "no mode"},
		"small parts":    {s3(store.S3Options{PartSize: 1 << 20}), store.Invalid, "5 MiB"},
		"large requests": {s3(store.S3Options{SinglePutMax: 6 << 30}), store.Invalid, "5 GiB"},
	} {
		_, err := store.Open(context.Background(), c.cfg)
		if store.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.text) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: got %v, want the kind %q with %q", name, err, c.kind, c.text)
		}
	}
}

// TestMetadataRefuses: a machine without keys, whose metadata service refuses, lacks credentials, and not a right in the store.
func TestMetadataRefuses(t *testing.T) {
	metadata := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }))
	t.Cleanup(metadata.Close)
	s3 := lab.StartS3(t, lab.S3Options{})
	none := filepath.Join(t.TempDir(), "none")
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_PROFILE": "", "AWS_CONFIG_FILE": none, "AWS_SHARED_CREDENTIALS_FILE": none,
		"AWS_EC2_METADATA_DISABLED": "", "AWS_EC2_METADATA_SERVICE_ENDPOINT": metadata.URL,
	} {
		t.Setenv(name, value)
	}
	_, err := open(t, s3.StoreConfigFor("", "")).Head(t.Context(), "x")
	wantKind(t, err, store.BadCredentials, "head x")
}
