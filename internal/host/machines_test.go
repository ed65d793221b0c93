package host_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"etcd-steward/integration/lab"
	"etcd-steward/integration/machines"
	"etcd-steward/internal/host"
)

// seen is a machine as this package sees it from outside: its files through /proc, and systemd over its bus.
func seen(t *testing.T, m *machines.Machine) (*host.Machine, *host.Control) {
	t.Helper()
	found := host.Detect(fmt.Sprintf("/proc/%d/root", m.Leader()))
	c := host.NewControl(found)
	c.Patience = 20 * time.Second
	t.Cleanup(c.Close)
	return found, c
}

func the(t *testing.T, m *host.Machine) *host.Etcd {
	t.Helper()
	e, err := m.Etcd("")
	if err != nil {
		t.Fatalf("%v; problems: %v", err, m.Problems)
	}
	return e
}

// check compares what was detected with what the machine was set up with.
func check(t *testing.T, e *host.Etcd, mem *machines.Member, kind host.Kind) {
	t.Helper()
	dir, err := e.DataDir()
	wal, werr := e.WALDir()
	if err != nil || werr != nil || dir != mem.DataDir || wal != mem.WALDir || e.Member() != mem.MemberName || e.Kind != kind {
		t.Errorf("got data %s (%v), WAL %s (%v), member %s, %s", dir, err, wal, werr, e.Member(), e.Kind)
	}
	if urls := strings.Join(e.URLs("listen-client-urls"), ","); !strings.Contains(urls, mem.Endpoint) {
		t.Errorf("it listens at %s, want %s", urls, mem.Endpoint)
	}
}

// TestUnits: under a real systemd an etcd is found, stopped, kept from starting over a reboot with every way of starting it tried, changed, released and
// started; for every way of setting it up.
func TestUnits(t *testing.T) {
	for _, o := range []machines.EtcdOptions{
		{Flavour: machines.Kubespray}, {Flavour: machines.DropIn, WALDir: "/srv/wal/etcd"}, {Flavour: machines.YAML},
	} {
		t.Run(string(o.Flavour), func(t *testing.T) {
			t.Parallel()
			n := machines.Start(t, machines.Options{})
			cluster := machines.Etcd(t, n, o)
			mem := cluster.Members[0]
			m, c := seen(t, mem.Machine)
			e := the(t, m)
			check(t, e, mem, host.Unit)
			for _, cert := range m.Certificates(e) {
				if cert.Err != "" || cert.NotAfter.Before(time.Now()) {
					t.Errorf("certificate %+v", cert)
				}
			}
			ctx := t.Context()
			if pid, err := c.Running(ctx, &e.Workload); err != nil || pid <= 0 {
				t.Fatalf("running: %d, %v", pid, err)
			}
			if pid, err := host.Holder(m.Path(mem.DataDir)); err != nil || !strings.Contains(command(pid), "etcd") {
				t.Errorf("the lock's holder: %d (%s), %v", pid, command(pid), err)
			}
			holdAndReboot(t, mem, c, &e.Workload)

			m, c = seen(t, mem.Machine)
			e = the(t, m)
			changes := map[string]string{"quota-backend-bytes": "1234567890", "initial-cluster-state": "existing", "log-level": "debug"}
			edits, err := m.Configure(e, changes, "plan-1")
			if err != nil || !e.Held {
				t.Fatalf("configure: %v; held %v", err, e.Held)
			}
			for range 2 {
				for _, err := range []error{c.Reload(ctx), c.Release(ctx, &e.Workload), c.Start(ctx, &e.Workload)} {
					if err != nil {
						t.Fatal(err)
					}
				}
			}
			cluster.WaitHealthy(t)
			if log := mem.Journal(t, "etcd"); !strings.Contains(log, "1234567890") {
				t.Error("etcd did not see the new quota")
			}
			if err := m.Undo(edits); err != nil {
				t.Fatal(err)
			}
			for _, err := range []error{c.Reload(ctx), c.Restart(ctx, &e.Workload), c.Enable(ctx, &e.Workload, false), c.Enable(ctx, &e.Workload, false)} {
				if err != nil {
					t.Fatal(err)
				}
			}
			cluster.WaitHealthy(t)
			if got := mem.Property(t, "etcd", "UnitFileState"); got != "disabled" {
				t.Errorf("the unit is %s", got)
			}
			if err := c.Enable(ctx, &e.Workload, true); err != nil || mem.Property(t, "etcd", "UnitFileState") != "enabled" {
				t.Errorf("enable: %v", err)
			}
		})
	}
}

