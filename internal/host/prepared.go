package host

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"etcd-steward/internal/fail"
	"etcd-steward/internal/host/tree"
	"etcd-steward/internal/host/unit"
)

// Place is a way in which this machine could run an etcd that it does not run yet.
type Place struct {
	Kind Kind
	// Name is the etcd's to be: "etcd".
	Name string
	// File is what Create writes its settings to: a manifest, an environment file.
	File string
	// Unit runs it; Binary is what the unit starts.
	Unit, Binary string
	// Image is what a static pod will run; "" when that is to be said: Machine.Place.
	Image string
	// PKI are the certificates that lie ready for it; nil when there are none, or nothing says which.
	PKI *PKI
	// Why says by what it was recognised.
	Why string
}

// binaries are where installers put etcd.
var binaries = []string{"/usr/local/bin/etcd", "/usr/bin/etcd", "/opt/bin/etcd", "/opt/etcd/bin/etcd", "/usr/local/sbin/etcd"}

// Places are what this machine is prepared for when it has no etcd yet, the most specific first: kubeadm's manifest where there is a kubelet with a folder for
// static pods; a unit etcd.service with /etc/etcd.env where there is a binary. A machine that has an etcd (also one that was never started), and one whose etcd
// a distribution owns, has none: Configure it, or leave it alone.
func (m *Machine) Places() []Place {
	all := m.possible()
	for i := range all {
		if k, _, err := m.pki(all[i].Kind, nil, ""); err == nil && k != (PKI{}) {
			all[i].PKI = &k
		}
	}
	return all
}

func (m *Machine) possible() []Place {
	if len(m.Etcds) > 0 || m.Owner != nil {
		return nil
	}
	var all []Place
	if st, err := m.tree().Stat(m.Manifests); err == nil && st.IsDir() {
		all = append(all, Place{Kind: StaticPod, Name: "etcd", File: path.Join(m.Manifests, "etcd.yaml"), Why: "the kubelet runs what is in " + m.Manifests})
	}
	if m.unitTaken() != nil {
		return all
	}
	for _, b := range binaries {
		if m.tree().Exists(b) {
			return append(all, Place{Kind: Unit, Name: "etcd", File: newEnvFile, Unit: newUnit, Binary: b, Why: b + " is installed"})
		}
	}
	return all
}

// What Create makes where there is a binary.
const (
	newUnit    = "etcd.service"
	newEnvFile = "/etc/etcd.env"
)

// unitTaken is why the unit's name is not free: there is one that is not understood, or a mask.
func (m *Machine) unitTaken() error {
	s, err := unit.Load(m.tree(), newUnit)
	switch {
	case s.Path != "":
		return fail.Refused(fmt.Errorf("%s is there already, and runs no etcd that is understood", s.Path), "look at it (systemctl cat "+newUnit+"), and repair it or take it away")
	case s.Masked:
		return fail.Refused(errors.New(newUnit+" is masked"), "systemctl unmask "+newUnit)
	case !tree.Missing(err):
		return fmt.Errorf("read %s: %w", newUnit, err)
	}
	return nil
}

// Place is the one place where an etcd can be made. An image means a static pod. Where two are possible, it is made in the way of another member (like; nil: none is
// known), else the certificates that lie ready decide; where those do not tell either, it is refused, and so it is where there is none, or nothing says what a
// static pod is to run.
func (m *Machine) Place(image string, like *Template) (Place, error) {
	places := m.Places()
	chosen := choose(places, image, like)
	const pod = "give the image of etcd that the other members run, as in --image registry.k8s.io/etcd:3.6.5-0"
	switch {
	case len(places) == 0 || len(chosen) == 0 && image != "":
		return Place{}, m.noPlace()
	case len(chosen) != 1:
		return Place{}, fail.Refused(fmt.Errorf("this machine could run etcd in %d ways: %s; %s", len(places), places[0].Why, places[1].Why),
			"for a static pod "+pod+"; for a unit install etcd.service, and type the same command again")
	}
	p := chosen[0]
	if p.Image = image; p.Image == "" && like != nil && like.Kind == StaticPod {
		p.Image = like.Image
	}
	if p.Kind == Unit {
		p.Image = ""
		return p, nil
	}
	if p.Image == "" {
		return Place{}, fail.Refused(fmt.Errorf("etcd would be a static pod here (%s), and nothing says which image it runs", p.Why), pod)
	}
	if err := checkImage(p.Image); err != nil {
		return Place{}, fail.New(fail.Usage, fmt.Errorf("image %q: %w", p.Image, err), pod)
	}
	return p, nil
}

// choose are the places that come into question.
func choose(places []Place, image string, like *Template) (chosen []Place) {
	of := func(f func(p Place) bool) []Place {
		return slices.DeleteFunc(slices.Clone(places), func(p Place) bool { return !f(p) })
	}
	if image != "" {
		return of(func(p Place) bool { return p.Kind == StaticPod })
	}
	if len(places) == 1 {
		return places
	}
	if like != nil {
		if alike := of(func(p Place) bool { return p.Kind == like.Kind }); len(alike) == 1 {
			return alike
		}
	}
	// A unit may use kubeadm's certificates too, which say more of a static pod.
	return of(func(p Place) bool { return p.PKI != nil && (p.Kind == StaticPod || p.PKI.Cert != kubeadmPair().Cert) })
}

