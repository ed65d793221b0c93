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
	// Why says by what it was recognised.
	Why string
}

// binaries are where installers put etcd.
var binaries = []string{"/usr/local/bin/etcd", "/usr/bin/etcd", "/opt/bin/etcd", "/opt/etcd/bin/etcd", "/usr/local/sbin/etcd"}

// Places are what this machine is prepared for when it has no etcd yet, the most specific first: kubeadm's manifest where there is a kubelet with a folder for
// static pods; a unit etcd.service with /etc/etcd.env where there is a binary. A machine that has an etcd (also one that was never started), and one whose etcd
// a distribution owns, has none: Configure it, or leave it alone.
func (m *Machine) Places() []Place {
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
			return append(all, Place{Kind: Unit, Name: "etcd", File: "/etc/etcd.env", Unit: newUnit, Binary: b, Why: b + " is installed"})
		}
	}
	return all
}

// newUnit is the unit that Create makes.
const newUnit = "etcd.service"

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

// Place is the one place where an etcd can be made. An image means a static pod. Where two are possible, the certificates that lie ready decide; where those do
// not tell either, it is refused, and so it is where there is none, or nothing says what a static pod is to run.
func (m *Machine) Place(image string) (Place, error) {
	var chosen []Place
	places := m.Places()
	for _, p := range places {
		if k := m.knownPKI(p)[0]; image != "" && p.Kind == StaticPod || image == "" && m.tree().Exists(k.ca) && m.tree().Exists(k.cert) {
			chosen = append(chosen, p)
		}
	}
	if len(places) == 1 && image == "" {
		chosen = places
	}
	const pod = "give the image of etcd that the other members run, as in --image registry.k8s.io/etcd:3.6.5-0"
	switch {
	case len(places) == 0 || len(chosen) == 0 && image != "":
		err, hint := errors.New("no etcd is set up on this machine, and none can be"), "install etcd with its unit, or put kubeadm's manifest in place, and type the same command again"
		if taken := m.unitTaken(); taken != nil {
			err, hint = fmt.Errorf("%w: %w", err, taken), fail.HintOf(taken)
		} else if len(m.Problems) > 0 {
			err = fmt.Errorf("%w; not understood: %s", err, m.Problems[0])
		}
		return Place{}, fail.Refused(err, hint)
	case len(chosen) != 1:
		return Place{}, fail.Refused(fmt.Errorf("this machine could run etcd in %d ways: %s; %s", len(places), places[0].Why, places[1].Why),
			"for a static pod "+pod+"; for a unit install etcd.service, and type the same command again")
	case chosen[0].Kind == StaticPod && image == "":
		return Place{}, fail.Refused(fmt.Errorf("etcd would be a static pod here (%s), and nothing says which image it runs", chosen[0].Why), pod)
	}
	return chosen[0], nil
}

