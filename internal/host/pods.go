package host

import (
	"cmp"
	"errors"
	"fmt"
	"path"
	"strings"

	"go.yaml.in/yaml/v3"

	"etcd-steward/internal/host/tree"
	"etcd-steward/internal/host/unit"
)

// Where the kubelet looks for static pods unless it is told otherwise: kubeadm's place, and RKE2's.
const (
	defaultManifests = "/etc/kubernetes/manifests"
	kubeletConfig    = "/var/lib/kubelet/config.yaml"
	rke2Manifests    = "/var/lib/rancher/rke2/agent/pod-manifests"
)

// Folders beside the manifests: the kubelet would run whatever lies among them.
const (
	parkedFolder = "steward-parked" // what is held
	keptFolder   = "steward-kept"   // files as they were before they were changed
)

// maxManifests bounds how many files of the folder are read.
const maxManifests = 256

// manifests is the folder of the kubelet's static pods: as its unit's flags say, else as its configuration says.
func (f *finder) manifests() string {
	config := kubeletConfig
	if s, err := unit.Load(f.Tree, "kubelet.service"); err == nil {
		sp := unit.NewSpecifiers(s.Name, f.hostname)
		env, _ := s.Environment(f.Tree, sp)
		if cmd, err := s.Command(env, sp); err == nil {
			var args []argument
			for _, a := range cmd.Args[1:] {
				args = append(args, argument{text: a.Text})
			}
			flags := parseFlags(args, kubeToggle)
			if dir := flags["pod-manifest-path"].Value; path.IsAbs(dir) {
				return path.Clean(dir)
			}
			if file := flags["config"].Value; path.IsAbs(file) {
				config = file
			}
		}
	}
	if text, err := f.Read(config); err == nil {
		if root, err := yamlRoot(text); err == nil {
			if n := yamlField(root, "staticPodPath"); n != nil && path.IsAbs(n.Value) {
				return path.Clean(n.Value)
			}
		}
	}
	if !f.Exists(defaultManifests) && f.Exists(rke2Manifests) {
		return rke2Manifests
	}
	return defaultManifests
}

// kubeToggle guesses whether a flag of Kubernetes needs no value: when what follows is a flag, or nothing.
func kubeToggle(_, next string) bool { return next == "" || strings.HasPrefix(next, "-") }

// pods looks at every manifest that the kubelet reads, and at those that are held.
func (f *finder) pods() {
	dir := f.m.Manifests
	parked := path.Join(path.Dir(dir), parkedFolder)
	running := map[string]bool{}
	for _, folder := range []string{dir, parked} {
		names := f.List(folder)
		for _, name := range names[:min(len(names), maxManifests)] {
			if strings.HasPrefix(name, ".") || strings.Contains(name, ".steward-") {
				continue
			}
			file := path.Join(folder, name)
			text, err := f.Read(file)
			if st, serr := f.Stat(file); serr == nil && st.IsDir() {
				continue
			}
			if err == nil {
				err = f.manifest(text, file, path.Join(dir, name), running)
			}
			if err != nil && !tree.Missing(err) {
				f.problem(file, err)
			}
		}
	}
}

// A podContainer is what of a container matters here.
type podContainer struct {
	Image   string   `yaml:"image"`
	Command []string `yaml:"command"`
	Args    []string `yaml:"args"`
	Env     []struct {
		Name  string `yaml:"name"`
		Value string `yaml:"value"`
	} `yaml:"env"`
	Mounts []struct {
		Name      string `yaml:"name"`
		MountPath string `yaml:"mountPath"`
		SubPath   string `yaml:"subPath"`
	} `yaml:"volumeMounts"`
}

