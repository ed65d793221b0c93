package host

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"etcd-steward/internal/fail"
	"etcd-steward/internal/host/tree"
)

// Detect looks below root ("/", or a test's folder) for what runs etcd and the control plane. It reads files only: what runs is Control's to say.
func Detect(root string) *Machine {
	if root == "" {
		root = "/"
	}
	f := &finder{Tree: tree.Tree(root), m: &Machine{Root: root}}
	f.hostname = f.hostName()
	f.m.Manifests = f.manifests()
	f.units()
	f.pods()
	slices.SortFunc(f.m.Etcds, func(a, b Etcd) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Kind, b.Kind)) })
	slices.SortFunc(f.m.Parts, func(a, b Part) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Kind, b.Kind)) })
	f.owner()
	return f.m
}

// hostName is this machine's, or the one that a folder's says.
func (f *finder) hostName() string {
	if f.m.Root == "/" {
		if name, err := os.Hostname(); err == nil {
			return name
		}
	}
	text, _ := f.Read("/etc/hostname")
	return strings.TrimSpace(string(text))
}

// take puts a workload where it belongs.
func (f *finder) take(w Workload, g given) {
	if w.Program != "etcd" {
		f.m.Parts = append(f.m.Parts, Part{Workload: w, Flags: parseFlags(g.args, kubeToggle)})
		return
	}
	if len(g.args) > 0 && (g.args[0].text == "gateway" || g.args[0].text == "grpc-proxy") {
		return // etcd's program, and no member
	}
	e := Etcd{Workload: w, Etcdctl: Settings{}}
	for name, s := range g.env {
		if strings.HasPrefix(name, "ETCDCTL_") && s.Value != "" {
			e.Etcdctl[name] = s
		}
	}
	settings, ignored, err := settle(g, func(inside string) (Settings, error) {
		outside, err := e.HostPath(inside)
		if err != nil {
			return nil, err
		}
		e.Config = outside
		text, err := f.Read(outside)
		if err != nil {
			return nil, err
		}
		e.Files = append(e.Files, outside)
		return yamlSettings(text, outside)
	})
	e.Settings, e.Ignored = settings, ignored
	if e.Settings == nil {
		e.Settings = Settings{}
	}
	if err != nil {
		file := e.Config
		if file == "" {
			file = w.File()
		}
		f.problem(file, err)
		if !tree.Missing(err) {
			e.Unclear = fmt.Errorf("%s: %w", file, err)
		}
	}
	if e.Unclear == nil {
		e.Unclear = e.Unread
	}
	f.m.Etcds = append(f.m.Etcds, e)
}

func (m *Machine) tree() tree.Tree { return tree.Tree(m.Root) }

// Path is where a path of this machine really is: with Root in front.
func (m *Machine) Path(name string) string { return m.tree().Real(name) }

// Etcd is the etcd of that name; "" means the only one. The error of an ambiguous one names the candidates and --etcd.
func (m *Machine) Etcd(name string) (*Etcd, error) {
	var found []*Etcd
	names := make([]string, 0, len(m.Etcds))
	for i := range m.Etcds {
		e := &m.Etcds[i]
		names = append(names, e.where())
		if name == "" || e.Name == name {
			found = append(found, e)
		}
	}
	switch {
	case len(found) == 1 && found[0].Unclear != nil:
		return nil, fail.New(fail.Failed, fmt.Errorf("the settings of %s cannot be told: %w", found[0].where(), found[0].Unclear), "run steward as root, or repair the file")
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1 && name == "":
		return nil, fail.New(fail.Usage, fmt.Errorf("this machine has %d etcds: %s", len(found), strings.Join(names, ", ")), "say which one with --etcd NAME")
	case len(found) > 1:
		return nil, fail.New(fail.Usage, fmt.Errorf("two etcds of this machine are called %q: %s", name, strings.Join(names, ", ")),
			"one of them is left over from before: take its unit or manifest away")
	case len(names) > 0:
		return nil, fail.New(fail.Usage, fmt.Errorf("this machine has no etcd %q, only %s", name, strings.Join(names, ", ")), "")
	}
	err := errors.New("no etcd was found on this machine: no unit and no static pod runs one")
	hint := "run steward where etcd runs, as root"
	if len(m.Problems) > 0 {
		hint = "not understood: " + m.Problems[0].String()
	}
	return nil, fail.New(fail.Usage, err, hint)
}

// where is a workload's name and what says that it exists, for people.
func (w *Workload) where() string {
	at := w.Unit
	if w.Kind == StaticPod {
		at = w.File()
	}
	return w.Name + " (" + at + ")"
}

// File is what says that the workload exists: its unit's own file, or its manifest wherever it is now.
func (w *Workload) File() string {
	switch {
	case w.parked != "":
		return w.parked
	case w.Kind == StaticPod:
		return w.Manifest
	case w.unit != nil:
		return w.unit.service.Path
	}
	return ""
}

// Part is all control plane parts of a program, as in kube-apiserver.
func (m *Machine) Part(program string) []*Part {
	var all []*Part
	for i := range m.Parts {
		if m.Parts[i].Program == program {
			all = append(all, &m.Parts[i])
		}
	}
	return all
}

// HostPath is what a path that the process sees is called on this machine.
func (w *Workload) HostPath(name string) (string, error) {
	if !path.IsAbs(name) {
		dir := "/"
		if w.unit != nil && !w.Container {
			dir = w.unit.workingDir
		}
		name = path.Join(dir, name)
	}
	if !w.Container {
		return path.Clean(name), nil
	}
	outside, ok := hostPath(w.Mounts, name)
	if !ok {
		return "", fmt.Errorf("%s of %s is inside of its container: no mount makes it a file of this machine", name, w.Name)
	}
	return outside, nil
}
