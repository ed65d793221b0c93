package unit

import (
	"path"
	"slices"
	"strings"

	"etcd-steward/internal/host/tree"
)

// Dirs are where systemd looks for a system's units, the strongest first. What generators and transient units make is not looked at.
var Dirs = []string{
	"/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system",
}

// Service is a service with its drop-ins.
type Service struct {
	Name    string // etcd.service
	Path    string // of its own file, below any mask
	DropIns []string
	Entries []Entry // of all files, in the order in which systemd reads them
	// Masked: an empty file or a link to /dev/null stands above it.
	Masked bool
}

// Services are the names of all services that have a file here, without those that are other names for one (links), and without templates; of those, the instances
// that something wants.
func Services(t tree.Tree) []string {
	seen := map[string]bool{}
	for _, dir := range Dirs {
		for _, name := range t.List(dir) {
			if strings.HasSuffix(name, ".wants") {
				for _, instance := range t.List(path.Join(dir, name)) {
					if strings.Contains(instance, "@") && strings.HasSuffix(instance, ".service") {
						seen[instance] = true
					}
				}
			}
			if !strings.HasSuffix(name, ".service") || strings.HasSuffix(name, "@.service") {
				continue
			}
			if to := t.Link(path.Join(dir, name)); to != "" && to != "/dev/null" && path.Base(to) != name {
				continue // an alias
			}
			seen[name] = true
		}
	}
	names := make([]string, 0, len(seen))
	for name := range seen {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Load reads a service and its drop-ins. The error is that of the file that cannot be read; a service without a file is one that is missing.
func Load(t tree.Tree, name string) (*Service, error) {
	s := &Service{Name: name}
	var last error
	for _, file := range append([]string{name}, template(name)...) {
		for _, dir := range Dirs {
			p := path.Join(dir, file)
			if null(t, p) {
				s.Masked = true
				continue
			}
			text, err := t.Read(p)
			if tree.Missing(err) {
				last = err
				continue
			}
			if err != nil {
				s.Path = p
				return s, err
			}
			s.Path = p
			s.add(p, text)
			return s, s.dropIns(t)
		}
	}
	return s, last
}

func (s *Service) add(file string, text []byte) {
	for _, e := range Parse(text) {
		e.File = file
		s.Entries = append(s.Entries, e)
	}
}

// null says whether a file masks those of its name below it: systemd takes an empty one like a link to /dev/null.
func null(t tree.Tree, p string) bool {
	if t.Link(p) == "/dev/null" {
		return true
	}
	st, err := t.Stat(p)
	return err == nil && st.Mode().IsRegular() && st.Size() == 0
}

// template is the file of an instance: etcd@.service of etcd@a.service.
func template(name string) []string {
	prefix, _, found := strings.Cut(name, "@")
	if !found {
		return nil
	}
	return []string{prefix + "@.service"}
}

// dropIns reads what stands in the folders beside the unit's file: all in order of their names, and of one name only the strongest.
func (s *Service) dropIns(t tree.Tree) error {
	files := map[string]string{}
	for _, folder := range dropInFolders(s.Name) {
		for _, dir := range Dirs {
			dir = path.Join(dir, folder)
			for _, name := range t.List(dir) {
				if _, taken := files[name]; !taken && strings.HasSuffix(name, ".conf") && name[0] != '.' {
					files[name] = path.Join(dir, name)
				}
			}
		}
	}
	names := make([]string, 0, len(files))
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if null(t, files[name]) {
			continue
		}
		text, err := t.Read(files[name])
		if tree.Missing(err) {
			continue // a link that leads nowhere
		}
		s.DropIns = append(s.DropIns, files[name])
		if err != nil {
			return err
		}
		s.add(files[name], text)
	}
	return nil
}

// dropInFolders are the folders for a unit's drop-ins, the most specific first: a-b.service.d, a-.service.d, service.d.
func dropInFolders(name string) []string {
	folders := []string{name + ".d"}
	for _, t := range template(name) {
		folders = append(folders, t+".d")
	}
	stem := strings.TrimSuffix(name, ".service")
	for i := len(stem) - 1; i > 0; i-- {
		if stem[i-1] == '-' {
			folders = append(folders, stem[:i]+".service.d")
		}
	}
	return append(folders, "service.d")
}

// Files are all files that say something about the service, the weakest first.
func (s *Service) Files() []string { return append([]string{s.Path}, s.DropIns...) }