// holdAndReboot holds a unit and tries to start it in every way.
func holdAndReboot(t *testing.T, mem *machines.Member, c *host.Control, w *host.Workload) {
	t.Helper()
	for range 2 {
		if err := c.Hold(t.Context(), w); err != nil {
			t.Fatal(err)
		}
	}
	if pid, err := c.Running(t.Context(), w); err != nil || pid != 0 {
		t.Errorf("held and running: %d, %v", pid, err)
	}
	if r := mem.Run(t.Context(), "systemctl", "start", "etcd"); r.Code == 0 {
		t.Error("systemctl starts it")
	}
	if err := c.Start(t.Context(), w); err == nil || !strings.Contains(err.Error(), "kept from starting") {
		t.Errorf("start: got %v", err)
	}
	if got := mem.Property(t, "etcd", "UnitFileState"); got != "enabled" {
		t.Fatalf("the unit is %s: a reboot would prove nothing", got)
	}
	mem.Reboot(t)
	if got := mem.Property(t, "etcd", "ActiveState"); got != "inactive" {
		t.Errorf("after a reboot it is %s", got)
	}
	if status := mem.Run(t.Context(), "systemctl", "status", "etcd").Stdout; !strings.Contains(status, "zz-steward-hold.conf") {
		t.Errorf("the status does not say by what:\n%s", status)
	}
}

func command(pid int) string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return err.Error()
	}
	return strings.ReplaceAll(string(text), "\x00", " ")
}

// TestOnTheMachine: on the machine itself everything goes over the system's bus, and without that over systemd's own socket.
func TestOnTheMachine(t *testing.T) {
	t.Parallel()
	n := machines.Start(t, machines.Options{})
	cluster := machines.Etcd(t, n, machines.EtcdOptions{})
	m := n.Machines[0]
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	m.Install(t, exe, "/usr/bin/hands")
	for range 2 {
		before := m.Property(t, "etcd", "MainPID")
		if r := m.Run(t.Context(), "env", "STEWARD_HANDS=1", "/usr/bin/hands"); r.Code != 0 {
			t.Fatalf("%+v", r)
		}
		if now := m.Property(t, "etcd", "MainPID"); now == before || now == "0" {
			t.Errorf("etcd was process %s and is %s", before, now)
		}
		cluster.WaitHealthy(t)
		m.Script(t, "systemctl stop dbus.socket dbus.service; systemctl mask -q --runtime dbus.socket dbus.service")
		if m.Run(t.Context(), "test", "-S", "/run/dbus/system_bus_socket").Code == 0 {
			m.Script(t, "rm /run/dbus/system_bus_socket")
		}
	}
}

