package main

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"etcd-steward/integration/lab"
)

// rig is what all parts share: one etcd member with the data, one S3 server over TLS, one age key pair.
type rig struct {
	etcd                *lab.Cluster
	s3                  *lab.S3
	dir                 string
	identity, recipient string
	cluster             string // of the repository; "" is bench
}

// valueBytes is the size of one value; with its key and etcd's own fields a record takes about 100 bytes more.
const (
	valueBytes = 1024
	perKey     = 1200
)

func (b *bench) start() *rig {
	if b.rig != nil {
		return b.rig
	}
	r := &rig{dir: b.TempDir()}
	r.etcd = lab.StartEtcd(b, lab.EtcdOptions{Version: "3.6", UnsafeNoFsync: true, ExtraArgs: []string{"--quota-backend-bytes=34359738368"}})
	r.s3 = lab.StartS3(b, lab.S3Options{})
	r.newIdentity(b)
	fmt.Fprintf(os.Stderr, "bench: loading %d MB into etcd\n", b.mb)
	lab.Fill(b, r.etcd.Client(b), lab.FillOptions{Keys: b.mb * 1e6 / perKey, ValueSize: valueBytes, Seed: 1})
	b.rig = r
	return r
}

func (r *rig) newIdentity(b *bench) {
	r.identity = filepath.Join(r.dir, "identity.txt")
	out, err := exec.Command(lab.Tool(b, "age-keygen"), "-o", r.identity).CombinedOutput()
	if err != nil {
		b.Fatalf("age-keygen: %v: %s", err, out)
	}
	_, r.recipient, _ = strings.Cut(strings.TrimSpace(string(out)), "Public key: ")
}

// steward is a run of the program under test against the rig.
func (r *rig) steward(args ...string) *exec.Cmd {
	st := r.s3.StoreConfig().S3
	cmd := exec.Command(filepath.Join(lab.Root(), "bin", "steward"), append(args,
		"--store", r.s3.URL(), "--s3-endpoint", st.Endpoint, "--s3-ca-file", st.CAFile, "--cluster", cmp.Or(r.cluster, "bench"))...)
	cmd.Env = append(os.Environ(), "AWS_ACCESS_KEY_ID="+r.s3.Access, "AWS_SECRET_ACCESS_KEY="+r.s3.Secret)
	return cmd
}

// curl moves one file to or from the S3 server, as a shell pipeline would.
func (r *rig) curl(args ...string) *exec.Cmd {
	return exec.Command("curl", append([]string{
		"-sSf", "--cacert", r.s3.CA.File, "--aws-sigv4", "aws:amz:us-east-1:s3",
		"--user", r.s3.Access + ":" + r.s3.Secret, "-H", "x-amz-content-sha256: UNSIGNED-PAYLOAD",
	}, args...)...)
}

// took runs commands one after the other and returns their wall time in seconds and the highest anonymous memory of any, in MB.
// The page cache is written back first, so that no command pays for the one before.
func (b *bench) took(cmds ...*exec.Cmd) (seconds, anonMB float64) {
	b.Helper()
	syscall.Sync()
	start := time.Now()
	for _, cmd := range cmds {
		var out strings.Builder
		if cmd.Stdout == nil {
			cmd.Stdout = &out
		}
		cmd.Stderr = &out
		if err := cmd.Start(); err != nil {
			b.Fatalf("%v: %v", cmd, err)
		}
		stop := make(chan struct{})
		peak := make(chan float64)
		go func() { peak <- watchAnon(cmd.Process.Pid, stop) }()
		err := cmd.Wait()
		close(stop)
		anonMB = max(anonMB, <-peak)
		if err != nil {
			b.Fatalf("%v: %v: %s", cmd, err, out.String())
		}
	}
	return time.Since(start).Seconds(), anonMB
}

// watchAnon samples a process's anonymous memory (RssAnon of proc(5)) until stop, and returns the highest, in MB.
func watchAnon(pid int, stop <-chan struct{}) float64 {
	var peak float64
	for {
		select {
		case <-stop:
			return peak
		case <-time.After(10 * time.Millisecond):
		}
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(status)) {
			if v, ok := strings.CutPrefix(line, "RssAnon:"); ok {
				kb, _ := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(v), " kB"), 64)
				peak = max(peak, kb/1000)
			}
		}
	}
}
