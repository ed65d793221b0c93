package repo_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"etcd-steward/backup/repo"
	"etcd-steward/backup/repo/envelope"
	"etcd-steward/backup/store"
	"etcd-steward/integration/lab"
)

// commands reads the shell commands of docs/FORMAT.md: "run=step" or "run=step,way" behind ```sh names them.
func commands(t *testing.T) map[string]string {
	t.Helper()
	page, err := os.ReadFile(filepath.Join(lab.Root(), "docs", "FORMAT.md"))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	name := ""
	for line := range strings.Lines(string(page)) {
		switch fence, isFence := strings.CutPrefix(line, "```"); {
		case isFence && name == "":
			_, name, _ = strings.Cut(strings.TrimSpace(fence), "run=")
		case isFence:
			name = ""
		case name != "":
			out[name] += line
		}
	}
	return out
}

// tool is a program that the page needs, from the machine or from bin/tools.
func tool(t *testing.T, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err == nil {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatalf("%s is not installed", name)
	}
	t.Skipf("%s is not installed", name)
}

// TestRestoreByHand follows docs/FORMAT.md word for word, on a backup of a real etcd, from a folder and from S3.
func TestRestoreByHand(t *testing.T) {
	for _, name := range []string{"bash", "jq", "zstd", "sha256sum", "curl"} {
		tool(t, name)
	}
	lab.Tool(t, "age")
	lab.Tool(t, "etcdutl")
	snap := realSnapshot(t)
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	identityFile := filepath.Join(t.TempDir(), "identity")
	if err := os.WriteFile(identityFile, []byte("# a comment\n"+identity.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s3 := lab.StartS3(t, lab.S3Options{})
	dir := t.TempDir()
	s3Env := []string{
		"STORE=" + s3.URL() + "/main", "ENDPOINT=" + s3.Endpoint, "BUCKET=" + s3.Bucket, "PREFIX=lab/main", "AWS_ACCESS_KEY_ID=" + s3.Access,
		"AWS_SECRET_ACCESS_KEY=" + s3.Secret, "AWS_REGION=us-east-1", "AWS_ENDPOINT_URL=" + s3.Endpoint, "AWS_CA_BUNDLE=" + s3.CA.File, "CURL_CA_BUNDLE=" + s3.CA.File,
	}
	for _, c := range []struct {
		way string
		to  []age.Recipient
		cfg store.Config
		env []string
	}{
		{"folder", nil, store.Config{URL: "file://" + dir}, []string{"STORE=" + filepath.Join(dir, "main")}},
		{"curl", []age.Recipient{identity.Recipient()}, s3.StoreConfig(), s3Env},
		{"aws", nil, s3.StoreConfig(), s3Env}, // finds what curl's case has put
	} {
		t.Run(c.way, func(t *testing.T) {
			if c.way == "aws" && exec.Command("aws", "--version").Run() != nil {
				t.Skip("the AWS command line is not installed; the commands with curl were run")
			}
			st, err := store.Open(t.Context(), c.cfg)
			if err != nil {
				t.Fatal(err)
			}
			if c.way != "aws" {
				putSnapshot(t, st, snap, c.to, 3*time.Hour)
				putSnapshot(t, st, snap, c.to, 0)
			}
			work := t.TempDir()
			restored := followPage(t, c.way, work, append(c.env, "IDENTITY="+identityFile))
			if !bytes.Equal(restored, snap) {
				t.Fatal("the restored snapshot is not what etcd sent")
			}
			damagedPage(t, work)
		})
	}
}

// followPage runs the page's steps in order and returns the snapshot that they restored.
func followPage(t *testing.T, way, work string, env []string) []byte {
	t.Helper()
	var script strings.Builder
	page := commands(t)
	for _, step := range []string{"list,", "choose", "fetch,", "check", "open", "trailer", "restore", "prove"} {
		if strings.HasSuffix(step, ",") {
			step += way
		}
		if page[step] == "" {
			t.Fatalf("docs/FORMAT.md has no commands for %q: it has %v", step, slices.Sorted(mapKeys(page)))
		}
		fmt.Fprintf(&script, "echo '--- %s' >&2\n%s", step, page[step])
	}
	out := bash(t, work, script.String(), env, true)
	lines := strings.Fields(out)
	if len(lines) < 2 || lines[len(lines)-1] != lines[len(lines)-2] {
		t.Fatalf("etcdutl's HashKV and the manifest's are not the same: %q", out)
	}
	if n := strings.Count(readFile(t, filepath.Join(work, "manifests.txt")), "\n"); n != 2 {
		t.Fatalf("%d manifests are listed, want 2", n)
	}
	if _, err := os.Stat(filepath.Join(work, "restored", "member", "snap", "db")); err != nil {
		t.Fatal(err)
	}
	return []byte(readFile(t, filepath.Join(work, "snapshot.db")))
}

// damagedPage: the page's own check finds a manifest or an object that was changed.
func damagedPage(t *testing.T, work string) {
	t.Helper()
	check := commands(t)["check"]
	for _, name := range []string{"manifest.json", "object"} {
		path := filepath.Join(work, name)
		good := readFile(t, path)
		bad := []byte(good)
		bad[len(bad)/2] ^= 1
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		bash(t, work, check, nil, false)
		if err := os.WriteFile(path, []byte(good), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	bash(t, work, check, nil, true)
}

func bash(t *testing.T, dir, script string, env []string, succeeds bool) string {
	t.Helper()
	cmd := exec.Command("bash", "-euo", "pipefail", "-c", script)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	cmd.Env = append(cmd.Env, "PATH="+filepath.Join(lab.Root(), "bin", "tools")+":"+os.Getenv("PATH"))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if (err == nil) != succeeds {
		t.Fatalf("%v\n%s%s\nscript:\n%s", err, out, stderr.Bytes(), script)
	}
	return string(out)
}

func mapKeys(m map[string]string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// realSnapshot is what a real etcd sends, trailer included.
func realSnapshot(t *testing.T) []byte {
	t.Helper()
	c := lab.StartEtcd(t, lab.EtcdOptions{UnsafeNoFsync: true})
	lab.Fill(t, c.Client(t), lab.FillOptions{Keys: 500})
	path := filepath.Join(t.TempDir(), "snapshot")
	cmd := exec.Command(lab.Tool(t, "etcdctl"), "--endpoints", c.Endpoint(0), "snapshot", "save", path)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("etcdctl snapshot save: %v\n%s", err, out)
	}
	return []byte(readFile(t, path))
}

// putSnapshot stores a backup whose facts stock etcdutl has read.
func putSnapshot(t *testing.T, st store.Store, snap []byte, to []age.Recipient, ago time.Duration) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "snapshot")
	if err := os.WriteFile(path, snap, 0o600); err != nil {
		t.Fatal(err)
	}
	var status struct {
		Revision int64 `json:"revision"`
		Hash     uint32
	}
	if err := json.Unmarshal([]byte(lab.Etcdutl(t, "snapshot", "status", path, "-w", "json")), &status); err != nil {
		t.Fatal(err)
	}
	var hash struct {
		Hash uint32 `json:"hash"`
	}
	if err := json.Unmarshal([]byte(lab.Etcdutl(t, "hashkv", path, "-w", "json")), &hash); err != nil {
		t.Fatal(err)
	}
	var object bytes.Buffer
	w, err := envelope.NewWriter(&object, envelope.Options{Recipients: to})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(snap); err != nil {
		t.Fatal(err)
	}
	sealed, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	db := len(snap) - 32
	tl, rev, id := repo.Timeline{Cluster: 0xabc, Cut: 1}, repo.Revision(status.Revision), repo.NewSnapshotID(time.Now().Add(-ago))
	m := &repo.Manifest{
		ID: id, Cluster: "main", Timeline: tl, Object: sealed.Object(repo.DataKey(tl, rev, id, len(to) > 0)),
		Database: repo.Database{Revision: rev, HashKV: hash.Hash, Size: int64(db), SHA256: repo.SHA256(snap[db:])},
		Source:   repo.Source{Host: strconv.Quote("h"), Quorum: true},
	}
	r, err := repo.Open(t.Context(), st, "main")
	if err != nil {
		t.Fatal(err)
	}
	src := store.Source{Reader: bytes.NewReader(object.Bytes()), Size: sealed.Size, SHA256: sealed.SHA256}
	if err := r.PutData(t.Context(), m, src); err != nil {
		t.Fatal(err)
	}
	if err := r.PutManifest(t.Context(), m); err != nil {
		t.Fatal(err)
	}
}
