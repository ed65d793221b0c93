package lab

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// driver is a T for programs: the demo and the benchmarks.
type driver struct {
	ctx      context.Context
	mu       sync.Mutex
	cleanups []func()
	failed   bool
}

// stopped is what Fatalf panics with, so that the cleanups run.
type stopped struct{ msg string }

// Run gives main a T, ends what main started however it ends (also at SIGINT and SIGTERM, which cancel t.Context), and
// returns the exit code.
func Run(main func(t T)) (code int) {
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer cancel()
	d := &driver{ctx: ctx}
	defer func() {
		switch r := recover().(type) {
		case nil:
		case stopped:
			d.failed, code = true, 1
			fmt.Fprintln(os.Stderr, r.msg)
		default:
			d.failed = true
			d.clean()
			panic(r)
		}
		if d.clean(); ctx.Err() != nil {
			code = 130
		}
	}()
	main(d)
	return 0
}

func (d *driver) clean() {
	for {
		d.mu.Lock()
		n := len(d.cleanups)
		if n == 0 {
			d.mu.Unlock()
			return
		}
		f := d.cleanups[n-1]
		d.cleanups = d.cleanups[:n-1]
		d.mu.Unlock()
		f()
	}
}

func (d *driver) Helper()                        {}
func (d *driver) Failed() bool                   { return d.failed }
func (d *driver) Context() context.Context       { return d.ctx }
func (d *driver) Logf(format string, a ...any)   { fmt.Fprintf(os.Stderr, format+"\n", a...) }
func (d *driver) Fatalf(format string, a ...any) { panic(stopped{fmt.Sprintf(format, a...)}) }

func (d *driver) Cleanup(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cleanups = append(d.cleanups, f)
}

func (d *driver) TempDir() string {
	dir, err := os.MkdirTemp("", "steward-lab-")
	if err != nil {
		d.Fatalf("make a folder: %v", err)
	}
	d.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}
