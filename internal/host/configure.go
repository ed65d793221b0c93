package host

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"etcd-steward/internal/host/tree"
)

// maxRounds bounds how often files are read and changed until they say what they should: once for every place that hides another one.
const maxRounds = 8

// Configure changes settings of an etcd where that etcd takes them from: its environment file, its YAML file, its manifest, else a drop-in of its unit
// (zz-steward.conf, which systemd reads last). An empty value takes a setting away. What else the files say stays as it is, in its order, with comments. Files that it
// changes are kept as they were (beside, with ".steward-" + tag in their names; those of static pods in a folder beside the kubelet's). The edits are the same
// when it is called again with the same tag, also after a crash in the middle. What it wrote is read back: when etcd would not see exactly the changes, everything is
// undone and it is an error. e is brought up to date. systemd needs to be told of changed units: Control.Reload.
func (m *Machine) Configure(e *Etcd, changes map[string]string, tag string) ([]Edit, error) {
	if err := m.Refuse(Other); err != nil {
		return nil, err
	}
	if err := checkChanges(changes, tag); err != nil {
		return nil, err
	}
	before, err := m.again(e)
	if err != nil {
		return nil, err
	}
	now := before
	for range maxRounds + len(changes) {
		open := differences(now.Settings, changes)
		if len(open) == 0 {
			break
		}
		if err = m.round(now, open, changes, tag); err != nil {
			break
		}
		if now, err = m.again(e); err != nil {
			break
		}
	}
	edits := m.editsOf(before, now, tag)
	if err == nil && (len(differences(now.Settings, changes)) > 0 || !sameSettings(before.Settings, now.Settings, slices.Collect(maps.Keys(changes))...)) {
		err = errors.New("etcd would not see exactly what was written")
	}
	if err != nil {
		return nil, fmt.Errorf("configure %s: %w", e.where(), errors.Join(err, m.Undo(edits)))
	}
	*e = *now
	return edits, nil
}

// checkChanges: whatever is in a value stands in one line.
func checkChanges(changes map[string]string, tag string) error {
	if tag == "" || strings.ContainsAny(tag, "/\x00\n ") {
		return fmt.Errorf("configure: %q cannot be a part of a file's name", tag)
	}
	for flag, value := range changes {
		if flag == "" || flag == "config-file" || strings.Trim(flag, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return fmt.Errorf("configure: %q is no flag that can be changed", flag)
		}
		if strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f || r == 0xfffd }) {
			return fmt.Errorf("configure: the value of %s holds a control character", flag)
		}
	}
	return nil
}

// again is the same etcd as its files say now.
func (m *Machine) again(e *Etcd) (*Etcd, error) {
	fresh := Detect(m.Root)
	for i := range fresh.Etcds {
		now := &fresh.Etcds[i]
		if now.Name == e.Name && now.Unit == e.Unit && now.Manifest == e.Manifest {
			if now.Unclear != nil {
				return nil, fmt.Errorf("its settings cannot be told: %w", now.Unclear)
			}
			return now, nil
		}
	}
	return nil, fmt.Errorf("%s is gone", e.where())
}

// differences are the flags whose value is not what it should be, sorted.
func differences(now Settings, changes map[string]string) []string {
	var open []string
	for flag, want := range changes {
		if now[flag].Value != want {
			open = append(open, flag)
		}
	}
	slices.Sort(open)
	return open
}

// round changes everything once, as the files are now.
func (m *Machine) round(e *Etcd, open []string, changes map[string]string, tag string) error {
	switch {
	case e.Config != "":
		return m.change(e.Config, tag, func(text []byte) ([]byte, error) {
			for _, flag := range open {
				var err error
				if text, err = setYAML(text, flag, changes[flag]); err != nil {
					return nil, err
				}
			}
			return text, nil
		})
	case e.Kind == StaticPod:
		return m.change(e.File(), tag, func(text []byte) ([]byte, error) { return m.setPod(text, e, open, changes) })
	}
	u, err := newUnitEdit(m, &e.Workload)
	if err != nil {
		return err
	}
	for _, flag := range open {
		if err := u.set(flag, e.Settings[flag], changes[flag], true); errors.Is(err, errMoved) {
			break // the next round
		} else if err != nil {
			return err
		}
	}
	return u.write(tag)
}

// setPod changes flags in a manifest's text, one after another, each found anew: a change moves what stands behind it.
func (m *Machine) setPod(text []byte, e *Etcd, open []string, changes map[string]string) ([]byte, error) {
	for range maxRounds * len(open) {
		f := &finder{Tree: m.tree(), m: &Machine{Root: m.Root, Manifests: m.Manifests}}
		if err := f.manifest(text, e.File(), e.Manifest, map[string]bool{}); err != nil {
			return nil, err
		}
		i := slices.IndexFunc(f.m.Etcds, func(now Etcd) bool { return now.at == e.at })
		if i < 0 {
			return nil, errors.New("the manifest's etcd is gone")
		}
		now := &f.m.Etcds[i]
		open = differences(now.Settings, changes)
		if len(open) == 0 {
			break
		}
		var err error
		if text, err = setPod(text, &now.Workload, open[0], now.Settings[open[0]], changes[open[0]]); err != nil {
			return nil, err
		}
	}
	return text, nil
}

// change rewrites one file; one that does not exist is empty.
func (m *Machine) change(file, tag string, f func([]byte) ([]byte, error)) error {
	text, err := m.tree().Read(file)
	if err != nil && !tree.Missing(err) {
		return fmt.Errorf("read %s: %w", file, err)
	}
	if text, err = f(text); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return m.replace(file, text, 0o644, tag)
}

// editsOf are the files of an etcd that were changed under a tag, by this call or an earlier one.
func (m *Machine) editsOf(before, now *Etcd, tag string) []Edit {
	files := slices.Clone(before.Files)
	if now != nil {
		files = append(files, now.Files...)
	}
	if before.Config != "" {
		files = append(files, before.Config)
	}
	if before.unit != nil {
		files = append(files, m.dropInPath(before.Unit))
		files = append(files, before.unit.plainFiles...)
		for _, f := range before.unit.files {
			files = append(files, f.Path)
		}
	}
	slices.Sort(files)
	var edits []Edit
	for _, file := range slices.Compact(files) {
		if e, ok := m.edited(file, tag); ok && !slices.Contains(edits, e) {
			edits = append(edits, e)
		}
	}
	return edits
}
