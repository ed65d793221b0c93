package host

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"etcd-steward/internal/host/tree"
)

// A process is one of /proc.
type process struct {
	pid  int
	args []string
	env  []string
}

// processes are those of a program, as /proc of the machine shows them.
func processes(proc, program string) []process {
	var all []process
	dirs, err := os.ReadDir(proc)
	if err != nil {
		return nil
	}
	for _, d := range dirs {
		pid, err := strconv.Atoi(d.Name())
		if err != nil {
			continue
		}
		line, err := os.ReadFile(filepath.Join(proc, d.Name(), "cmdline"))
		if err != nil || len(line) == 0 {
			continue
		}
		args := strings.Split(strings.TrimSuffix(string(line), "\x00"), "\x00")
		if path.Base(args[0]) != program {
			continue
		}
		env, _ := os.ReadFile(filepath.Join(proc, d.Name(), "environ")) // of others only root may read it
		all = append(all, process{pid: pid, args: args[1:], env: strings.Split(string(env), "\x00")})
	}
	return all
}

var podUID = regexp.MustCompile(`kubepods.*pod([0-9a-f][0-9a-f_-]{30,35})`)

// belongs says whether a process is the one of a static pod. A node may well run other etcds and API servers in pods of its users: the kubelet's own
// records tell them apart (the pod's UID in the control group and in /var/log/pods); without them what the process was told does.
func (m *Machine) belongs(proc string, p process, w *Workload, told Settings) bool {
	group, _ := os.ReadFile(filepath.Join(proc, strconv.Itoa(p.pid), "cgroup"))
	logs := m.tree().List("/var/log/pods")
	if uid := podUID.FindSubmatch(group); uid != nil && len(logs) > 0 {
		id := strings.ReplaceAll(string(uid[1]), "_", "-")
		i := slices.IndexFunc(logs, func(name string) bool {
			return strings.HasSuffix(name, "_"+id) || strings.HasSuffix(name, "_"+strings.ReplaceAll(id, "-", ""))
		})
		if i < 0 || !w.logsTo(logs[i]) {
			return false
		}
		// The folder is named after pod and node: etcd-events-a is etcd-events on a, or etcd on events-a.
		if !slices.ContainsFunc(m.pods(), func(other *Workload) bool { return other.Name != w.Name && other.logsTo(logs[i]) }) {
			return true
		}
	}
	return p.told(told, w.Program == "etcd")
}

// logsTo says whether a folder of /var/log/pods can be a static pod's.
func (w *Workload) logsTo(folder string) bool {
	return w.Kind == StaticPod && strings.HasPrefix(folder, w.at.namespace+"_"+w.Name+"-")
}

// pods are all static pods of the machine that are understood.
func (m *Machine) pods() []*Workload {
	var all []*Workload
	for i := range m.Etcds {
		all = append(all, &m.Etcds[i].Workload)
	}
	for i := range m.Parts {
		all = append(all, &m.Parts[i].Workload)
	}
	return all
}

// told says whether a process was told what a workload is: an etcd by its data directory and its name or peer address, others by most of their flags: some may
// have been changed since.
func (p process) told(settings Settings, etcd bool) bool {
	var args []argument
	for _, a := range p.args {
		args = append(args, argument{text: a})
	}
	if etcd {
		g := given{args: args, env: Settings{}}
		for _, v := range p.env {
			if name, value, ok := strings.Cut(v, "="); ok {
				g.env[name] = Setting{Value: value}
			}
		}
		all, _, _ := settle(g, func(string) (Settings, error) { return Settings{}, nil })
		return all["data-dir"].Value == settings["data-dir"].Value &&
			(all["name"].Value == settings["name"].Value || all["listen-peer-urls"].Value == settings["listen-peer-urls"].Value)
	}
	flags := parseFlags(args, kubeToggle)
	same := 0
	for flag, s := range settings {
		if now, ok := flags[flag]; ok && now.Value == s.Value {
			same++
		}
	}
	return 2*same >= max(len(flags), len(settings))
}

// elsewhere says whether a process is another machine's: where this one is seen through a folder, its processes have that as their root.
func (m *Machine) elsewhere(proc string, p process) bool {
	if m.Root == "" || m.Root == "/" {
		return false
	}
	own, err := os.Stat(m.Root)
	if err != nil {
		return false
	}
	its, err := os.Stat(filepath.Join(proc, strconv.Itoa(p.pid), "root") + "/")
	return err == nil && !os.SameFile(own, its)
}

// findPod is the process of a static pod; 0 when there is none.
func (m *Machine) findPod(proc string, w *Workload, told Settings) int {
	for _, p := range processes(proc, w.Program) {
		if !m.elsewhere(proc, p) && m.belongs(proc, p, w, told) {
			return p.pid
		}
	}
	return 0
}

// procDir is /proc of the machine: its own, when it is seen through a folder that has one.
func (m *Machine) procDir() string {
	if t := tree.Tree(m.Root); t.Exists("/proc/self") {
		return t.Real("/proc")
	}
	return "/proc"
}
