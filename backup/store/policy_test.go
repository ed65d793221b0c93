package store_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"etcd-steward/backup/store"
	"etcd-steward/backup/store/faults"
	"etcd-steward/integration/lab"
)

// policyBlock is a JSON block of docs/SECURITY.md that is marked as a policy.
var policyBlock = regexp.MustCompile("(?ms)^ *```json policy=([a-z]+)\n(.*?)^ *```$")

// policies reads the documented policies, filled in for the lab's bucket.
func policies(t *testing.T, bucket string) map[string]map[string]any {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(lab.Root(), "docs", "SECURITY.md"))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]map[string]any{}
	for _, m := range policyBlock.FindAllStringSubmatch(string(text), -1) {
		filled := strings.NewReplacer("BUCKET", bucket, "PREFIX", "lab", "CLUSTER", "main").Replace(m[2])
		var doc map[string]any
		if err := json.Unmarshal([]byte(filled), &doc); err != nil {
			t.Fatalf("policy %s in docs/SECURITY.md: %v", m[1], err)
		}
		found[m[1]] = doc
	}
	return found
}

// roles starts a server whose bucket gives accounts exactly what docs/SECURITY.md says: those named, or else three. Secrets are the account names, twice. All at once
// are more than versitygw keeps in one policy.
func roles(t *testing.T, names ...string) *lab.S3 {
	t.Helper()
	s3 := lab.StartS3(t, lab.S3Options{Accounts: true, ObjectLock: true})
	documented := policies(t, s3.Bucket)
	if len(names) == 0 {
		names = []string{"backup", "janitor", "restore"}
	}
	var all []any
	for _, role := range names {
		s3.CreateUser(role, role+role)
		statements, ok := documented[role]["Statement"].([]any)
		if !ok {
			t.Fatalf("docs/SECURITY.md has no policy %s", role)
		}
		for _, st := range statements {
			statement := st.(map[string]any)
			statement["Principal"] = map[string]any{"AWS": []string{role}}
			statement["Sid"] = role + statement["Sid"].(string)
			all = append(all, statement)
		}
	}
	doc, err := json.Marshal(map[string]any{"Version": "2012-10-17", "Statement": all})
	if err != nil {
		t.Fatal(err)
	}
	s3.PutBucketPolicy(string(doc))
	return s3
}

// as opens the store with a role's credentials.
func as(t *testing.T, s3 *lab.S3, role string, change ...func(*store.Config)) store.Store {
	t.Helper()
	cfg := s3.StoreConfigFor(role, role+role)
	cfg.S3.ObjectLock = store.ObjectLock{Mode: "governance", Days: 1}
	cfg.S3.BackoffMax = time.Millisecond
	for _, c := range change {
		c(&cfg)
	}
	return open(t, cfg)
}

const (
	timeline = "main/0000000000000abc-1/"
	dataKey  = timeline + "snapshots/2026-11/000000000000002a-01J0000000000000000000000A.db.zst.age"
	manifest = timeline + "snapshots/2026-11/000000000000002a-01J0000000000000000000000A.json"
	segment  = timeline + "changes/2026-11-21/000000000000002b-000000000000002f-01J0000000000000000000000B.chg.zst.age"
	looseSeg = timeline + "changes/2026-11-18/0000000000000021-0000000000000029-01J0000000000000000000000E.chg.zst.age" // not locked
	looseKey = timeline + "snapshots/2026-11/0000000000000030-01J0000000000000000000000C.db.zst.age"                    // not locked
	plan     = "main/plans/prune-01J0000000000000000000000D.json"
	probeIn  = "main/coordination/probe"
)

var layout = []string{
	dataKey, manifest, segment, looseKey, looseSeg, "main/repository.json", "main/successors/0000000000000def.json", plan,
	"main/coordination/snapshot.json", "main/coordination/verified/01J0000000000000000000000A.json", "other/repository.json",
}