type pod struct {
	Kind     string `yaml:"kind"`
	Metadata struct {
		Name      string `yaml:"name"`
		Namespace string `yaml:"namespace"`
	} `yaml:"metadata"`
	Spec struct {
		Containers []podContainer `yaml:"containers"`
		Volumes    []struct {
			Name     string `yaml:"name"`
			HostPath struct {
				Path string `yaml:"path"`
			} `yaml:"hostPath"`
		} `yaml:"volumes"`
	} `yaml:"spec"`
}

// manifest takes in one static pod. One that is parked counts only when none of its file's name runs.
func (f *finder) manifest(text []byte, file, home string, running map[string]bool) error {
	var p pod
	if err := yaml.Unmarshal(text, &p); err != nil {
		return fmt.Errorf("parse the manifest: %w", err)
	}
	for i, c := range p.Spec.Containers {
		program, args, kind := c.program()
		if !programs[program] {
			if program == "" && imageName(c.Image) == "etcd" {
				return errors.New("what its shell runs is not understood")
			}
			continue
		}
		if file != home && running[home] {
			return fmt.Errorf("%s is there as well, so this one counts for nothing", home)
		}
		running[home] = true
		w := Workload{
			Name: p.Metadata.Name, Program: program, Kind: StaticPod, Manifest: home, Held: file != home, Container: true, Image: c.Image,
			Mounts: p.mounts(c), Files: []string{file}, at: podPlace{container: i, namespace: cmp.Or(p.Metadata.Namespace, "default")},
		}
		if w.Name == "" {
			w.Name = strings.TrimSuffix(path.Base(home), path.Ext(home))
		}
		if w.Held {
			w.parked = file
		}
		g := given{env: Settings{}}
		for _, e := range c.Env {
			g.env[e.Name] = Setting{Value: e.Value, Source: file, place: place{kind: inPodEnv, name: e.Name}}
		}
		for _, a := range args {
			g.args = append(g.args, argument{text: dollars(a, g.env), source: file, place: place{kind: kind}})
		}
		f.take(w, g)
	}
	return nil
}

// program is what a container runs, its arguments, and where those stand; "" for what is not understood.
func (c *podContainer) program() (string, []string, placeKind) {
	words := append(append([]string{}, c.Command...), c.Args...)
	if len(c.Command) == 0 {
		if name := imageName(c.Image); programs[name] && len(c.Args) > 0 && strings.HasPrefix(c.Args[0], "-") {
			return name, c.Args, inPodArgs
		}
	}
	if len(words) == 0 {
		return imageName(c.Image), nil, inPodArgs
	}
	program := path.Base(words[0])
	if program != "sh" && program != "bash" {
		return program, words[1:], inPodArgs
	}
	for i := 1; i+1 < len(words); i++ {
		if !strings.HasPrefix(words[i], "-") || !strings.HasSuffix(words[i], "c") {
			continue
		}
		sh := &shell{text: words[i+1], args: words[i+2:], env: func(name string) string { return "$(" + name + ")" }}
		for _, cmd := range sh.commands() {
			if !programs[path.Base(cmd[0].text)] {
				continue
			}
			var args []string
			for _, w := range cmd[1:] {
				if w.opaque {
					return "", nil, 0
				}
				args = append(args, w.text)
			}
			return path.Base(cmd[0].text), args, inPodScript
		}
	}
	return "", nil, 0
}

// dollars puts in variables as the kubelet does, for those whose value the manifest says.
func dollars(text string, env Settings) string {
	for name, s := range env {
		text = strings.ReplaceAll(text, "$("+name+")", s.Value)
	}
	return text
}

// mounts are the container's volumes that are this machine's files.
func (p *pod) mounts(c podContainer) []Mount {
	var all []Mount
	for _, m := range c.Mounts {
		for _, v := range p.Spec.Volumes {
			if v.Name == m.Name && v.HostPath.Path != "" && m.MountPath != "" {
				all = append(all, Mount{Host: path.Join(v.HostPath.Path, m.SubPath), Inside: path.Clean(m.MountPath)})
			}
		}
	}
	return all
}
