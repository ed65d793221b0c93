package host

import (
	"context"
	"time"
)

// Control starts and stops what runs here. Everything is idempotent, and safe to be broken off and called again.
type Control struct {
	Machine  *Machine
	Services Services
	// Patience bounds the wait for a process to appear or to be gone; 0 means 2 minutes.
	Patience time.Duration
}

// NewControl is the control of a machine over systemd's D-Bus. It connects when it is first needed: a machine with static pods alone needs no systemd.
func NewControl(m *Machine) *Control { panic("unreachable: not built yet") }

// Start starts a workload that is not held: a unit by systemd; a static pod needs nothing. It does not wait until the program serves.
func (c *Control) Start(ctx context.Context, w *Workload) error { panic("unreachable: not built yet") }

// Stop stops a workload and waits until its process is gone. A static pod can only be stopped by holding it.
func (c *Control) Stop(ctx context.Context, w *Workload) error { panic("unreachable: not built yet") }

// Restart stops and starts, with the configuration as it is now.
func (c *Control) Restart(ctx context.Context, w *Workload) error {
	panic("unreachable: not built yet")
}

// Hold stops a workload and keeps it from starting, also by the next boot, until Release: a unit gets a drop-in with an assertion that fails (a mask cannot
// stand above a unit file in /etc), a static pod's manifest is moved to steward-parked beside the kubelet's folder.
func (c *Control) Hold(ctx context.Context, w *Workload) error { panic("unreachable: not built yet") }

// Release takes the hold away. The kubelet starts a static pod by itself then; a unit is for Start.
func (c *Control) Release(ctx context.Context, w *Workload) error {
	panic("unreachable: not built yet")
}

// Enable makes a unit start with the machine, or not; the kubelet starts every static pod that is not held.
func (c *Control) Enable(ctx context.Context, w *Workload, on bool) error {
	panic("unreachable: not built yet")
}

// Reload makes systemd read its files again, after Configure.
func (c *Control) Reload(ctx context.Context) error { panic("unreachable: not built yet") }

// Running is the process of a workload; 0 when there is none. For an etcd it is also whoever holds the lock of its database.
func (c *Control) Running(ctx context.Context, w *Workload) (pid int, err error) {
	panic("unreachable: not built yet")
}

// Close ends the connection to systemd.
func (c *Control) Close() { panic("unreachable: not built yet") }