// fillAsRoot puts one object of every kind; data and manifests are locked.
func fillAsRoot(t *testing.T, s3 *lab.S3) {
	t.Helper()
	cfg := s3.StoreConfig()
	cfg.S3.ObjectLock = store.ObjectLock{Mode: "governance", Days: 1}
	root := open(t, cfg)
	for _, key := range layout {
		opts := store.PutOptions{Retain: key == dataKey || key == manifest || key == segment}
		if _, err := root.Put(t.Context(), key, src([]byte(key)), opts); err != nil {
			t.Fatal(err)
		}
	}
}

// expect checks what one role can do with every kind of object: r(ead), c(reate) another of the kind, d(elete), or be told that it is l(ocked).
// What is not named it must not.
func expect(t *testing.T, s3 *lab.S3, role string, rights map[string]string) {
	t.Helper()
	s := as(t, s3, role)
	check := func(op, key string, err error, allowed bool) {
		t.Helper()
		if allowed && err != nil {
			t.Errorf("%s may %s %s, but got %v", role, op, key, err)
		}
		if !allowed && store.KindOf(err) != store.Denied {
			t.Errorf("%s must not %s %s, but got %v", role, op, key, err)
		}
	}
	for _, key := range layout {
		may := func(right string) bool { return strings.Contains(rights[key], right) }
		r, err := s.Get(t.Context(), key, 0, -1)
		if err == nil {
			_ = r.Close()
		}
		check("read", key, err, may("r"))
		_, err = s.Head(t.Context(), key)
		check("look at", key, err, may("r"))
		fresh := strings.TrimSuffix(key, filepath.Ext(key)) + "-" + role + filepath.Ext(key)
		_, err = s.Put(t.Context(), fresh, src([]byte("new")), store.PutOptions{IfAbsent: true})
		if key != "main/repository.json" && key != "other/repository.json" {
			check("create", fresh, err, may("c"))
		}
		err = s.Delete(t.Context(), key)
		if may("l") {
			wantKind(t, err, store.Locked)
			continue
		}
		check("delete", key, err, may("d"))
	}
	for _, prefix := range []string{"main/", timeline + "snapshots/"} {
		n := 0
		for _, err := range s.List(t.Context(), prefix, "") {
			if err != nil {
				t.Errorf("%s may list %s, but got %v", role, prefix, err)
			}
			n++
		}
		if n == 0 {
			t.Errorf("%s sees nothing below %s", role, prefix)
		}
	}
	for _, prefix := range []string{"", "other/", "main-2/"} {
		for info, err := range s.List(t.Context(), prefix, "") {
			if store.KindOf(err) != store.Denied {
				t.Errorf("%s must not list %q, but got %v, %v", role, prefix, info.Key, err)
			}
		}
	}
	beyond(t, s3, role)
}

// beyond tries what no role may.
func beyond(t *testing.T, s3 *lab.S3, role string) {
	t.Helper()
	all, _ := s3.Versions("lab/" + dataKey)
	if len(all) == 0 {
		t.Fatal("no version of the data object")
	}
	version := s3.Bucket + "/lab/" + dataKey + "?versionId=" + all[len(all)-1].VersionID
	bypass := http.Header{"X-Amz-Bypass-Governance-Retention": {"true"}}
	for what, do := range map[string]func() (int, []byte){
		"delete a version":  func() (int, []byte) { return s3.DoAs(role, role+role, "DELETE", version, nil, nil) },
		"bypass a lock":     func() (int, []byte) { return s3.DoAs(role, role+role, "DELETE", version, bypass, nil) },
		"change the policy": func() (int, []byte) { return s3.DoAs(role, role+role, "DELETE", s3.Bucket+"?policy=", nil, nil) },
		"change the versioning": func() (int, []byte) {
			return s3.DoAs(role, role+role, "PUT", s3.Bucket+"?versioning=", nil, []byte("<VersioningConfiguration><Status>Suspended</Status></VersioningConfiguration>"))
		},
		"delete the bucket":        func() (int, []byte) { return s3.DoAs(role, role+role, "DELETE", s3.Bucket, nil, nil) },
		"create another's account": func() (int, []byte) { return s3.DoAs(role, role+role, "PATCH", "create-user", nil, nil) },
	} {
		if code, body := do(); code != http.StatusForbidden {
			t.Errorf("%s must not %s, but got %d %s", role, what, code, body)
		}
	}
}

