package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"etcd-steward/integration/lab"
)

const head = `# Benchmarks

Written by ` + "`make bench`" + `. Every figure is a ratio of two things run in turn on one machine (or a bound), the median over the rounds;
the seconds of each round stand beside it. Absolute times belong to the machine; compare the ratios. What falls short stays here as it is.

`

// page is docs/BENCHMARKS.md.
func (b *bench) page() string {
	var p strings.Builder
	p.WriteString(head)
	fmt.Fprintf(&p, "Machine: %s. %s. %s.\n\n", machine(), b.program(), time.Now().UTC().Format("2006-01-02"))
	fmt.Fprintf(&p, "Data: %d MB of etcd database, 1 KiB values like those of a Kubernetes cluster (synthetic, fixed seed). %d rounds. ", b.mb, b.rounds)
	p.WriteString("The etcd server (3.6), the S3 server (versitygw, TLS) and the program under test share the machine's cores.\n\n")
	p.WriteString("| Figure | Target | Measured | |\n|---|---|---|---|\n")
	for _, f := range b.figures {
		verdict := "met"
		switch {
		case f.target == "none":
			verdict = ""
		case !f.ok:
			verdict = "**missed**"
		}
		fmt.Fprintf(&p, "| %s | %s | "+f.format+" | %s |\n", f.what, f.target, f.value, verdict)
	}
	p.WriteString("\n## The rounds\n\n")
	for _, f := range b.figures {
		fmt.Fprintf(&p, "- %s: %s\n", f.what, f.detail)
	}
	return p.String()
}

// program is the build under test, as it calls itself.
func (b *bench) program() string {
	out, err := exec.CommandContext(b.Context(), filepath.Join(lab.Root(), "bin", "steward"), "version").Output()
	if err != nil {
		b.Fatalf("steward version: %v", err)
	}
	return strings.TrimSpace(string(out))
}

func machine() string {
	var u unix.Utsname
	_ = unix.Uname(&u)
	var s unix.Sysinfo_t
	_ = unix.Sysinfo(&s)
	return fmt.Sprintf("%s, %d cores, %d GiB, Linux %s, %s", model(), runtime.NumCPU(), (s.Totalram*uint64(s.Unit)+1<<29)>>30, unix.ByteSliceToString(u.Release[:]), runtime.Version())
}

func model() string {
	info, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(info)) {
		if name, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(v)
		}
	}
	return runtime.GOARCH
}
