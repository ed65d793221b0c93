package membership

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/user"
	"slices"
	"strconv"
	"time"

	"etcd-steward/internal/fail"
	"etcd-steward/internal/host"
	"etcd-steward/internal/plan"
)

// here is the machine, or an error where only the cluster can be acted on.
func (s *Site) here() (*Host, error) {
	if s.Host == nil {
		return nil, fail.New(fail.Usage, errors.New("this part of the plan is for the member's own machine"), "run it there")
	}
	return s.Host, nil
}

// etcd is the etcd of this machine that is meant, as it is set up now; nil and no error when none is.
func (h *Host) etcd() (*host.Etcd, error) {
	*h.Machine = *host.Detect(h.Machine.Root) // an earlier step, or a person meanwhile, has changed files
	if len(h.Machine.Etcds) == 0 {
		return nil, nil
	}
	return h.Machine.Etcd(h.Etcd)
}

// is says whether this machine's etcd is set up as that member: by its name, or by the peer URL that it advertises.
func is(e *host.Etcd, m Spec) bool {
	if e == nil {
		return false
	}
	for _, u := range e.URLs("initial-advertise-peer-urls") {
		if hasURL(m.PeerURLs, u) {
			return true
		}
	}
	return m.Name != "" && e.Member() == m.Name
}

// others is why the data of an etcd are not those of the member that the plan removes: they are another's, of this cluster or of another. A name and a URL can be
// given again, as to a member that was removed and added anew meanwhile; the IDs in the WAL are its own. "" where they are the member's, and where there are
// none that can be read: then nothing lives there.
func (h *Host) others(e *host.Etcd, b Basis) (string, error) {
	id, err := h.Machine.Whose(e)
	switch {
	case errors.Is(err, host.ErrNoIdentity):
		return "", nil
	case err != nil:
		return "", err
	case id == host.Identity{Cluster: uint64(b.ClusterID), Member: uint64(b.Removes)}:
		return "", nil
	}
	return fmt.Sprintf("the data of %s are those of member %x of cluster %x, and the plan removes member %x of cluster %x",
		e.Name, id.Member, id.Cluster, uint64(b.Removes), uint64(b.ClusterID)), nil
}

// Is says whether a member's etcd is the one of this machine.
func (h *Host) Is(m Spec) bool {
	e, err := h.etcd()
	return err == nil && is(e, m)
}

// removed is the member that the plan removes, as it was.
func (b Basis) removed() (Spec, bool) {
	i := slices.IndexFunc(b.Members, func(m Spec) bool { return m.ID == b.Removes })
	if i < 0 || b.Removes == 0 {
		return Spec{}, false
	}
	return b.Members[i], true
}

// dirs are the data directory, and the WAL's where it is elsewhere.
func (h *Host) dirs(e *host.Etcd) ([]string, error) {
	data, err := e.DataDir()
	if err != nil {
		return nil, err
	}
	wal, err := e.WALDir()
	if err != nil {
		return nil, err
	}
	all := []string{h.Machine.Path(data)}
	if wal != "" {
		all = append(all, h.Machine.Path(wal))
	}
	return all, nil
}

// suffix is that of data which a plan sets aside: the same whenever it is asked, and no other plan's.
func suffix(p *plan.Plan) string {
	return host.AsideSuffix(p.Made) + "-" + p.ID[max(0, len(p.ID)-6):]
}

// aside renames what data there is.
func (h *Host) aside(t *plan.Task, e *host.Etcd, suffix string) ([]string, error) {
	dirs, err := h.dirs(e)
	if err != nil {
		return nil, err
	}
	var all []string
	for _, dir := range dirs {
		f, err := host.Look(dir)
		if err != nil {
			return all, err
		}
		if !f.Exists || f.Empty {
			continue
		}
		to, moved, err := host.SetAside(dir, suffix)
		if err != nil {
			return all, err
		}
		if moved {
			t.Say("%s was renamed to %s", dir, to)
			all = append(all, to)
		}
	}
	return all, nil
}

// makeDir makes the data directory, for whoever owned the one that was set aside, or else for whom the unit runs as: the folder above may not be his.
func (h *Host) makeDir(e *host.Etcd, suffix string) error {
	dirs, err := h.dirs(e)
	if err != nil {
		return err
	}
	f, err := host.Look(dirs[0])
	if err != nil {
		return err
	}
	uid, gid, err := runsAs(e)
	if err != nil {
		return err
	}
	if f.Exists && f.Empty {
		return h.Machine.PrepareWAL(e, uid, gid)
	}
	before, err := host.Look(dirs[0] + ".bak-" + suffix)
	if err != nil {
		return err
	}
	owner, group := before.UID, before.GID
	if !before.Exists {
		owner, group = uid, gid
	}
	if err := host.Prepare(dirs[0], owner, group); err != nil {
		return err
	}
	return h.Machine.PrepareWAL(e, uid, gid)
}

// runsAs is whom a unit runs as; a static pod and a unit that does not say run as root.
func runsAs(e *host.Etcd) (uid, gid int, err error) {
	if e.User == "" || e.Kind == host.StaticPod {
		return os.Getuid(), os.Getgid(), nil
	}
	u, err := user.Lookup(e.User)
	if err != nil {
		if u, err = user.LookupId(e.User); err != nil {
			return 0, 0, fmt.Errorf("find the user that etcd runs as: %w", err)
		}
	}
	group := u.Gid
	if e.Group != "" {
		if g, err := user.LookupGroup(e.Group); err == nil {
			group = g.Gid
		}
	}
	uid, err = strconv.Atoi(u.Uid)
	if err != nil {
		return 0, 0, err
	}
	gid, err = strconv.Atoi(group)
	return uid, gid, err
}