// noPlace says why no etcd can be made here.
func (m *Machine) noPlace() error {
	err, hint := errors.New("no etcd is set up on this machine, and none can be"), "install etcd with its unit, or put kubeadm's manifest in place, and type the same command again"
	if taken := m.unitTaken(); taken != nil {
		err, hint = fmt.Errorf("%w: %w", err, taken), fail.HintOf(taken)
	} else if len(m.Problems) > 0 {
		err = fmt.Errorf("%w; not understood: %s", err, m.Problems[0])
	}
	return fail.Refused(err, hint)
}

// Create writes what runs an etcd at a place; nothing starts it yet: a static pod is held, a unit neither enabled nor started. What the settings do not say is added
// as Complete does. The same tag gives the same edits again.
func (m *Machine) Create(p Place, settings map[string]string, tag string) (*Etcd, []Edit, error) {
	if err := m.Refuse(Add); err != nil {
		return nil, nil, err
	}
	if err := checkChanges(settings, tag); err != nil {
		return nil, nil, err
	}
	all := maps.Clone(settings)
	if err := m.Complete(nil, p.Kind, nil, all); err != nil {
		return nil, nil, err
	}
	var files []string
	var err error
	if p.Kind == StaticPod {
		files = []string{path.Join(m.parkedDir(), path.Base(p.File))}
		err = m.createPod(p, all, files[0], tag)
	} else {
		// The unit first: then an etcd is found, whatever happens, and what is written of it can be gone on with or undone.
		files = []string{path.Join("/etc/systemd/system", p.Unit), p.File}
		err = m.createUnit(p, all, files, tag)
	}
	var edits []Edit
	for _, file := range files {
		if e, ok := m.edited(file, tag); ok {
			edits = append(edits, e)
		}
	}
	if err != nil && len(edits) == 0 {
		return nil, nil, err
	}
	if err == nil {
		var e *Etcd
		if e, err = Detect(m.Root).Etcd(p.Name); err == nil {
			if open := differences(e.Settings, all); len(open) == 0 {
				return e, edits, nil
			}
			err = errors.New("etcd would not see exactly what was written")
		}
	}
	return nil, nil, fmt.Errorf("set up etcd: %w", errors.Join(err, m.Undo(edits)))
}

func (m *Machine) createPod(p Place, settings map[string]string, file, tag string) error {
	if err := checkImage(p.Image); err != nil {
		return fail.New(fail.Usage, errors.New("the image of etcd is not known"), "give one that the other members run, as in registry.k8s.io/etcd:3.6.5-0")
	}
	if m.tree().Exists(p.File) {
		return fail.Refused(fmt.Errorf("%s is there already", p.File), "it runs no etcd that is understood: look at it, and take it away")
	}
	return m.replace(file, newManifest(p.Name, p.Image, settings), 0o600, tag)
}

// createUnit writes the unit, and the environment file, of which lines of before stay.
func (m *Machine) createUnit(p Place, settings map[string]string, files []string, tag string) error {
	if _, mine := m.edited(files[0], tag); !mine {
		if err := m.unitTaken(); err != nil {
			return err
		}
	}
	text, err := m.tree().Read(files[1])
	if err != nil && !tree.Missing(err) {
		return fmt.Errorf("read %s: %w", files[1], err)
	}
	for _, flag := range slices.Sorted(maps.Keys(settings)) {
		text = setVariable(text, variable(flag), settings[flag], false)
	}
	text = setVariable(text, variable("force-new-cluster"), "", false) // nobody who joins wants that
	user := ""
	if name := m.newUser(settings); name != "" {
		user = "User=" + name + "\n"
	}
	unitText := `# Written by steward.
[Unit]
Description=etcd
Documentation=https://etcd.io/docs/
After=network-online.target
Wants=network-online.target

[Service]
Type=notify
` + user + `EnvironmentFile=` + p.File + `
ExecStart=` + p.Binary + `
Restart=always
RestartSec=10s
LimitNOFILE=40000

[Install]
WantedBy=multi-user.target
`
	if err := m.replace(files[0], []byte(unitText), 0o644, tag); err != nil {
		return err
	}
	return m.replace(files[1], text, 0o640, tag)
}

// newUser is whom a new unit runs as: etcd, where there is one that may read the keys; else root ("") as with kubeadm's keys, which are for root alone.
func (m *Machine) newUser(settings map[string]string) string {
	if uid, gid, ok := m.account("etcd"); ok && m.MayRead(uid, gid, settings["key-file"], settings["peer-key-file"]) == "" {
		return "etcd"
	}
	return ""
}

// account is a user of the machine, and its group.
func (m *Machine) account(name string) (uid, gid int, ok bool) {
	passwd, err := m.tree().Read("/etc/passwd")
	if err != nil {
		return 0, 0, false
	}
	for line := range strings.Lines(string(passwd)) {
		if f := strings.Split(line, ":"); len(f) > 3 && f[0] == name {
			uid, errU := strconv.Atoi(f[2])
			gid, errG := strconv.Atoi(f[3])
			return uid, gid, errU == nil && errG == nil
		}
	}
	return 0, 0, false
}

// MayRead is the first of the files that a user may not read, as far as modes say, or "". What does not exist yet he may.
func (m *Machine) MayRead(uid, gid int, files ...string) string {
	for _, file := range files {
		if st, err := m.tree().Stat(file); file != "" && err == nil && !may(st, uid, gid, 0o4) {
			return file
		}
		if st, err := m.tree().Stat(path.Dir(file)); file != "" && err == nil && !may(st, uid, gid, 0o1) {
			return file
		}
	}
	return ""
}
