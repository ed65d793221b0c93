// Package daemon keeps backups happening: it runs each cluster's jobs at the ticks of their schedules, shares the ticks with the
// daemons of other masters through the store, and shows what it knows as health pages, metrics and systemd's status.
//
// It promises that a tick is done once when one of the daemons that share it can do it, that a missed tick is caught up, that whatever
// kills it leaves nothing that the next start does not clean up, and that a bad config never replaces a good one.
// It decides nothing about how a backup is taken or kept: that is the business of package backup.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/oklog/run"

	"etcd-steward/backup"
	"etcd-steward/internal/config"
	"etcd-steward/internal/fail"
	"etcd-steward/internal/version"
)

// Options are what main knows.
type Options struct {
	Config string    // path of the file
	Log    io.Writer // standard error
	// Boot starts a scratch etcd on a backup, for deep verifications. Whatever such a database does to it must not reach this process.
	Boot backup.Boot
}

// errStopped is why the group ends at SIGTERM.
var errStopped = errors.New("stopped")

// Run runs until SIGTERM (nil) or SIGINT (fail.Interrupted), or until a part of it fails. A config that cannot be used at the start is
// an error; later, at SIGHUP, it is only a line in the log.
func Run(ctx context.Context, o Options) error {
	handler := newLogging(o.Log)
	log := slog.New(handler)
	cfg, err := config.Load(o.Config)
	if err != nil {
		return err
	}
	handler.set(cfg.Log.Level, cfg.Log.Format)
	log.Info("starting", "version", version.Get().String(), "config", cfg.Path(), "pid", os.Getpid())

	state, pulse := newState(), newPulse()
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	defer signal.Stop(signals)
	s := &supervisor{
		path: o.Config, log: log, logging: handler, state: state, pulse: pulse,
		server: newServer(state, pulse, log), notifier: newNotifier(state, pulse, log),
		reload: make(chan struct{}, 1), signals: signals, boot: o.Boot,
	}
	if err := s.apply(cfg); err != nil {
		return errors.Join(err, s.stop())
	}
	state.setReload(true)

	var g run.Group
	add := func(f func(context.Context) error) {
		actor, cancel := context.WithCancel(ctx)
		g.Add(func() error { return f(actor) }, func(error) { cancel() })
	}
	add(s.listenForSignals)
	add(s.run)
	add(s.server.run)
	add(s.notifier.run)
	err = g.Run()
	switch {
	case errors.Is(err, errStopped):
		err = nil
	case err == nil:
		err = ctx.Err()
	}
	if err = errors.Join(err, s.stopErr); err != nil {
		return err
	}
	log.Info("stopped")
	return nil
}

// listenForSignals turns SIGHUP into reloads and ends the group at SIGTERM or SIGINT. What comes after that is read by stop.
func (s *supervisor) listenForSignals(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case sig := <-s.signals:
			switch sig {
			case syscall.SIGHUP:
				select {
				case s.reload <- struct{}{}:
				default: // one is waiting already, and will read the file as it is then
				}
			case syscall.SIGINT:
				s.notifier.stopping()
				return fail.New(fail.Interrupted, fmt.Errorf("interrupted"), "")
			default:
				s.notifier.stopping()
				return errStopped
			}
		}
	}
}

// Check says whether a daemon would start with the file at path: it reads it and every file that it names, and opens no connection.
func Check(path string) error {
	cfg, err := config.Load(path)
	if err != nil {
		return err
	}
	for i := range cfg.Clusters {
		if _, err := prepare(cfg, &cfg.Clusters[i]); err != nil {
			return err
		}
	}
	return nil
}