// TestMasked: a mask that somebody else put above a package's unit does not hide what is there, and Release takes it away.
func TestMasked(t *testing.T) {
	t.Parallel()
	n := machines.Start(t, machines.Options{})
	m1 := n.Machines[0]
	const unit = "/usr/lib/systemd/system/etcd.service"
	m1.WriteFile(t, unit, "[Service]\nExecStart=/usr/local/bin/etcd --data-dir=/var/lib/etcd\n[Install]\nWantedBy=multi-user.target\n", 0o644, "")
	m1.WriteFile(t, "/usr/local/bin/etcd", "#!/bin/sh\nexec sleep 1000\n", 0o755, "")
	m1.Script(t, "systemctl daemon-reload; systemctl mask -q etcd")
	if m, _ := seen(t, m1); len(m.Etcds) > 0 {
		t.Error("a script that runs no etcd was taken for one")
	}
	m1.Install(t, lab.Tool(t, "etcd-3.6"), "/usr/local/bin/etcd")
	m, c := seen(t, m1)
	e := the(t, m)
	if st, err := c.Services.State(t.Context(), "etcd.service"); err != nil || st.Load != "masked" || !e.Held {
		t.Errorf("state %+v, %v; held %v", st, err, e.Held)
	}
	if err := c.Start(t.Context(), &e.Workload); err == nil {
		t.Error("a masked unit was started")
	}
	if err := c.Stop(t.Context(), &e.Workload); err != nil {
		t.Errorf("stop: %v", err)
	}
	for _, err := range []error{c.Release(t.Context(), &e.Workload), c.Start(t.Context(), &e.Workload)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if st, err := c.Services.State(t.Context(), "etcd.service"); err != nil || st.Active != "active" || st.PID == 0 {
		t.Errorf("state %+v, %v", st, err)
	}
	// A unit that ends at once is an error that says where to look.
	m1.Script(t, "sed -i 's/--data-dir/--bogus/; s/.Service./&\\nType=notify/' "+unit)
	if err := c.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.Restart(t.Context(), &e.Workload); err == nil || !strings.Contains(err.Error(), "exit-code") {
		t.Errorf("a failing unit: got %v", err)
	}
}

// TestStaticPods: a static pod is found, held until its process is gone, stays away over a reboot, is changed while it is held, and runs again.
func TestStaticPods(t *testing.T) {
	t.Parallel()
	n := machines.Start(t, machines.Options{})
	cluster := machines.Etcd(t, n, machines.EtcdOptions{Flavour: machines.StaticPod})
	mem := cluster.Members[0]
	m, c := seen(t, mem.Machine)
	e := the(t, m)
	check(t, e, mem, host.StaticPod)
	ctx := t.Context()
	if pid, err := c.Running(ctx, &e.Workload); err != nil || pid <= 0 {
		t.Fatalf("running: %d, %v", pid, err)
	}
	for range 2 {
		if err := c.Hold(ctx, &e.Workload); err != nil {
			t.Fatal(err)
		}
	}
	if out := mem.Run(ctx, "pgrep", "-x", "etcd").Stdout; out != "" {
		t.Errorf("held, and process %s runs", out)
	}
	mem.Reboot(t)
	m, c = seen(t, mem.Machine)
	e = the(t, m)
	if pid, err := c.Running(ctx, &e.Workload); err != nil || pid != 0 || !e.Held {
		t.Errorf("after a reboot: running %d, %v; held %v", pid, err, e.Held)
	}
	if _, err := m.Configure(e, map[string]string{"quota-backend-bytes": "1234567890"}, "plan-1"); err != nil {
		t.Fatal(err)
	}
	if aside, moved, err := host.SetAside(m.Path(mem.DataDir), "x"); err != nil || !moved || !strings.HasSuffix(aside, "/etcd.bak-x") {
		t.Errorf("set aside: %s, %v, %v", aside, moved, err)
	}
	if err := host.BringBack(m.Path(mem.DataDir), "x"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := c.Start(ctx, &e.Workload); err != nil {
			t.Fatal(err)
		}
	}
	cluster.WaitHealthy(t)
	lab.Eventually(t, 10*time.Second, "etcd runs with the new flag", func() error {
		if out := mem.Run(ctx, "sh", "-c", "tr '\\0' ' ' < /proc/$(pgrep -x etcd)/cmdline").Stdout; !strings.Contains(out, "--quota-backend-bytes=1234567890") {
			return fmt.Errorf("it runs as %s", out)
		}
		return nil
	})
	if err := c.Restart(ctx, &e.Workload); err != nil {
		t.Fatal(err)
	}
	cluster.WaitHealthy(t)
}