func TestPolicyBackup(t *testing.T) {
	t.Parallel()
	s3 := roles(t)
	fillAsRoot(t, s3)
	expect(t, s3, "backup", map[string]string{
		dataKey: "c", looseKey: "c", segment: "c", looseSeg: "c", manifest: "rcl", "main/repository.json": "r", "main/successors/0000000000000def.json": "r",
		"main/coordination/snapshot.json": "rc", "main/coordination/verified/01J0000000000000000000000A.json": "rc",
	})
	s := as(t, s3, "backup")
	caps, err := store.Probe(t.Context(), s, probeIn)
	want := "s3://backups/lab: exclusive create yes (also multipart), compare-and-swap yes, SHA-256 yes, versioning on, object lock on, snapshots locked governance 1 d"
	if err != nil || caps.String() != want {
		t.Errorf("Probe: got %q, %v, want %q", caps, err, want)
	}
	// What is there is not replaced, and a role that may not read learns so all the same.
	_, err = s.Put(t.Context(), dataKey, src([]byte("x")), store.PutOptions{IfAbsent: true, Retain: true})
	wantKind(t, err, store.Exists)

	// Without the statement NothingIsReplaced, a thief can put a new version on top; the locked one stays below it.
	if _, err := s.Put(t.Context(), dataKey, src([]byte("forged")), store.PutOptions{}); err != nil {
		t.Errorf("overwrite: %v", err)
	}
	all, markers := s3.Versions("lab/" + dataKey)
	if len(all) != 2 || len(markers) != 0 {
		t.Fatalf("got the versions %v and markers %v, want the locked one and the forged one", all, markers)
	}
	for _, v := range all {
		code, body := s3.DoAs("restore", "restorerestore", "GET", s3.Bucket+"/lab/"+dataKey+"?versionId="+v.VersionID, nil, nil)
		if want := map[bool]string{true: "forged", false: dataKey}[v.IsLatest]; code != http.StatusOK || string(body) != want {
			t.Errorf("version %v: got %d %q, want %q", v, code, body, want)
		}
	}
}

// TestPolicyBackupLostAnswer: a role that cannot read recognises its own upload by the listing.
func TestPolicyBackupLostAnswer(t *testing.T) {
	t.Parallel()
	s3 := roles(t)
	tr := faults.New(faults.Options{Seed: 1})
	s := as(t, s3, "backup", func(c *store.Config) { c.S3.Transport, c.S3.PartSize = tr.Wrap, 5<<20 })
	data := bytes.Repeat([]byte("d"), 6<<20)
	for key, source := range map[string]store.Source{
		looseKey: src(data), looseKey + "2": {Reader: bytes.NewReader(data), Size: store.Unknown},
	} {
		tr.Next(faults.LostAnswer, func(r *http.Request) bool {
			return r.Method == "PUT" && r.URL.RawQuery == "x-id=PutObject" || r.Method == "POST" && r.URL.Query().Has("uploadId")
		})
		info, err := s.Put(t.Context(), key, source, store.PutOptions{IfAbsent: true, Retain: true})
		if err != nil || info.Size != int64(len(data)) || info.RetainUntil.IsZero() {
			t.Errorf("Put %s: got %+v, %v, want success", key, info, err)
		}
		if tr.Planned() != 0 {
			t.Errorf("Put %s: no answer was lost", key)
		}
		_, err = s.Put(t.Context(), key, src([]byte("other")), store.PutOptions{IfAbsent: true})
		wantKind(t, err, store.Exists)
		wantContent(t, as(t, s3, "restore"), key, data)
	}
}

