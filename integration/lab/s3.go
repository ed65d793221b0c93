package lab

import (
	"bytes"
	"crypto/md5"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"etcd-steward/backup/store"
)

// S3Options say what kind of S3 server a test needs. The zero value is a versitygw over TLS with one bucket.
type S3Options struct {
	Bucket     string // "" means "backups"
	Dir        string // where objects live; "" means a folder of the test's own
	Host       string // the address that it listens on; "" means loopback
	PlainHTTP  bool   // no TLS
	Expired    bool   // TLS with a certificate that has expired
	Accounts   bool   // separate accounts (CreateUser) beside the root account
	Versioning bool   // the bucket keeps versions
	ObjectLock bool   // the bucket can lock objects; implies Versioning
}

// S3 is a running versitygw.
type S3 struct {
	CA       *CA    // who signed its certificate
	Endpoint string // https://127.0.0.1:port
	Bucket   string
	Access   string // root credentials
	Secret   string
	Dir      string // the server's folder: Dir/Bucket/key is an object
	Proc     *Process

	t      T
	cmd    []string
	client *http.Client
}

// StartS3 starts versitygw on loopback, waits until it answers and makes the bucket.
func StartS3(t T, opts S3Options) *S3 {
	t.Helper()
	if opts.Bucket == "" {
		opts.Bucket = "backups"
	}
	if opts.Dir == "" {
		opts.Dir = t.TempDir()
	}
	s := &S3{
		CA: NewCA(t), Bucket: opts.Bucket, Dir: filepath.Join(opts.Dir, "objects"), t: t,
		Access: "lab-root-access", Secret: "lab-root-secret-0123456789",
	}
	s.command(opts)
	s.Restart()
	header := http.Header{}
	if opts.ObjectLock {
		header.Set("X-Amz-Bucket-Object-Lock-Enabled", "true")
	}
	if code, body := s.Do(http.MethodPut, s.Bucket, header, nil); code != http.StatusOK && !bytes.Contains(body, []byte("BucketAlreadyOwnedByYou")) {
		t.Fatalf("make bucket %s: %d %s", s.Bucket, code, body)
	}
	if opts.Versioning || opts.ObjectLock {
		s.must(http.MethodPut, s.Bucket+"?versioning=",
			`<VersioningConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Status>Enabled</Status></VersioningConfiguration>`)
	}
	return s
}

// command decides the server's arguments once, so that a restart is the same server again, on the same port.
func (s *S3) command(opts S3Options) {
	s.t.Helper()
	addr := FreeAddr(s.t)
	if opts.Host != "" {
		_, port, err := net.SplitHostPort(addr)
		if err != nil {
			s.t.Fatalf("start S3: %v", err)
		}
		addr = net.JoinHostPort(opts.Host, port)
	}
	for _, dir := range []string{"objects", "versions", "accounts"} {
		if err := os.MkdirAll(filepath.Join(opts.Dir, dir), 0o700); err != nil {
			s.t.Fatalf("start S3: %v", err)
		}
	}
	s.cmd = []string{Tool(s.t, "versitygw"), "--port", addr, "--keep-alive", "--quiet", "--health", "/health"}
	s.Endpoint = "http://" + addr
	if !opts.PlainHTTP {
		until := time.Now().Add(Valid)
		if opts.Expired {
			until = time.Now().Add(-time.Minute)
		}
		pair := s.CA.IssueFor(s.t, "s3", until, opts.Host)
		s.cmd = append(s.cmd, "--cert", pair.Cert, "--key", pair.Key)
		s.Endpoint = "https://" + addr
	}
	if opts.Accounts {
		s.cmd = append(s.cmd, "--iam-dir", filepath.Join(opts.Dir, "accounts"), "--iam-cache-disable")
	}
	s.cmd = append(s.cmd, "posix")
	if opts.Versioning || opts.ObjectLock {
		s.cmd = append(s.cmd, "--versioning-dir", filepath.Join(opts.Dir, "versions"))
	}
	s.cmd = append(s.cmd, s.Dir)

	pem, err := os.ReadFile(s.CA.File)
	if err != nil {
		s.t.Fatalf("start S3: %v", err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	// The lab itself must reach a server whose certificate has expired; it looks at it as of half an hour ago.
	asOf := func() time.Time { return time.Now().Add(-30 * time.Minute) }
	if !opts.Expired {
		asOf = time.Now
	}
	s.client = &http.Client{
		Timeout:   30 * time.Second,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, Time: asOf, MinVersion: tls.VersionTLS12}},
	}
	s.t.Cleanup(s.client.CloseIdleConnections)
}

