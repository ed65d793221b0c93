package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"etcd-steward/backup"
	"etcd-steward/internal/config"
)

// How long a stop takes at most. systemd's TimeoutStopSec= in stewardd.service is longer than their sum.
const (
	stopGrace  = 10 * time.Second // for a job that is nearly done
	stopLimit  = 25 * time.Second // for a cancelled job to clean up, and for a recorder to store what it has
	drainLimit = 8                // generations of config whose last jobs still run
)

// supervisor owns the clusters' loops. A reload begins a new generation of them: loops of the old one end at once, and an attempt that
// is going on is finished under the config that it began with.
type supervisor struct {
	path     string
	log      *slog.Logger
	logging  *logging
	state    *state
	pulse    *pulse
	server   *server
	notifier *notifier
	reload   chan struct{}
	signals  chan os.Signal
	boot     backup.Boot
	stopErr  error

	generations []*generation // the last is the current one
	counter     int
}

// generation is the clusters of one config.
type generation struct {
	stopLoops context.CancelFunc
	stopWork  context.CancelFunc
	ended     chan struct{}
}

// done says whether every loop of the generation has ended.
func (g *generation) done() bool {
	select {
	case <-g.ended:
		return true
	default:
		return false
	}
}

// run is the actor.
func (s *supervisor) run(ctx context.Context) error {
	const id = "supervisor"
	s.notifier.ready()
	for {
		s.pulse.beat(id)
		select {
		case <-ctx.Done():
			s.pulse.forget(id)
			s.stopErr = s.stop()
			return nil
		case <-s.reload:
			s.readAgain()
		case <-time.After(beatEvery):
			s.forgetEnded()
		}
	}
}

// readAgain is a reload. Whatever is wrong with the new config, the old one stays in use.
func (s *supervisor) readAgain() {
	s.notifier.reloading()
	defer s.notifier.ready()
	cfg, err := config.Load(s.path)
	if err == nil {
		err = s.apply(cfg)
	}
	s.state.setReload(err == nil)
	if err != nil {
		s.log.Error("the new config is not used; the old one stays", "error", err, "hint", hint(err))
		return
	}
	s.log.Info("the config was read again")
}

// apply makes cfg the config in use. All that can be wrong with it is found before anything changes.
func (s *supervisor) apply(cfg *config.Config) error {
	s.forgetEnded()
	if len(s.generations) > drainLimit {
		return fmt.Errorf("jobs of %d older configs are still running", drainLimit)
	}
	var clusters []*cluster
	names := map[string]bool{}
	s.counter++
	for i := range cfg.Clusters {
		c, err := prepare(cfg, &cfg.Clusters[i])
		if err != nil {
			return err
		}
		c.log = s.log.With("cluster", c.name)
		c.pulse, c.generation, c.boot = s.pulse, s.counter, s.boot
		clusters = append(clusters, c)
		names[c.name] = true
	}
	if err := s.server.listen(cfg.Listen); err != nil {
		return err
	}
	// From here on nothing can fail.
	for _, c := range clusters {
		c.state = s.state.cluster(c.name)
	}
	s.logging.set(cfg.Log.Level, cfg.Log.Format)
	for _, g := range s.generations {
		g.stopLoops()
	}
	s.state.keep(names)
	s.generations = append(s.generations, begin(clusters))
	return nil
}

// begin starts the loops of a generation.
func begin(clusters []*cluster) *generation {
	loops, stopLoops := context.WithCancel(context.Background())
	work, stopWork := context.WithCancel(context.Background())
	g := &generation{stopLoops: stopLoops, stopWork: stopWork, ended: make(chan struct{})}
	var wg sync.WaitGroup
	for _, c := range clusters {
		wg.Go(func() { c.run(loops, work) })
	}
	go func() {
		defer close(g.ended)
		wg.Wait()
	}()
	return g
}

func (s *supervisor) forgetEnded() {
	var left []*generation
	for _, g := range s.generations {
		if !g.done() {
			left = append(left, g)
			continue
		}
		g.stopLoops()
		g.stopWork()
	}
	s.generations = left
}

// stop ends all loops, gives running work stopGrace to end by itself, then cancels it and gives it stopLimit to clean up.
// A further SIGTERM or SIGINT ends the grace.
func (s *supervisor) stop() error {
	all := make(chan struct{})
	go func() {
		defer close(all)
		for _, g := range s.generations {
			<-g.ended
		}
	}()
	for _, g := range s.generations {
		g.stopLoops()
	}
	grace, limit := time.NewTimer(stopGrace), time.NewTimer(stopGrace+stopLimit)
	defer grace.Stop()
	defer limit.Stop()
	for {
		select {
		case <-all:
			for _, g := range s.generations {
				g.stopWork()
			}
			return nil
		case <-s.signals:
			grace.Reset(0)
		case <-grace.C:
			s.log.Info("cancelling what is still running")
			for _, g := range s.generations {
				g.stopWork()
			}
		case <-limit.C:
			// The goroutine above and the job that hangs end with the process.
			return errors.New("a job did not end in time; the next start cleans up behind it")
		}
	}
}
