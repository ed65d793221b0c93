package main

import (
	"fmt"
	"os/exec"
	"path/filepath"

	"etcd-steward/integration/lab"
)

// snapshots compares `steward backup create` to S3 with `etcdctl snapshot save` to the local disk alone, and with the usual
// pipeline that ends at the same place: save, zstd, age, upload.
func (b *bench) snapshots() {
	r := b.start()
	plain, packed, sealed := filepath.Join(r.dir, "usual.db"), filepath.Join(r.dir, "usual.db.zst"), filepath.Join(r.dir, "usual.db.zst.age")
	save := func() *exec.Cmd {
		return exec.Command(lab.Tool(b, "etcdctl"), "--endpoints", r.etcd.Endpoint(0), "snapshot", "save", plain)
	}
	create := func() *exec.Cmd {
		return r.steward("backup", "create", "--endpoints", r.etcd.Endpoint(0), "--recipient", r.recipient)
	}
	b.took(save()) // warm: the server has read its file once
	var ours, alone, usual, anon []float64
	for range b.rounds {
		s, _ := b.took(save())
		alone = append(alone, s)
		s, mb := b.took(create())
		ours, anon = append(ours, s), append(anon, mb)
		s, _ = b.took(save(), exec.Command("zstd", "-q", "-f", "-T0", plain, "-o", packed),
			exec.Command(lab.Tool(b, "age"), "-r", r.recipient, "-o", sealed, packed),
			r.curl("-T", sealed, r.s3.Endpoint+"/"+r.s3.Bucket+"/usual/backup.db.zst.age"))
		usual = append(usual, s)
	}
	b.ratio("`backup create` to S3, compressed and encrypted, against `etcdctl snapshot save` to local disk", 1.1, "create", ours, "save", alone)
	b.ratio("`backup create` against save, `zstd -T0`, `age`, upload", 0.6, "create", ours, "pipeline", usual)
	b.figures[len(b.figures)-1].detail += fmt.Sprintf("; the pipeline's first step, save, alone takes %.2f of it on this machine", median(alone)/median(usual))
	b.limit("`backup create`, anonymous memory", 120, "MB", anon)
}
