package main

import (
	"os"
	"os/exec"
	"path/filepath"

	"etcd-steward/integration/lab"
)

// restores compares `steward restore data-dir` from S3 with `etcdutl snapshot restore` of a local, uncompressed file, and with
// the usual way back: download, unzstd, etcdutl.
func (b *bench) restores() {
	r := b.start()
	plain, packed := filepath.Join(r.dir, "local.db"), filepath.Join(r.dir, "local.db.zst")
	object := r.s3.Endpoint + "/" + r.s3.Bucket + "/usual/restore.db.zst"
	b.took(exec.Command(lab.Tool(b, "etcdctl"), "--endpoints", r.etcd.Endpoint(0), "snapshot", "save", plain),
		exec.Command("zstd", "-q", "-f", "-T0", plain, "-o", packed), r.curl("-T", packed, object),
		r.steward("backup", "create", "--endpoints", r.etcd.Endpoint(0), "--recipient", r.recipient))
	target := filepath.Join(r.dir, "restored")
	etcdutl := func(file string) *exec.Cmd {
		return exec.Command(lab.Tool(b, "etcdutl"), "snapshot", "restore", file, "--data-dir", target,
			"--bump-revision", "1000000000", "--mark-compacted")
	}
	var ours, local, usual, anon []float64
	for range b.rounds {
		run := func(cmds ...*exec.Cmd) (float64, float64) {
			s, mb := b.took(cmds...)
			if err := os.RemoveAll(target); err != nil {
				b.Fatalf("clean up: %v", err)
			}
			return s, mb
		}
		s, _ := run(etcdutl(plain))
		local = append(local, s)
		s, mb := run(r.steward("restore", "data-dir", "--identity", r.identity, "--data-dir", target, "--name", "default",
			"--initial-cluster", "default=http://localhost:2380", "--initial-advertise-peer-urls", "http://localhost:2380", "--yes"))
		ours, anon = append(ours, s), append(anon, mb)
		fetched := filepath.Join(r.dir, "fetched.db")
		s, _ = run(r.curl("-o", fetched+".zst", object), exec.Command("zstd", "-q", "-f", "-d", fetched+".zst", "-o", fetched), etcdutl(fetched))
		usual = append(usual, s)
	}
	b.ratio("`restore data-dir` from S3, encrypted, against `etcdutl snapshot restore` of a local uncompressed file", 1.3, "steward", ours, "etcdutl", local)
	b.ratio("`restore data-dir` against download, `zstd -d`, `etcdutl snapshot restore`", 0.65, "steward", ours, "usual", usual)
	b.limit("`restore data-dir`, anonymous memory", 150, "MB", anon)
}
