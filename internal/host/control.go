package host

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"etcd-steward/internal/fail"
)

// Control starts and stops what runs here. Everything is idempotent, and safe to be broken off and called again. On a machine whose etcd a distribution owns,
// it refuses.
type Control struct {
	Machine  *Machine
	Services Services
	// Patience bounds the wait for a process to appear or to be gone; 0 means 2 minutes.
	Patience time.Duration

	bus *systemd
}

// NewControl is the control of a machine over systemd's D-Bus. It connects when it is first needed: static pods alone need no systemd.
func NewControl(m *Machine) *Control {
	bus := &systemd{}
	if m.Root != "/" {
		bus.socket = m.Path("/run/dbus/system_bus_socket")
	}
	return &Control{Machine: m, Services: bus, bus: bus}
}

// Close ends the connection to systemd.
func (c *Control) Close() {
	if c.bus != nil {
		c.bus.close()
	}
}

// Start starts a workload: a unit by systemd, which waits until it is up by its Type=; a static pod by putting its manifest back where the kubelet sees
// it, which also ends a Hold, and waiting for its process.
func (c *Control) Start(ctx context.Context, w *Workload) error { return c.start(ctx, w, VerbStart) }

// Begin is Start without waiting until a unit is up: the members of a new cluster wait for each other.
func (c *Control) Begin(ctx context.Context, w *Workload) error { return c.start(ctx, w, VerbBegin) }

func (c *Control) start(ctx context.Context, w *Workload, verb Verb) error {
	if err := c.Machine.Refuse(Other); err != nil {
		return err
	}
	if w.Kind == Unit {
		return c.Services.Do(ctx, verb, w.Unit)
	}
	if err := c.unpark(w); err != nil {
		return err
	}
	return c.await(ctx, w, true)
}

// Stop stops a workload and waits until its process is gone. A static pod can only be stopped by holding it.
func (c *Control) Stop(ctx context.Context, w *Workload) error {
	if w.Kind == StaticPod {
		return c.Hold(ctx, w)
	}
	if err := c.Machine.Refuse(Other); err != nil {
		return err
	}
	if err := c.Services.Do(ctx, VerbStop, w.Unit); err != nil {
		return err
	}
	return c.await(ctx, w, false)
}

// Restart stops and starts, with the configuration as it is now.
func (c *Control) Restart(ctx context.Context, w *Workload) error {
	if err := c.Stop(ctx, w); err != nil {
		return err
	}
	return c.Start(ctx, w)
}

// Hold stops a workload and keeps it from starting, also by the next boot, until Release: a unit gets a drop-in with an assertion that fails (a mask cannot
// stand above a unit file in /etc), a static pod's manifest is moved to steward-parked beside the kubelet's folder.
func (c *Control) Hold(ctx context.Context, w *Workload) error {
	if err := c.Machine.Refuse(Other); err != nil {
		return err
	}
	if w.Kind == StaticPod {
		if err := c.Machine.park(w.Manifest); err != nil {
			return err
		}
		w.Held, w.parked = true, path.Join(c.Machine.parkedDir(), path.Base(w.Manifest))
		return c.await(ctx, w, false)
	}
	// First the hold, then the stop: nothing can start it in between.
	if err := c.Machine.holdUnit(w.Unit); err != nil {
		return err
	}
	if err := c.Services.Reload(ctx); err != nil {
		return err
	}
	w.Held = true
	if err := c.Services.Do(ctx, VerbStop, w.Unit); err != nil {
		return err
	}
	return c.await(ctx, w, false)
}

// Release takes the hold away, and a mask. The kubelet starts a static pod by itself then; a unit is for Start.
func (c *Control) Release(ctx context.Context, w *Workload) error {
	if err := c.Machine.Refuse(Other); err != nil {
		return err
	}
	if w.Kind == StaticPod {
		return c.unpark(w)
	}
	if err := c.Machine.releaseUnit(w.Unit); err != nil {
		return err
	}
	if err := c.Services.Unmask(ctx, w.Unit); err != nil {
		return err
	}
	if err := c.Services.Reload(ctx); err != nil {
		return err
	}
	w.Held = false
	return nil
}

func (c *Control) unpark(w *Workload) error {
	if err := c.Machine.unpark(w.Manifest); err != nil {
		return err
	}
	w.Held, w.parked = false, ""
	return nil
}

// Enable makes a unit start with the machine, or not; the kubelet starts every static pod that is not held.
func (c *Control) Enable(ctx context.Context, w *Workload, on bool) error {
	if err := c.Machine.Refuse(Other); err != nil {
		return err
	}
	if w.Kind == StaticPod {
		return nil
	}
	return c.Services.Enable(ctx, w.Unit, on)
}