// stopOld stops the etcd of the member that is replaced on its own machine, where it still runs or is started again and again.
func (s *Site) stopOld(ctx context.Context, t *plan.Task) (any, error) {
	h, err := s.here()
	if err != nil {
		return nil, err
	}
	if err := h.Machine.Refuse(host.Replace); err != nil {
		return nil, err
	}
	b, err := BasisOf(*t.Plan)
	if err != nil {
		return nil, err
	}
	e, err := h.etcd()
	if err != nil || e == nil {
		return nil, err // nothing is set up: nothing to stop
	}
	old, _ := b.removed()
	if !is(e, old) {
		return nil, nil // check says what is in the way, if anything is
	}
	if other, err := h.others(e, b); err != nil || other != "" {
		return nil, err
	}
	if _, _, err := s.look(ctx, t.Plan); err != nil {
		return nil, err
	}
	return nil, h.Control.Hold(ctx, &e.Workload)
}

// startOld lets it start again, if it is still a member.
func (s *Site) startOld(ctx context.Context, t *plan.Task) error {
	h, err := s.here()
	if err != nil {
		return err
	}
	c, b, err := s.see(ctx, t.Plan)
	if err != nil {
		return err
	}
	e, err := h.etcd()
	old, _ := b.removed()
	if err != nil || !is(e, old) {
		return err
	}
	if _, member := c.Member(b.Removes); !member {
		t.Say("%s was removed: its etcd stays stopped", old.short())
		return nil
	}
	if err := h.Control.Release(ctx, &e.Workload); err != nil {
		return err
	}
	return h.Control.Begin(ctx, &e.Workload)
}

// stopRemoved stops the etcd of a member that was removed, and keeps it from starting.
func (s *Site) stopRemoved(ctx context.Context, t *plan.Task) (any, error) {
	h, e, err := s.retired(t)
	if err != nil {
		return nil, err
	}
	return nil, h.Control.Hold(ctx, &e.Workload)
}

func (s *Site) startRemoved(ctx context.Context, t *plan.Task) error { return nil } // its member is gone: there is nothing to go back to

// setAside renames its data.
func (s *Site) setAside(_ context.Context, t *plan.Task) (any, error) {
	h, e, err := s.retired(t)
	if err != nil {
		return nil, err
	}
	aside, err := h.aside(t, e, suffix(t.Plan))
	return map[string][]string{"aside": aside}, err
}

func (s *Site) bringBack(context.Context, *plan.Task) error { return nil }

// retired is the etcd of the member that the plan has removed, on its own machine.
func (s *Site) retired(t *plan.Task) (*Host, *host.Etcd, error) {
	h, err := s.here()
	if err != nil {
		return nil, nil, err
	}
	if err := h.Machine.Refuse(host.Remove); err != nil {
		return nil, nil, err
	}
	b, err := BasisOf(*t.Plan)
	if err != nil {
		return nil, nil, err
	}
	e, err := h.etcd()
	if err != nil {
		return nil, nil, err
	}
	old, _ := b.removed()
	if !is(e, old) {
		what := "no etcd"
		if e != nil {
			what = fmt.Sprintf("the etcd of %s (%s)", e.Member(), joined(e.URLs("initial-advertise-peer-urls")))
		}
		return nil, nil, fail.Refused(fmt.Errorf("this machine has %s, and not that of %s", what, old), "run it on the machine of the removed member")
	}
	if other, err := h.others(e, b); err != nil || other != "" {
		return nil, nil, cmp.Or(err, fail.Refused(errors.New(other), "nothing was done: this etcd is not the removed member's, whatever its name"))
	}
	return h, e, nil
}

// stillRemoved: whatever has become of the cluster since, this machine's data are the removed member's, by the IDs in them, and the cluster does not know it. A name and
// an address may be a new member's by now, and a cluster that was restored with its old IDs may know the old one again. Without data nothing is certain; but then
// they may have been renamed by a run that could not say so.
func (s *Site) stillRemoved(ctx context.Context, t *plan.Task) error {
	h, e, err := s.retired(t) // refuses what is another member's
	if err != nil {
		return err
	}
	c, b, err := s.see(ctx, t.Plan)
	switch {
	case err != nil:
		return fail.Hint(fmt.Errorf("the cluster cannot be asked who is a member now: %w", err), "--endpoints URL,... of members that can be reached from here, with their certificates")
	case c.ID != b.ClusterID:
		return fmt.Errorf("the cluster that answers is %s, and the plan's is %s", c.ID, b.ClusterID)
	}
	if m, member := c.Member(b.Removes); member {
		return fmt.Errorf("%s is a member of the cluster", m)
	}
	if _, err := h.Machine.Whose(e); err != nil && (!errors.Is(err, host.ErrNoIdentity) || !t.Again) {
		return fmt.Errorf("whose etcd this machine has cannot be told any more: %w", err)
	}
	return nil
}

// local says whether a URL's host is an address of this machine.
func local(raw string) (bool, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return false, err
	}
	found, err := addresses(u.Hostname(), lookup)
	if err != nil {
		return false, err
	}
	mine, err := net.InterfaceAddrs()
	if err != nil {
		return false, fmt.Errorf("list this machine's addresses: %w", err)
	}
	for _, a := range mine {
		if n, ok := a.(*net.IPNet); ok {
			for _, f := range found {
				if n.IP.Equal(net.ParseIP(f)) || n.IP.IsLoopback() && n.Contains(net.ParseIP(f)) {
					return true, nil
				}
			}
		}
	}
	return false, nil
}

// resolveTimeout bounds a question to a name server that swallows it.
const resolveTimeout = 10 * time.Second

// lookup resolves a name as the rest of the machine does.
func lookup(name string) ([]string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), resolveTimeout)
	defer cancel()
	return net.DefaultResolver.LookupHost(ctx, name)
}
