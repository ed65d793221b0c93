package membership

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"syscall"
	"time"

	"etcd-steward/internal/fail"
	"etcd-steward/internal/host"
	"etcd-steward/internal/plan"
)

// Thresholds of a new machine (etcd-procedures, D).
const (
	diskTimes = 3 // the database's size: the snapshot that comes, the database, and its growth
	skewMax   = 5 * time.Second
	fsyncSlow = 10 * time.Millisecond
	fsyncs    = 60
)

// check looks whether this machine can be the member, before anything is changed anywhere.
func (s *Site) check(ctx context.Context, t *plan.Task) (any, error) {
	h, err := s.here()
	if err != nil {
		return nil, err
	}
	if err := h.Machine.Refuse(host.Add); err != nil {
		return nil, err
	}
	b, err := BasisOf(*t.Plan)
	if err != nil {
		return nil, err
	}
	if err := IsHere(b.Adds.PeerURL); err != nil {
		return nil, err
	}
	e, err := h.etcd()
	if err != nil {
		return nil, err
	}
	w, err := h.wanted(b, Added{}, e) // before the cluster is asked, which may take the same certificates
	if err != nil {
		return nil, err
	}
	if _, b, err = s.look(ctx, t.Plan); err != nil {
		return nil, err
	}
	if e != nil {
		if err := h.idle(ctx, e); err != nil {
			return nil, err
		}
	}
	e = w.etcd // as it will be
	if err := h.dataMayGo(e, b); err != nil {
		return nil, err
	}
	if err := h.walMayBe(e); err != nil {
		return nil, err
	}
	if err := h.readable(e); err != nil {
		return nil, err
	}
	for _, u := range []string{b.Adds.PeerURL, w.settings["advertise-client-urls"]} {
		if err := free(ctx, u); err != nil {
			return nil, err
		}
	}
	if err := s.servesClients(e, w.settings["advertise-client-urls"]); err != nil {
		return nil, err
	}
	if err := s.others(ctx, t, b, e); err != nil {
		return nil, err
	}
	return nil, h.disk(ctx, t, e, b)
}

// IsHere says why not: the peer URL leads to this machine.
func IsHere(peerURL string) error {
	ok, err := local(peerURL)
	if err != nil {
		return fail.Refused(fmt.Errorf("the peer URL %s: %w", peerURL, err), "let the name resolve on this machine too, or make a plan with an address")
	}
	if !ok {
		return fail.Refused(fmt.Errorf("the peer URL %s does not lead to this machine", peerURL), "run this on the machine that has that address, or make a plan with this machine's")
	}
	return nil
}

// idle: no etcd runs here.
func (h *Host) idle(ctx context.Context, e *host.Etcd) error {
	process, err := h.Control.Process(ctx, &e.Workload)
	if err != nil {
		return err
	}
	if process != "" {
		return fail.Refused(fmt.Errorf("%s runs here already (%s)", e.Name, process), "if it is not needed, stop it ("+e.ByHand()+") and type the same command again")
	}
	return nil
}

// dataMayGo: the data directory is empty, or what is in it is the removed member's, or somebody said that it may be set aside.
func (h *Host) dataMayGo(e *host.Etcd, b Basis) error {
	dirs, err := h.dirs(e)
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		f, err := host.Look(dir)
		if err != nil {
			return err
		}
		if !f.Exists || f.Empty || h.SetAside {
			continue
		}
		if old, ok := b.removed(); ok && is(e, old) {
			other, err := h.others(e, b)
			if err != nil {
				return err
			}
			if other == "" {
				continue
			}
			return fail.Refused(errors.New(other), "it may be alive: look what it is; add --set-aside to have it renamed")
		}
		return fail.Refused(fmt.Errorf("the data directory %s is not empty", dir), "look what it is; add --set-aside to have it renamed")
	}
	return nil
}

// walMayBe: where the WAL has a folder of its own, etcd can make it there.
func (h *Host) walMayBe(e *host.Etcd) error {
	uid, gid, err := runsAs(e)
	if err != nil {
		return err
	}
	return h.Machine.CheckWAL(e, uid, gid)
}

// free: nobody listens where the member will.
func free(ctx context.Context, raw string) error {
	at, err := listenURL(raw)
	if err != nil {
		return err
	}
	u, err := url.Parse(at)
	if err != nil {
		return err
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", u.Host)
	if errors.Is(err, syscall.EADDRINUSE) {
		return fail.Refused(fmt.Errorf("something listens at %s already", u.Host), "find out what (ss -ltnp), stop it, and type the same command again")
	} else if err != nil {
		return fmt.Errorf("listen at %s: %w", u.Host, err)
	}
	return l.Close()
}

// disk: there is space, and writes are durable soon.
func (h *Host) disk(ctx context.Context, t *plan.Task, e *host.Etcd, b Basis) error {
	dirs, err := h.dirs(e)
	if err != nil {
		return err
	}
	have, err := host.FreeBytes(dirs[0])
	if err != nil {
		return err
	}
	if want := uint64(max(b.DBSize, 0)) * diskTimes; have < want {
		return fail.Refused(fmt.Errorf("%s has room for %d MB, and %d MB are needed, %d times the database", dirs[0], have>>20, want>>20+1, diskTimes), "make room, or move the data directory to a larger disk")
	}
	l, err := host.ProbeSync(ctx, dirs[len(dirs)-1], fsyncs, 3*time.Second)
	if err != nil {
		return err
	}
	if l.P99 > fsyncSlow {
		t.Say("warning: this disk makes writes durable in %v (99 of 100), and etcd wants less than %v", l.P99.Round(time.Millisecond), fsyncSlow)
	}
	return nil
}
