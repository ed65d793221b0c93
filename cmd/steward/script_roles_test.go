package main

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"etcd-steward/integration/lab"
)

// policyBlock is a JSON block of docs/SECURITY.md that is marked as a role's policy.
var policyBlock = regexp.MustCompile("(?ms)^```json policy=(backup|janitor|restore|compact)\n(.*?)^```$")

// startRoles starts an S3 server with Object Lock whose bucket gives four accounts exactly what docs/SECURITY.md says. An account's secret is its
// name, twice.
func startRoles(t *testing.T) *lab.S3 {
	t.Helper()
	s3 := lab.StartS3(t, lab.S3Options{Accounts: true, ObjectLock: true})
	text, err := os.ReadFile(filepath.Join(lab.Root(), "docs", "SECURITY.md"))
	if err != nil {
		t.Fatal(err)
	}
	var all []map[string]any
	n := 0
	for _, m := range policyBlock.FindAllStringSubmatch(string(text), -1) {
		role := m[1]
		s3.CreateUser(role, role+role)
		var doc struct{ Statement []map[string]any }
		filled := strings.NewReplacer("BUCKET", s3.Bucket, "PREFIX", "roles", "CLUSTER", "main").Replace(m[2])
		if err := json.Unmarshal([]byte(filled), &doc); err != nil {
			t.Fatalf("policy %s in docs/SECURITY.md: %v", role, err)
		}
		for _, st := range doc.Statement {
			all = grant(t, all, st, role)
			n++
		}
	}
	if n < 14 {
		t.Fatalf("docs/SECURITY.md has %d statements", n)
	}
	doc, err := json.Marshal(map[string]any{"Version": "2012-10-17", "Statement": all})
	if err != nil {
		t.Fatal(err)
	}
	s3.PutBucketPolicy(string(doc))
	return s3
}

// grant gives a role a statement. One that another role has as well is written once, for both: the server keeps a policy in an attribute of a file,
// which holds 4 KiB.
func grant(t *testing.T, all []map[string]any, st map[string]any, role string) []map[string]any {
	t.Helper()
	text := func(m map[string]any) string {
		m = maps.Clone(m)
		delete(m, "Sid")
		delete(m, "Principal")
		b, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	for _, other := range all {
		if text(other) == text(st) {
			who := other["Principal"].(map[string]any)
			who["AWS"] = append(who["AWS"].([]string), role)
			return all
		}
	}
	st["Principal"] = map[string]any{"AWS": []string{role}}
	st["Sid"] = role + st["Sid"].(string)
	return append(all, st)
}
