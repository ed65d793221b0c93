package host

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"etcd-steward/internal/fail"
	"etcd-steward/internal/host/tree"
	"etcd-steward/internal/host/unit"
)

// Bare says whether an etcd is set up so far as to have a unit or a manifest, but nobody said yet which member it is, or where it listens for others. Of whom it is one
// can then be said by steward without taking anything back.
func (e *Etcd) Bare() bool {
	return !slices.ContainsFunc([]string{"initial-cluster", "listen-peer-urls", "initial-advertise-peer-urls", "discovery", "discovery-srv", "discovery-endpoints"},
		func(flag string) bool { return e.Settings[flag].Value != "" })
}

// Complete adds to the settings of a member that is to be what nobody said yet: what it has in common with another member (like; nil: none is known), its data directory,
// and the certificates that lie ready on this machine, where its URLs want TLS. e is what runs it already, or nil.
func (m *Machine) Complete(e *Etcd, kind Kind, like *Template, settings map[string]string) error {
	if e == nil && kind == Unit {
		if err := m.lyingReady(settings); err != nil {
			return err
		}
	}
	now := func(flag string) string {
		if v, ok := settings[flag]; ok || e == nil {
			return v
		}
		return e.Settings[flag].Value
	}
	add := func(flag, value string) {
		if value != "" && now(flag) == "" {
			settings[flag] = value
		}
	}
	outside := func(flag, file string) error {
		if file == "" || now(flag) != "" {
			return nil
		}
		if e != nil {
			var err error
			if file, err = e.inside(file); err != nil {
				return fail.Refused(err, "let its unit mount "+path.Dir(file)+", or name other files in its configuration")
			}
		}
		add(flag, file)
		return nil
	}
	if like != nil {
		for _, flag := range slices.Sorted(maps.Keys(like.Settings)) {
			if isShared(flag) && !strings.HasSuffix(flag, "client-cert-auth") {
				add(flag, like.value(flag))
			}
		}
	}
	if err := m.tokenKeys(now("auth-token")); err != nil {
		return err
	}
	for _, flag := range folderFlags {
		if err := outside(flag, m.folder(flag, like, now("name"))); err != nil {
			return err
		}
	}
	return m.addPKI(kind, like, now, add, outside)
}

// lyingReady takes over what the environment file of a unit that does not exist yet says.
func (m *Machine) lyingReady(settings map[string]string) error {
	text, err := m.tree().Read(newEnvFile)
	if err != nil && !tree.Missing(err) {
		return fmt.Errorf("read %s: %w", newEnvFile, err)
	}
	for _, a := range unit.EnvFile(text) {
		flag := flagOf(a.Name)
		if _, said := settings[flag]; flag != "" && !said && a.Value != "" && flag != "force-new-cluster" {
			settings[flag] = a.Value
		}
	}
	return nil
}

// folder is where a new member keeps its data: as the template's does, with its own name.
func (m *Machine) folder(flag string, like *Template, member string) string {
	if dir := like.value(flag); path.IsAbs(dir) && path.Clean(dir) == dir && dir != "/" {
		return like.rename(dir, (&finder{Tree: m.tree(), m: m}).hostName(), member)
	}
	if flag == "data-dir" {
		return "/var/lib/etcd"
	}
	return ""
}

// addPKI names certificates where https is wanted and none are named.
func (m *Machine) addPKI(kind Kind, like *Template, now func(string) string, add func(flag, value string), file func(flag, path string) error) error {
	wants := func(flag, cert, auto string) bool {
		return strings.Contains(now(flag), "https://") && now(cert) == "" && now(auto) != "true"
	}
	client, peer := wants("listen-client-urls", "cert-file", "auto-tls"), wants("listen-peer-urls", "peer-cert-file", "peer-auto-tls")
	if !client && !peer {
		return nil
	}
	k, looked, err := m.pki(kind, like, now("name"))
	switch {
	case err != nil:
		return err
	case k == PKI{}:
		return noPKI(m, looked, now)
	}
	type named struct{ flag, path string }
	var files []named
	if client {
		files = append(files, named{"cert-file", k.Cert}, named{"key-file", k.Key})
		// A CA for clients alone makes etcd ask for their certificates: so only where the others do.
		if like == nil || like.value("trusted-ca-file") != "" || like.value("client-cert-auth") == "true" {
			files = append(files, named{"trusted-ca-file", k.CA})
			add("client-cert-auth", likeOr(like, "client-cert-auth"))
		}
	}
	if peer {
		files = append(files, named{"peer-cert-file", k.PeerCert}, named{"peer-key-file", k.PeerKey}, named{"peer-trusted-ca-file", k.PeerCA})
		add("peer-client-cert-auth", likeOr(like, "peer-client-cert-auth"))
	}
	for _, f := range files {
		if err := file(f.flag, f.path); err != nil {
			return err
		}
	}
	return nil
}

// likeOr is as the template has it, or true where there is none.
func likeOr(like *Template, flag string) string {
	if like == nil {
		return "true"
	}
	return like.value(flag)
}

// tokenKeys wants the keys with which members sign the tokens of users: all of them have the same.
func (m *Machine) tokenKeys(token string) error {
	for option := range strings.SplitSeq(token, ",") {
		if name, file, ok := strings.Cut(option, "="); ok && (name == "pub-key" || name == "priv-key") && !m.tree().Exists(file) {
			return fail.Refused(fmt.Errorf("the members sign tokens with a key (auth-token), and this machine has no %s", file), "copy it from another member, readable for etcd alone")
		}
	}
	return nil
}

// Prospect is the etcd that Create or Configure would make of these settings: to be looked at before.
func (m *Machine) Prospect(e *Etcd, p Place, settings map[string]string) (*Etcd, error) {
	out := &Etcd{Workload: Workload{Name: p.Name, Program: "etcd", Kind: p.Kind, Unit: p.Unit}, Settings: Settings{}}
	if e != nil {
		c := *e
		out, out.Settings = &c, maps.Clone(e.Settings)
		if out.Settings == nil {
			out.Settings = Settings{}
		}
	} else if p.Kind == StaticPod {
		out.Manifest = p.File
	} else if p.Kind == Unit {
		out.User = m.newUser(settings)
	} else {
		return nil, errors.New("prospect: neither an etcd nor a place for one")
	}
	for flag, value := range settings {
		if value == "" {
			delete(out.Settings, flag)
		} else {
			out.Settings[flag] = Setting{Value: value}
		}
	}
	return out, nil
}
