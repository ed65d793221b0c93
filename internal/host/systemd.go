package host

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	sd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"

	"etcd-steward/internal/fail"
)

// systemd is Services over D-Bus: over the system's bus, or, where there is none, over systemd's own socket, which root may use.
type systemd struct {
	socket string // of the bus of a machine that is seen through a folder; "" for this machine's
	mu     sync.Mutex
	conn   *sd.Conn
}

var _ Services = (*systemd)(nil)

// connect opens the connection when it is first needed, and again when it was lost. It outlives the context of the call.
func (s *systemd) connect() (*sd.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil && s.conn.Connected() {
		return s.conn, nil
	}
	var err error
	if s.socket == "" {
		s.conn, err = sd.NewWithContext(context.Background())
	} else {
		s.conn, err = sd.NewConnection(func() (*dbus.Conn, error) {
			conn, err := dbus.Dial("unix:path=" + s.socket)
			if err != nil {
				return nil, err
			}
			if err := errors.Join(conn.Auth([]dbus.Auth{dbus.AuthExternal("0")}), conn.Hello()); err != nil {
				return nil, errors.Join(err, conn.Close())
			}
			return conn, nil
		})
	}
	if err != nil {
		s.conn = nil
		return nil, fail.Hint(fmt.Errorf("connect to systemd: %w", err), "run steward as root, on a machine that systemd runs")
	}
	return s.conn, nil
}

func (s *systemd) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil {
		s.conn.Close()
		s.conn = nil
	}
}

// Do implements Services.
func (s *systemd) Do(ctx context.Context, verb Verb, unit string) error {
	conn, err := s.connect()
	if err != nil {
		return err
	}
	job := conn.StopUnitContext
	switch verb {
	case VerbStart, VerbBegin:
		job = conn.StartUnitContext
	case VerbRestart:
		job = conn.RestartUnitContext
	case VerbStop:
	}
	if verb != VerbStop {
		_ = conn.ResetFailedUnitContext(ctx, unit) // so that earlier failures do not keep it from starting; there may be none
	}
	done := make(chan string, 1)
	_, err = job(ctx, unit, "replace", done)
	switch {
	case verb == VerbStop && (missingUnit(err) || masked(err)):
		return nil
	case err != nil:
		return fmt.Errorf("%s %s: %w", verb, unit, err)
	case verb == VerbBegin:
		return nil
	}
	select {
	case result := <-done:
		if result == "done" || verb == VerbStop && result == "skipped" {
			return nil
		}
		return s.explain(ctx, verb, unit, result)
	case <-ctx.Done():
		return fmt.Errorf("%s %s: %w", verb, unit, context.Cause(ctx))
	}
}

// explain says why a job did not succeed.
func (s *systemd) explain(ctx context.Context, verb Verb, unit, result string) error {
	err := fmt.Errorf("%s %s: systemd says %q", verb, unit, result)
	if result == "assert" {
		return fail.Hint(fmt.Errorf("%w: it is kept from starting", err), "systemctl cat "+unit+" shows by what")
	}
	if st, serr := s.State(ctx, unit); serr == nil {
		err = fmt.Errorf("%w (%s, %s, %s)", err, st.Active, st.Sub, st.Result)
	}
	return fail.Hint(err, "journalctl -u "+unit+" -e shows what it said; steward doctor -u "+unit+" says what it means")
}

func busError(err error, names ...string) bool {
	var e dbus.Error
	if !errors.As(err, &e) {
		return false
	}
	for _, n := range names {
		if e.Name == n {
			return true
		}
	}
	return false
}

func missingUnit(err error) bool { return busError(err, "org.freedesktop.systemd1.NoSuchUnit") }

func masked(err error) bool { return busError(err, "org.freedesktop.systemd1.UnitMasked") }

// Enable implements Services.
func (s *systemd) Enable(ctx context.Context, unit string, on bool) error {
	conn, err := s.connect()
	if err != nil {
		return err
	}
	st, err := s.State(ctx, unit)
	if err != nil {
		return err
	}
	// "enabled-runtime" is over with the next boot.
	if st.File != "" && (on && st.File == "enabled" || !on && !strings.HasPrefix(st.File, "enabled")) {
		return nil
	}
	if !on {
		if _, err := conn.DisableUnitFilesContext(ctx, []string{unit}, false); err != nil && !missingUnit(err) {
			return fmt.Errorf("disable %s: %w", unit, err)
		}
		return s.Reload(ctx)
	}
	installs, _, err := conn.EnableUnitFilesContext(ctx, []string{unit}, false, false)
	if err == nil && !installs {
		err = fail.Hint(errors.New("it has no [Install] section, so that nothing starts it with the machine"),
			"systemctl edit --full "+unit+", add [Install] and WantedBy=multi-user.target, and type the same command again")
	}
	if err != nil {
		return fmt.Errorf("enable %s: %w", unit, err)
	}
	return s.Reload(ctx)
}

// Unmask implements Services.
func (s *systemd) Unmask(ctx context.Context, unit string) error {
	conn, err := s.connect()
	if err != nil {
		return err
	}
	for _, runtime := range []bool{false, true} {
		if _, err := conn.UnmaskUnitFilesContext(ctx, []string{unit}, runtime); err != nil && !missingUnit(err) {
			return fmt.Errorf("unmask %s: %w", unit, err)
		}
	}
	return nil
}

// Reload implements Services.
func (s *systemd) Reload(ctx context.Context) error {
	conn, err := s.connect()
	if err != nil {
		return err
	}
	if err := conn.ReloadContext(ctx); err != nil {
		return fmt.Errorf("systemctl daemon-reload: %w", err)
	}
	return nil
}

// State implements Services.
func (s *systemd) State(ctx context.Context, unit string) (State, error) {
	conn, err := s.connect()
	if err != nil {
		return State{}, err
	}
	p, err := conn.GetAllPropertiesContext(ctx, unit)
	if err != nil {
		return State{}, fmt.Errorf("ask systemd for %s: %w", unit, err)
	}
	text := func(name string) string {
		s, _ := p[name].(string)
		return s
	}
	st := State{Load: text("LoadState"), Active: text("ActiveState"), Sub: text("SubState"), File: text("UnitFileState"), Result: text("Result")}
	if pid, ok := p["MainPID"].(uint32); ok {
		st.PID = int(pid)
	}
	return st, nil
}
