package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"etcd-steward/integration/lab"
)

// policyBlock is a JSON block of docs/SECURITY.md that is marked as a role's policy.
var policyBlock = regexp.MustCompile("(?ms)^```json policy=(backup|janitor|restore)\n(.*?)^```$")

// startRoles starts an S3 server with Object Lock whose bucket gives three accounts exactly what docs/SECURITY.md says. An account's secret is its
// name, twice.
func startRoles(t *testing.T) *lab.S3 {
	t.Helper()
	s3 := lab.StartS3(t, lab.S3Options{Accounts: true, ObjectLock: true})
	text, err := os.ReadFile(filepath.Join(lab.Root(), "docs", "SECURITY.md"))
	if err != nil {
		t.Fatal(err)
	}
	var all []any
	for _, m := range policyBlock.FindAllStringSubmatch(string(text), -1) {
		role := m[1]
		s3.CreateUser(role, role+role)
		var doc struct{ Statement []map[string]any }
		filled := strings.NewReplacer("BUCKET", s3.Bucket, "PREFIX", "roles", "CLUSTER", "main").Replace(m[2])
		if err := json.Unmarshal([]byte(filled), &doc); err != nil {
			t.Fatalf("policy %s in docs/SECURITY.md: %v", role, err)
		}
		for _, st := range doc.Statement {
			st["Principal"] = map[string]any{"AWS": []string{role}}
			st["Sid"] = role + st["Sid"].(string)
			all = append(all, st)
		}
	}
	if len(all) < 10 {
		t.Fatalf("docs/SECURITY.md has %d statements", len(all))
	}
	doc, err := json.Marshal(map[string]any{"Version": "2012-10-17", "Statement": all})
	if err != nil {
		t.Fatal(err)
	}
	s3.PutBucketPolicy(string(doc))
	return s3
}
