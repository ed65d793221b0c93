package membership

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"

	"etcd-steward/internal/fail"
	"etcd-steward/internal/host"
	"etcd-steward/membership/probe"
)

// wanted is a machine's etcd as a plan wants it.
type wanted struct {
	etcd     *host.Etcd // as it will be
	place    host.Place // where it will be made, when none is set up
	settings map[string]string
}

// wanted says what this machine's etcd is to be. e is the one that is set up; nil: there is none. What nobody configured yet becomes like the etcd of the machine on which
// the plan was made, with certificates that lie ready here. Nothing is changed.
func (h *Host) wanted(b Basis, added Added, e *host.Etcd) (w wanted, err error) {
	w.settings, err = settingsFor(*b.Adds, added, b, e)
	if err != nil {
		return w, err
	}
	var kind host.Kind
	if e != nil {
		kind = e.Kind
	} else {
		if w.place, err = h.Machine.Place(h.Image, b.Like); err != nil {
			return w, err
		}
		kind = w.place.Kind
	}
	if e == nil || e.Bare() {
		if err := h.Machine.Complete(e, kind, b.Like, w.settings); err != nil {
			return w, err
		}
	}
	w.etcd, err = h.Machine.Prospect(e, w.place, w.settings)
	return w, err
}

// Prospect is the etcd that a plan will make of this machine: who it is to clients and peers, with which certificates.
func (h *Host) Prospect(b Basis) (*host.Etcd, error) {
	e, err := h.etcd()
	if err != nil || b.Adds == nil {
		return e, err
	}
	w, err := h.wanted(b, Added{}, e)
	return w.etcd, err
}

// Like is what a new member should have in common with this machine's etcd, if that is one of the cluster's.
func (h *Host) Like(v *probe.View) *host.Template {
	e, err := h.etcd()
	if err != nil || e == nil {
		return nil
	}
	c, err := Read(v)
	if err != nil || !slices.ContainsFunc(c.specs(), func(m Spec) bool { return is(e, m) }) {
		return nil
	}
	return h.Machine.Template(e)
}

// readable: whom etcd runs as may read its keys.
func (h *Host) readable(e *host.Etcd) error {
	if e.Kind == host.StaticPod || e.User == "" {
		return nil
	}
	uid, gid, err := runsAs(e)
	if err != nil {
		return err
	}
	for _, flag := range []string{"cert-file", "key-file", "trusted-ca-file", "peer-cert-file", "peer-key-file", "peer-trusted-ca-file"} {
		file, err := e.HostPath(e.Value(flag))
		if err != nil || e.Value(flag) == "" {
			continue // what it is good for, others say
		}
		if what := h.Machine.MayRead(uid, gid, file); what != "" {
			return fail.Refused(fmt.Errorf("etcd runs as %s here, who may not read %s", e.User, what), "chown "+e.User+" "+what+", and type the same command again")
		}
	}
	return nil
}

// listenLike is where a new member listens as the template's does, if that serves its own URL.
func listenLike(t *host.Template, flag, own string) string {
	u, err := url.Parse(own)
	if err != nil || net.ParseIP(u.Hostname()) == nil {
		return ""
	}
	all := t.Listen(flag, u.Hostname())
	if !listens(all, own) {
		return ""
	}
	return strings.Join(all, ",")
}
