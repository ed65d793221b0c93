package host

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"etcd-steward/internal/fail"
)

// Mention is a place that names a URL of etcd.
type Mention struct {
	File string `json:"file"` // manifest, unit or environment file
	Name string `json:"name"` // of the workload: kube-apiserver
	Flag string `json:"flag"` // etcd-servers
	URL  string `json:"url"`  // as it is written there
}

// Mentions are where the API servers and the etcds of this machine name a URL of etcd: --etcd-servers, initial-cluster. http and https, and a slash at
// the end, make no difference.
func (m *Machine) Mentions(wanted string) []Mention {
	var all []Mention
	for i := range m.Parts {
		p := &m.Parts[i]
		for _, flag := range []string{"etcd-servers", "etcd-servers-overrides"} {
			for _, u := range strings.FieldsFunc(p.Flags[flag].Value, func(r rune) bool { return strings.ContainsRune(",;#", r) }) {
				if samePlace(u, wanted) {
					all = append(all, Mention{File: p.Flags[flag].Source, Name: p.Name, Flag: flag, URL: u})
				}
			}
		}
	}
	for i := range m.Etcds {
		e := &m.Etcds[i]
		for _, urls := range e.InitialCluster() {
			for _, u := range urls {
				if samePlace(u, wanted) {
					all = append(all, Mention{File: e.Settings["initial-cluster"].Source, Name: e.Name, Flag: "initial-cluster", URL: u})
				}
			}
		}
	}
	slices.SortFunc(all, func(a, b Mention) int { return strings.Compare(a.File+a.Flag+a.URL, b.File+b.Flag+b.URL) })
	return slices.Compact(all)
}

// samePlace says whether two URLs lead to the same host and port.
func samePlace(a, b string) bool {
	x, errX := url.Parse(strings.TrimSpace(a))
	y, errY := url.Parse(strings.TrimSpace(b))
	return errX == nil && errY == nil && x.Host != "" && strings.EqualFold(x.Host, y.Host)
}

// SetEtcdServers changes which etcd an API server asks. It keeps files, reads back what it wrote and undoes it as Configure does. The kubelet starts a
// static pod anew by itself; a unit is for Control.Reload and Restart.
func (m *Machine) SetEtcdServers(p *Part, urls []string, tag string) ([]Edit, error) {
	const flag = "etcd-servers"
	changes := map[string]string{flag: strings.Join(urls, ",")}
	if err := m.Refuse(Other); err != nil {
		return nil, err
	}
	if err := checkChanges(changes, tag); err != nil {
		return nil, err
	}
	if len(urls) == 0 {
		return nil, errors.New("an API server without etcd would not start")
	}
	before, err := m.againPart(p)
	if err != nil {
		return nil, err
	}
	if before.Flags[flag].place.repeated {
		return nil, fail.Refused(fmt.Errorf("--%s is given several times to %s, which adds them up", flag, p.where()), "write them into one flag, then repeat the command")
	}
	now := before
	if before.Flags[flag].Value != changes[flag] {
		if err = m.setPart(before, flag, changes[flag], tag); err == nil {
			now, err = m.againPart(p)
		}
	}
	edits := m.partEdits(before, tag)
	if err == nil && (now.Flags[flag].Value != changes[flag] || !sameSettings(before.Flags, now.Flags, flag)) {
		err = errors.New("it would not see exactly what was written")
	}
	if err != nil {
		return nil, fmt.Errorf("change --%s of %s: %w", flag, p.where(), errors.Join(err, m.Undo(edits)))
	}
	*p = *now
	return edits, nil
}

func (m *Machine) setPart(p *Part, flag, value, tag string) error {
	if p.Kind == StaticPod {
		return m.change(p.File(), tag, func(text []byte) ([]byte, error) { return setPod(text, &p.Workload, flag, p.Flags[flag], value) })
	}
	u, err := newUnitEdit(m, &p.Workload)
	if err != nil {
		return err
	}
	if err := u.set(flag, p.Flags[flag], value, false); err != nil {
		return err
	}
	return u.write(tag)
}

func (m *Machine) againPart(p *Part) (*Part, error) {
	fresh := Detect(m.Root)
	for i := range fresh.Parts {
		now := &fresh.Parts[i]
		if now.Name == p.Name && now.Program == p.Program && now.Unit == p.Unit && now.Manifest == p.Manifest {
			if now.Unread != nil {
				return nil, fmt.Errorf("the flags of %s cannot be told: %w", p.where(), now.Unread)
			}
			return now, nil
		}
	}
	return nil, fmt.Errorf("%s is gone", p.where())
}

func (m *Machine) partEdits(p *Part, tag string) []Edit {
	return m.editsOf(&Etcd{Workload: p.Workload}, nil, tag)
}