// Create writes what runs an etcd at a place; nothing starts it yet: a static pod is held, a unit neither enabled nor started. Image is what a static pod runs.
// Where the settings want TLS and name no certificates, those are taken that kubeadm or kubespray put on this machine. The same tag gives the same edits again.
func (m *Machine) Create(p Place, settings map[string]string, image, tag string) (*Etcd, []Edit, error) {
	if err := m.Refuse(Add); err != nil {
		return nil, nil, err
	}
	if err := checkChanges(settings, tag); err != nil {
		return nil, nil, err
	}
	all := maps.Clone(settings)
	if all["data-dir"] == "" {
		all["data-dir"] = "/var/lib/etcd"
	}
	if err := m.findCertificates(p, all); err != nil {
		return nil, nil, err
	}
	var files []string
	var err error
	if p.Kind == StaticPod {
		file := path.Join(m.parkedDir(), path.Base(p.File))
		files = []string{file}
		if image == "" {
			return nil, nil, fail.New(fail.Usage, errors.New("the image of etcd is not known"), "give one that the other members run, as in registry.k8s.io/etcd:3.6.5-0")
		}
		if m.tree().Exists(p.File) {
			return nil, nil, fail.Refused(fmt.Errorf("%s is there already", p.File), "it runs no etcd that is understood: look at it, and take it away")
		}
		err = m.replace(file, newManifest(p.Name, image, all), 0o600, tag)
	} else {
		if _, mine := m.edited(path.Join("/etc/systemd/system", p.Unit), tag); !mine {
			if err := m.unitTaken(); err != nil {
				return nil, nil, err
			}
		}
		files = []string{p.File, path.Join("/etc/systemd/system", p.Unit)}
		err = m.createUnit(p, all, files, tag)
	}
	var edits []Edit
	for _, file := range files {
		if e, ok := m.edited(file, tag); ok {
			edits = append(edits, e)
		}
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

// createUnit writes the environment file, of which lines of before stay, and the unit.
func (m *Machine) createUnit(p Place, settings map[string]string, files []string, tag string) error {
	text, err := m.tree().Read(files[0])
	if err != nil && !tree.Missing(err) {
		return fmt.Errorf("read %s: %w", files[0], err)
	}
	for _, flag := range slices.Sorted(maps.Keys(settings)) {
		text = setVariable(text, variable(flag), settings[flag], false)
	}
	if err := m.replace(files[0], text, 0o640, tag); err != nil {
		return err
	}
	user := ""
	if uid, gid, ok := m.account("etcd"); ok && m.mayRead(uid, gid, settings["key-file"], settings["peer-key-file"]) {
		user = "User=etcd\n" // else root, as with kubeadm's keys, which are for root alone
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
	return m.replace(files[1], []byte(unitText), 0o644, tag)
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

// mayRead says whether a user may read files, as far as their modes say. What does not exist yet he may.
func (m *Machine) mayRead(uid, gid int, files ...string) bool {
	for _, file := range files {
		if st, err := m.tree().Stat(file); file != "" && err == nil && !may(st, uid, gid, 0o4) {
			return false
		}
	}
	return true
}

// pki is where an installer puts the certificates of a member.
type pki struct{ ca, cert, key, peerCert, peerKey string }

func (m *Machine) knownPKI(p Place) []pki {
	hostname := (&finder{Tree: m.tree(), m: m}).hostName()
	const spray = "/etc/ssl/etcd/ssl/"
	kubeadm := pki{
		"/etc/kubernetes/pki/etcd/ca.crt", "/etc/kubernetes/pki/etcd/server.crt", "/etc/kubernetes/pki/etcd/server.key",
		"/etc/kubernetes/pki/etcd/peer.crt", "/etc/kubernetes/pki/etcd/peer.key",
	}
	member := spray + "member-" + hostname
	if p.Kind == StaticPod {
		return []pki{kubeadm}
	}
	return []pki{{spray + "ca.pem", member + ".pem", member + "-key.pem", member + ".pem", member + "-key.pem"}, kubeadm}
}

// findCertificates fills in certificates where https is wanted and none are named.
func (m *Machine) findCertificates(p Place, s map[string]string) error {
	client := strings.Contains(s["listen-client-urls"], "https://") && s["cert-file"] == ""
	peer := strings.Contains(s["listen-peer-urls"], "https://") && s["peer-cert-file"] == ""
	if !client && !peer {
		return nil
	}
	var looked []string
	for _, k := range m.knownPKI(p) {
		looked = append(looked, k.cert)
		if !m.tree().Exists(k.ca) || !m.tree().Exists(k.cert) || !m.tree().Exists(k.peerCert) {
			continue
		}
		if client {
			s["trusted-ca-file"], s["cert-file"], s["key-file"], s["client-cert-auth"] = k.ca, k.cert, k.key, "true"
		}
		if peer {
			s["peer-trusted-ca-file"], s["peer-cert-file"], s["peer-key-file"], s["peer-client-cert-auth"] = k.ca, k.peerCert, k.peerKey, "true"
		}
		return nil
	}
	return fail.Refused(errors.New("this machine has no certificates for the new member"), "put them where they are looked for: "+strings.Join(looked, " or "))
}

// newManifest is a static pod as kubeadm writes it.
func newManifest(name, image string, s map[string]string) []byte {
	var b strings.Builder
	b.WriteString("# Written by steward.\napiVersion: v1\nkind: Pod\nmetadata:\n  labels:\n    component: etcd\n    tier: control-plane\n  name: " + name +
		"\n  namespace: kube-system\nspec:\n  containers:\n  - command:\n    - etcd\n")
	for _, flag := range slices.Sorted(maps.Keys(s)) {
		b.WriteString("    - " + scalar("--"+flag+"="+s[flag]) + "\n")
	}
	b.WriteString("    image: " + scalar(image) + "\n    imagePullPolicy: IfNotPresent\n    name: " + name + "\n    resources:\n      requests:\n        cpu: 100m\n        memory: 100Mi\n")
	dirs := map[string]string{"etcd-data": s["data-dir"]}
	if s["wal-dir"] != "" {
		dirs["etcd-wal"] = path.Dir(s["wal-dir"]) // etcd makes it anew, which it cannot with a mount point
	}
	for i, file := range []string{"cert-file", "peer-cert-file"} {
		if dir := path.Dir(s[file]); s[file] != "" && dirs["etcd-certs-0"] != dir {
			dirs[fmt.Sprintf("etcd-certs-%d", i)] = dir
		}
	}
	b.WriteString("    volumeMounts:\n")
	for _, volume := range slices.Sorted(maps.Keys(dirs)) {
		b.WriteString("    - mountPath: " + scalar(dirs[volume]) + "\n      name: " + volume + "\n")
	}
	b.WriteString("  hostNetwork: true\n  priorityClassName: system-node-critical\n  securityContext:\n    seccompProfile:\n      type: RuntimeDefault\n  volumes:\n")
	for _, volume := range slices.Sorted(maps.Keys(dirs)) {
		b.WriteString("  - hostPath:\n      path: " + scalar(dirs[volume]) + "\n      type: DirectoryOrCreate\n    name: " + volume + "\n")
	}
	return []byte(b.String())
}