// Reload makes systemd read its files again, after Configure. The kubelet sees a changed manifest by itself: without units there is nothing to do.
func (c *Control) Reload(ctx context.Context) error {
	for i := range c.Machine.Etcds {
		if c.Machine.Etcds[i].Kind == Unit {
			return c.Services.Reload(ctx)
		}
	}
	for i := range c.Machine.Parts {
		if c.Machine.Parts[i].Kind == Unit {
			return c.Services.Reload(ctx)
		}
	}
	return nil
}

// Running is the process of a workload; 0 when there is none, -1 when there is one that cannot be told. For an etcd it is also whoever holds the lock of its
// database. The number is one of the machine's own.
func (c *Control) Running(ctx context.Context, w *Workload) (pid int, err error) {
	m := c.Machine
	told, dataDir := m.toldTo(w)
	if w.Kind == Unit {
		st, err := c.Services.State(ctx, w.Unit)
		if err != nil || st.PID > 0 {
			return st.PID, err
		}
		if st.Running() {
			return -1, nil
		}
	} else if pid := m.findPod(m.procDir(), w, told); pid > 0 {
		return pid, nil
	}
	if dataDir == "" {
		return 0, nil
	}
	return Holder(m.Path(dataDir))
}

// Process is Running in words: "process 12", or what else is known of it; "" when there is none.
func (c *Control) Process(ctx context.Context, w *Workload) (string, error) {
	pid, err := c.Running(ctx, w)
	if err != nil || pid == 0 {
		return "", err
	}
	if pid > 0 {
		return fmt.Sprintf("process %d", pid), nil
	}
	if w.Kind == Unit {
		if st, err := c.Services.State(ctx, w.Unit); err == nil && st.Sub == "auto-restart" {
			return "systemd starts it again and again", nil
		} else if err == nil && st.Running() {
			return fmt.Sprintf("systemd says %s, %s", st.Active, st.Sub), nil
		}
	}
	return "a process that is not seen from here has its database open", nil
}

// ByHand is how a person stops a workload.
func (w *Workload) ByHand() string {
	if w.Kind == StaticPod {
		return "move " + w.Manifest + " out of the kubelet's folder"
	}
	return "systemctl stop " + w.Unit
}

// toldTo is what a workload is told, and, of an etcd, where its data lies.
func (m *Machine) toldTo(w *Workload) (Settings, string) {
	for i := range m.Etcds {
		if e := &m.Etcds[i]; e.Name == w.Name && e.Unit == w.Unit && e.Manifest == w.Manifest {
			dir, err := e.DataDir()
			if err != nil || e.Unclear != nil {
				return e.Settings, ""
			}
			return e.Settings, dir
		}
	}
	for i := range m.Parts {
		if p := &m.Parts[i]; p.Name == w.Name && p.Program == w.Program && p.Unit == w.Unit && p.Manifest == w.Manifest {
			return p.Flags, ""
		}
	}
	return nil, ""
}

// await waits until a workload's process is there, or is gone.
func (c *Control) await(ctx context.Context, w *Workload, there bool) error {
	patience := c.Patience
	if patience == 0 {
		patience = 2 * time.Minute
	}
	over, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		pid, err := c.Running(ctx, w)
		if err == nil && (pid != 0) == there {
			return nil
		}
		select {
		case <-over.Done():
			if ctx.Err() != nil {
				return fmt.Errorf("wait for %s: %w", w.where(), context.Cause(ctx))
			}
			return c.impatient(ctx, w, there, patience, err)
		case <-tick.C:
		}
	}
}

func (c *Control) impatient(ctx context.Context, w *Workload, there bool, patience time.Duration, err error) error {
	what, perr := c.Process(ctx, w)
	err = errors.Join(err, perr)
	switch {
	case err != nil:
		return err
	case there:
		return fail.Hint(fmt.Errorf("%s did not start within %v", w.where(), patience), "systemctl status kubelet; crictl ps -a --name "+w.Program)
	}
	hint := "systemctl status " + w.Unit
	if w.Kind == StaticPod {
		hint = "systemctl status kubelet: it must be running to stop a static pod"
	}
	if pid, ok := strings.CutPrefix(what, "process "); ok {
		hint = "ps -fp " + pid + " says what it is; " + hint
	}
	return fail.Hint(fmt.Errorf("%s is still running after %v: %s", w.where(), patience, what), hint)
}