// TestPolicyBackupLostOverwrite: the size in a listing must not pass an older object off as one that was never written.
func TestPolicyBackupLostOverwrite(t *testing.T) {
	t.Parallel()
	s3 := roles(t)
	fillAsRoot(t, s3)
	tr := faults.New(faults.Options{Seed: 1, Chance: map[faults.Fault]float64{faults.Reset: 1}, Spare: func(r *http.Request, _ faults.Fault) bool {
		return r.Method != http.MethodPut
	}})
	s := as(t, s3, "backup", func(c *store.Config) { c.S3.Transport = tr.Wrap })
	same := bytes.Repeat([]byte("x"), len(looseKey))
	_, err := s.Put(t.Context(), looseKey, src(same), store.PutOptions{})
	wantKind(t, err, store.Unreachable)
	wantContent(t, as(t, s3, "restore"), looseKey, []byte(looseKey))
}

func TestPolicyJanitor(t *testing.T) {
	t.Parallel()
	s3 := roles(t)
	fillAsRoot(t, s3)
	expect(t, s3, "janitor", map[string]string{
		dataKey: "l", segment: "l", manifest: "rl", looseKey: "d", looseSeg: "d", "main/repository.json": "r", "main/successors/0000000000000def.json": "r",
		plan: "rc", "main/coordination/snapshot.json": "rc", "main/coordination/verified/01J0000000000000000000000A.json": "rcd",
	})
	// What it deleted is hidden, not gone.
	for _, key := range []string{looseKey, looseSeg} {
		if all, markers := s3.Versions("lab/" + key); len(all) != 1 || len(markers) != 1 {
			t.Errorf("%s: got the versions %v and markers %v, want the object below a marker", key, all, markers)
		}
		_, err := open(t, s3.StoreConfig()).Head(t.Context(), key)
		wantKind(t, err, store.NotFound)
	}
	// What is locked is neither.
	if all, markers := s3.Versions("lab/" + dataKey); len(all) != 1 || len(markers) != 0 {
		t.Errorf("got the versions %v and markers %v, want the locked object alone", all, markers)
	}
}

func TestPolicyRestore(t *testing.T) {
	t.Parallel()
	s3 := roles(t)
	fillAsRoot(t, s3)
	rights := map[string]string{}
	for _, key := range layout {
		if strings.HasPrefix(key, "main/") {
			rights[key] = "r"
		}
	}
	rights["main/successors/0000000000000def.json"] = "rc"
	rights["main/coordination/verified/01J0000000000000000000000A.json"] = "rc"
	// Locked ones say Locked before the question of a right comes up.
	for _, key := range []string{dataKey, manifest, segment} {
		rights[key] = "rl"
	}
	expect(t, s3, "restore", rights)
	if info, err := as(t, s3, "restore").Head(t.Context(), dataKey); err != nil || info.RetainUntil.IsZero() {
		t.Errorf("Head: got %+v, %v, want its lock", info, err)
	}
}

// TestPolicyCompact: who compacts reads everything and puts snapshots; segments it neither writes nor deletes.
func TestPolicyCompact(t *testing.T) {
	t.Parallel()
	s3 := roles(t, "compact")
	fillAsRoot(t, s3)
	rights := map[string]string{}
	for _, key := range layout {
		if strings.HasPrefix(key, "main/") {
			rights[key] = "r"
		}
	}
	rights[dataKey], rights[manifest], rights[looseKey], rights[segment] = "rcl", "rcl", "rc", "rl"
	expect(t, s3, "compact", rights)
}

// TestPolicyImmutable: the statement for AWS is a valid document; a server that does not know its conditions must refuse it, not ignore it.
func TestPolicyImmutable(t *testing.T) {
	s3 := lab.StartS3(t, lab.S3Options{Accounts: true})
	doc, ok := policies(t, s3.Bucket)["immutable"]
	if !ok {
		t.Fatal("docs/SECURITY.md has no policy immutable")
	}
	text, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	if code, body := s3.Do("PUT", s3.Bucket+"?policy=", nil, text); code != http.StatusBadRequest {
		t.Errorf("got %d %s: versitygw takes it now; test what it does, and say so in docs/SECURITY.md", code, body)
	}
}
