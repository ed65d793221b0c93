package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"filippo.io/age"

	"etcd-steward/backup"
	"etcd-steward/backup/repo"
	"etcd-steward/backup/repo/envelope"
	"etcd-steward/backup/snapshot"
	"etcd-steward/backup/store"
	"etcd-steward/internal/config"
	"etcd-steward/internal/fail"
	"etcd-steward/membership/probe"
)

// cluster runs the jobs of one cluster under one config.
type cluster struct {
	name       string
	cfg        *config.Cluster
	storeCfg   store.Config
	etcd       snapshot.Cluster
	recipients []age.Recipient
	identities []age.Identity
	// unencrypted says that backups are stored in the clear, by the config's explicit word.
	unencrypted bool
	boot        backup.Boot
	spool       string // folder of this cluster alone
	changesDir  string // likewise, for the change log
	host        string
	generation  int
	maxAge      time.Duration

	log   *slog.Logger
	state *clusterState
	pulse *pulse

	repo *repo.Repo
	look chan struct{} // asks observe to look now
	// changes is nil when no changes are recorded here; begun is closed when the recorder has found out where the log is.
	changes *changesState
	begun   chan struct{}
	// health is nil when the members are not looked at; members is how they are reached.
	health  *healthState
	members probe.Access
}

// prepare reads every file that the config names, so that what is wrong with one is found before the config is used.
func prepare(cfg *config.Config, cl *config.Cluster) (*cluster, error) {
	c := &cluster{name: cl.Name, cfg: cl, spool: filepath.Join(cl.Snapshot.Spool, cl.Name), look: make(chan struct{}, 1), begun: make(chan struct{})}
	c.unencrypted = cfg.Encryption.None
	var err error
	if c.storeCfg, err = cfg.StoreConfig(); err != nil {
		return nil, err
	}
	due := cl.Schedules()
	if !due.Snapshot.IsNever() || !due.Compact.IsNever() {
		if c.recipients, err = cfg.Recipients(); err != nil {
			return nil, err
		}
	}
	if !due.Snapshot.IsNever() {
		if c.etcd, err = cl.Etcd(); err != nil {
			return nil, err
		}
		c.maxAge = 2 * due.Snapshot.MaxInterval(time.Now())
		c.changesDir = cl.ChangesDir()
	}
	if cl.Watched() {
		etcd, err := cl.Etcd()
		if err != nil {
			return nil, err
		}
		c.members = probe.Access{Endpoints: etcd.Endpoints, TLS: etcd.TLS, Username: etcd.Username, Password: etcd.Password}
	}
	if path := cfg.Encryption.IdentityFile; path != "" {
		if c.identities, err = envelope.LoadIdentities(path); fail.ExitCode(err) == fail.Failed {
			return nil, fail.New(fail.Usage, err, fail.HintOf(err))
		} else if err != nil {
			return nil, err
		}
	}
	if c.host, err = os.Hostname(); err != nil {
		return nil, fmt.Errorf("find this host's name: %w", err)
	}
	return c, nil
}

// run connects, then runs every job and the observer until loop ends. work is the context of what they do.
func (c *cluster) run(loop, work context.Context) {
	defer c.pulse.forget(c.id("store"))
	if err := snapshot.CleanSpool(c.spool); err != nil && !errors.Is(err, os.ErrNotExist) {
		c.log.Warn("could not clean up behind an earlier run", "folder", c.spool, "error", err)
	}
	c.declareChanges()
	jobs := c.jobs()
	c.declare(jobs)
	c.health = c.state.keepHealth(c.cfg.Watched())
	var wg sync.WaitGroup
	defer wg.Wait()
	if c.health != nil {
		wg.Go(func() { c.watch(loop) })
	}
	if c.changes != nil {
		wg.Go(func() { c.record(loop) })
	}
	if !c.connect(loop) {
		return
	}
	for _, j := range jobs {
		r := &runner{
			job: j, store: c.repo.Store(), holder: fmt.Sprintf("%s pid %d", c.host, os.Getpid()),
			log: c.log.With("job", j.name), state: c.state.job(j.name), pulse: c.pulse, id: c.id(j.name), work: work, after: c.askToLook, now: wallNow,
		}
		wg.Go(func() { r.loop(loop) })
	}
	c.observe(loop)
}

// id names a loop in the pulse's table: a generation that is draining and the one that follows it are different loops.
func (c *cluster) id(loop string) string { return fmt.Sprintf("%s/%s#%d", c.name, loop, c.generation) }

// declare tells the state which jobs there are.
func (c *cluster) declare(jobs []job) {
	names := map[string]bool{}
	for _, j := range jobs {
		names[j.name] = true
		c.state.job(j.name).allow()
	}
	c.state.keepJobs(names)
	c.state.setMaxAge(c.maxAge)
}

// declareChanges tells the state whether changes are recorded here.
func (c *cluster) declareChanges() {
	if c.changes = c.state.keepChanges(c.cfg.Records()); c.changes != nil {
		c.changes.set(paceOf(c.cfg.Changes).limit, int64(c.cfg.Changes.Spool))
	}
}

// connectMax bounds the wait between two tries to open the store.
const connectMax = time.Minute

// connect opens the store and the repository, trying until it can or loop ends. A store that does not answer is no reason for a daemon
// not to start: it is there when the store is.
func (c *cluster) connect(loop context.Context) bool {
	for wait := time.Second; loop.Err() == nil; wait = min(2*wait, connectMax) {
		c.pulse.beat(c.id("store"))
		err := c.open(loop)
		if err == nil {
			return true
		}
		if loop.Err() != nil {
			return false
		}
		c.storeFailed(err)
		c.restBeating(loop, "store", wait)
	}
	return false
}

// openLimit bounds one try; the store retries within it by itself. It is shorter than staleAfter.
const openLimit = 30 * time.Second

func (c *cluster) open(loop context.Context) error {
	ctx, cancel := context.WithTimeout(loop, openLimit)
	defer cancel()
	st, err := store.Open(ctx, c.storeCfg)
	if err != nil {
		return err
	}
	r, err := repo.Open(ctx, st, c.name)
	if err != nil {
		return err
	}
	caps, err := store.Probe(ctx, r.Store(), probeKey)
	if loop.Err() != nil {
		return loop.Err() // a reload or the end, which says nothing of the store
	}
	if err != nil {
		// A role that may not write, such as one that only verifies, is told so by its jobs.
		c.log.Warn("could not find out what the store can do", "store", st.String(), "error", err, "hint", hint(err))
	} else {
		c.log.Info("store", "can", caps.String())
		if caps.Exclusive == store.No || caps.CompareAndSwap == store.No {
			c.log.Warn("the store ignores conditions: daemons that share the schedule may each take a backup, which costs space and loses nothing")
		}
	}
	c.repo = r
	return nil
}

// probeKey is where the probe writes, below coordination/, whose objects are the only ones that are ever overwritten.
const probeKey = "coordination/probe"

// storeFailed notes and counts an error of the store. The log gets it when it is news.
func (c *cluster) storeFailed(err error) {
	if kind := storeKind(err); kind != "" {
		c.state.countStoreError(kind)
	}
	if c.state.storeFailed(err) {
		c.log.Error("the store cannot be used", "error", err, "hint", hint(err))
	}
}

func (c *cluster) askToLook() {
	select {
	case c.look <- struct{}{}:
	default:
	}
}