// Restart starts the server again after Kill, with the same port, certificate and objects.
func (s *S3) Restart() {
	s.t.Helper()
	cmd := exec.Command(s.cmd[0], s.cmd[1:]...)
	cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+s.Access, "ROOT_SECRET_KEY="+s.Secret)
	s.Proc = Start(s.t, "versitygw", cmd)
	// On SIGTERM it waits for clients to close their idle connections, which a test's store never does.
	s.t.Cleanup(s.Proc.Kill)
	Eventually(s.t, 20*time.Second, "versitygw answers", func() error {
		if err := s.Proc.alive(); err != nil {
			return err
		}
		resp, err := s.client.Get(s.Endpoint + "/health")
		if err != nil {
			return err
		}
		return resp.Body.Close()
	})
}

// Kill ends the server at once, as a power cut would.
func (s *S3) Kill() { s.Proc.Kill() }

// URL is the store URL of a folder in the bucket.
func (s *S3) URL() string { return "s3://" + s.Bucket + "/lab" }

// StoreConfig opens URL with the root account.
func (s *S3) StoreConfig() store.Config { return s.StoreConfigFor(s.Access, s.Secret) }

// StoreConfigFor opens URL with another account.
func (s *S3) StoreConfigFor(access, secret string) store.Config {
	cfg := store.Config{URL: s.URL(), S3: store.S3Options{
		Endpoint: s.Endpoint, AccessKeyID: access, SecretAccessKey: secret,
	}}
	if strings.HasPrefix(s.Endpoint, "https:") {
		cfg.S3.CAFile = s.CA.File
	}
	return cfg
}

// Do sends one request as root, past the code that is tested, and returns the status and the body. The path is below the
// endpoint and may carry a query.
func (s *S3) Do(method, path string, header http.Header, body []byte) (int, []byte) {
	s.t.Helper()
	return s.DoAs(s.Access, s.Secret, method, path, header, body)
}

// DoAs is Do with another account.
func (s *S3) DoAs(access, secret, method, path string, header http.Header, body []byte) (int, []byte) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.Endpoint+"/"+path, bytes.NewReader(body))
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
	for name, values := range header {
		req.Header[name] = values
	}
	sign(req, body, access, secret, time.Now())
	resp, err := s.client.Do(req)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
	return resp.StatusCode, answer
}

func (s *S3) must(method, path, body string) []byte {
	s.t.Helper()
	sum := md5.Sum([]byte(body)) // some bucket operations demand it
	header := http.Header{"Content-Md5": {base64.StdEncoding.EncodeToString(sum[:])}}
	code, answer := s.Do(method, path, header, []byte(body))
	if code/100 != 2 {
		s.t.Fatalf("%s %s: %d %s", method, path, code, answer)
	}
	return answer
}

// CreateUser makes an account without any right; S3Options.Accounts must be set.
func (s *S3) CreateUser(access, secret string) {
	s.t.Helper()
	s.must(http.MethodPatch, "create-user", fmt.Sprintf(
		"<Account><Access>%s</Access><Secret>%s</Secret><Role>user</Role></Account>", access, secret))
}

// PutBucketPolicy replaces the bucket's policy.
func (s *S3) PutBucketPolicy(document string) {
	s.t.Helper()
	s.must(http.MethodPut, s.Bucket+"?policy=", document)
}

// SetDefaultRetention makes the bucket lock every new object; S3Options.ObjectLock must be set.
func (s *S3) SetDefaultRetention(mode string, days int) {
	s.t.Helper()
	s.must(http.MethodPut, s.Bucket+"?object-lock=", fmt.Sprintf(
		`<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention>`+
			`<Mode>%s</Mode><Days>%d</Days></DefaultRetention></Rule></ObjectLockConfiguration>`, mode, days))
}

// Uploads are the keys of the multipart uploads that were begun and neither completed nor aborted.
func (s *S3) Uploads() []string {
	s.t.Helper()
	var list struct {
		Upload []struct{ Key string }
	}
	if err := xml.Unmarshal(s.must(http.MethodGet, s.Bucket+"?uploads=", ""), &list); err != nil {
		s.t.Fatalf("list uploads: %v", err)
	}
	var keys []string
	for _, u := range list.Upload {
		keys = append(keys, u.Key)
	}
	return keys
}

// Version is one version of an object.
type Version struct {
	Key       string
	VersionID string `xml:"VersionId"`
	IsLatest  bool
}

// Versions are all versions and delete markers below a prefix of the bucket.
func (s *S3) Versions(prefix string) (versions, markers []Version) {
	s.t.Helper()
	var list struct {
		Version      []Version
		DeleteMarker []Version
	}
	if err := xml.Unmarshal(s.must(http.MethodGet, s.Bucket+"?versions=&prefix="+prefix, ""), &list); err != nil {
		s.t.Fatalf("list versions: %v", err)
	}
	return list.Version, list.DeleteMarker
}
