package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"etcd-steward/backup/repo"
	"etcd-steward/integration/lab"
)

// listObjects is how many objects the listed repository has: half of them manifests.
const listObjects = 100_000

// lists times `steward backup list` over a repository of 100,000 objects. The objects are multiplied in the S3 server's own folder
// from one real backup of a small cluster, each with a valid manifest of its own.
func (b *bench) lists() {
	small := &rig{dir: b.TempDir(), etcd: lab.StartEtcd(b, lab.EtcdOptions{Version: "3.6"}), s3: lab.StartS3(b, lab.S3Options{})}
	b.took(small.steward("backup", "create", "--endpoints", small.etcd.Endpoint(0), "--no-encryption"))
	if err := small.multiply(); err != nil {
		b.Fatalf("multiply the backup: %v", err)
	}
	var top, all []float64
	for range b.rounds {
		s, _ := b.took(small.steward("backup", "list"))
		top = append(top, s)
	}
	s, _ := b.took(small.steward("backup", "list", "--all", "-o", "json"))
	all = append(all, s)
	b.limit("`list` over 100,000 objects (50,000 backups)", 5, "s", top)
	b.add(figure{what: "`list --all -o json` over the same: every manifest read", target: "none", value: all[0], format: "%.1f s", ok: true, detail: list(all)})
}

// multiply makes copies of the one backup in the server's folder until there are listObjects objects, an hour apart.
func (r *rig) multiply() error {
	found, err := filepath.Glob(filepath.Join(r.s3.Dir, r.s3.Bucket, "lab", "bench", "*", "snapshots", "*", "*.json"))
	if err != nil || len(found) != 1 {
		return fmt.Errorf("found %d manifests, want 1 (%w)", len(found), err)
	}
	doc, err := os.ReadFile(found[0])
	if err != nil {
		return err
	}
	data, err := os.ReadFile(strings.TrimSuffix(found[0], ".json") + ".db.zst")
	if err != nil {
		return err
	}
	var m repo.Manifest
	if err := json.Unmarshal(doc, &m); err != nil {
		return err
	}
	base := filepath.Join(r.s3.Dir, r.s3.Bucket, "lab", "bench")
	for i := 1; i < listObjects/2; i++ {
		m.ID = repo.NewSnapshotID(time.Now().Add(-time.Duration(i) * time.Hour))
		m.Object.Key = repo.DataKey(m.Timeline, m.Database.Revision, m.ID, false)
		doc, err := repo.Seal("snapshot", 1, &m)
		if err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Dir(filepath.Join(base, m.Object.Key)), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(base, m.Object.Key), data[:1], 0o644); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(base, repo.ManifestKey(m.Timeline, m.Database.Revision, m.ID)), doc, 0o644); err != nil {
			return err
		}
	}
	return nil
}
