package host

import (
	"bytes"
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

// dropInName sorts behind what people and packages call theirs, so that systemd reads it last.
const dropInName = "zz-steward.conf"

// unitEdit collects what has to be written for a unit: new texts of files, and the drop-in.
type unitEdit struct {
	m     *Machine
	w     *Workload
	texts map[string][]byte // by path
	// The drop-in, as it is and as it is to be.
	env   map[string]string
	unset map[string]bool
	exec  string // "" leaves the command to the other files
	other []unit.Entry
	dirty bool
}

func (m *Machine) dropInPath(unitName string) string {
	return path.Join("/etc/systemd/system", unitName+".d", dropInName)
}

func newUnitEdit(m *Machine, w *Workload) (*unitEdit, error) {
	u := &unitEdit{m: m, w: w, texts: map[string][]byte{}, env: map[string]string{}, unset: map[string]bool{}}
	text, err := m.tree().Read(m.dropInPath(w.Unit))
	if err != nil && !tree.Missing(err) {
		return nil, fmt.Errorf("read %s: %w", m.dropInPath(w.Unit), err)
	}
	sp := unit.NewSpecifiers(w.Unit, "")
	for _, e := range unit.Parse(text) {
		words, _ := unit.Words(e.Value)
		switch {
		case e.Section == "Service" && e.Name == "Environment":
			for _, word := range words {
				text, err := sp.Expand(word.Text)
				if name, value, ok := strings.Cut(text, "="); ok && err == nil {
					u.env[name] = value
				}
			}
		case e.Section == "Service" && e.Name == "UnsetEnvironment":
			for _, word := range words {
				u.unset[word.Text] = true
			}
		case e.Section == "Service" && e.Name == "ExecStart":
			u.exec = e.Value
		default:
			u.other = append(u.other, e)
		}
	}
	return u, nil
}

// read is a file's text as it is to be, so far. One that does not exist is empty.
func (u *unitEdit) read(file string) ([]byte, error) {
	if text, ok := u.texts[file]; ok {
		return text, nil
	}
	text, err := u.m.tree().Read(file)
	if err != nil && !tree.Missing(err) {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	return text, nil
}

// set changes one flag of an etcd, or of a part when etcd is false: then there are no variables by the names of flags.
func (u *unitEdit) set(flag string, s Setting, value string, etcd bool) error {
	if etcd && value != "" && u.unset[variable(flag)] {
		delete(u.unset, variable(flag))
		u.dirty = true
	}
	switch s.place.kind {
	case inEnvFile, inPlainFile:
		return u.setVariable(s.Source, s.place.name, value, s.place.kind == inPlainFile)
	case inUnit:
		u.setEnvironment(s.place.name, value)
		return nil
	case inCommand:
		return u.setCommand(flag, s, value)
	case inVariable:
		return u.setInVariable(flag, s, value)
	case inScript:
		return refuseShell(flag, s.Source)
	}
	return u.add(flag, value, etcd)
}

// add says a setting that nothing says yet.
func (u *unitEdit) add(flag, value string, etcd bool) error {
	switch state := u.w.unit; {
	case value == "":
		return nil
	case u.w.Container && len(state.plainFiles) > 0 && etcd:
		return u.setVariable(state.plainFiles[0], variable(flag), value, true)
	case (u.w.Container || !etcd) && !state.fixed:
		u.setExec(state.command.Entry.Value + " " + unit.Quote("--"+flag+"="+value, true))
		return nil
	case u.w.Container || !etcd:
		return refuseShell(flag, u.w.File())
	case u.settingsFile() != "":
		return u.setVariable(u.settingsFile(), variable(flag), value, false)
	}
	u.setEnvironment(variable(flag), value)
	return nil
}

// settingsFile is the environment file that etcd's settings are put into: the last one that has some already, else the last that the unit names.
func (u *unitEdit) settingsFile() string {
	best, last := "", ""
	for _, f := range u.w.unit.files {
		last = f.Path
		for _, v := range u.w.unit.env {
			if v.EnvFile && v.File == f.Path {
				best = f.Path
			}
		}
	}
	if best != "" {
		return best
	}
	return last
}

func (u *unitEdit) setEnvironment(name, value string) {
	if value == "" {
		delete(u.env, name)
		u.unset[name] = true
	} else {
		u.env[name] = value
	}
	u.dirty = true
}

func (u *unitEdit) setExec(command string) {
	u.exec = command
	u.w.unit.command.Entry.Value = command // what the next flag is added to
	u.dirty = true
}

// setVariable changes a variable where an environment file says it, or adds it at its end; an empty value takes away every line that says it.
func (u *unitEdit) setVariable(file, name, value string, plain bool) error {
	text, err := u.read(file)
	if err != nil {
		return err
	}
	u.texts[file] = setVariable(text, name, value, plain)
	return nil
}

func setVariable(text []byte, name, value string, plain bool) []byte {
	parse := unit.EnvFile
	line, _ := unit.EnvLine(name, value)
	if plain {
		parse, line = unit.PlainEnvFile, name+"="+value
	}
	all := parse(text)
	if value == "" {
		for _, a := range slices.Backward(all) {
			if a.Name != name {
				continue
			}
			start, _ := lineAt(text, a.Start)
			_, end := lineAt(text, a.End)
			if strings.TrimSpace(string(text[start:a.Start])) != "" {
				start = a.Start
			}
			text = cat(text[:start], text[end:])
		}
		return text
	}
	for _, a := range slices.Backward(all) {
		if a.Name == name {
			return cat(text[:a.Start], []byte(line), text[a.End:])
		}
	}
	return insertLine(text, len(text), line)
}

// setCommand changes a flag that is a word of ExecStart= itself.
func (u *unitEdit) setCommand(flag string, s Setting, value string) error {
	command := u.w.unit.command.Entry.Value
	words, err := unit.Words(command)
	if err != nil {
		return fmt.Errorf("ExecStart=: %w", err)
	}
	at := -1
	for i, now := range words {
		if now.Text == s.place.word.Text && (at < 0 || now.Start == s.place.word.Start || at >= 0 && words[at].Start != s.place.word.Start) {
			at = i
		}
	}
	if at < 0 || s.place.next > 0 && (at+1 == len(words) || words[at+1].Text != s.place.nextWord.Text) {
		return errMoved
	}
	word, end := words[at], words[at].End
	if s.place.next > 0 {
		end = words[at+1].End
	}
	fresh := ""
	if value != "" {
		fresh = unit.Quote("--"+flag+"="+value, true)
	}
	u.setExec(strings.TrimRight(command[:word.Start]+fresh+command[end:], " "))
	return nil
}

// errMoved: an earlier change moved the word. The next round finds it.
var errMoved = errors.New("the word has moved")

// setInVariable changes a flag in the value of a variable that ExecStart= names.
func (u *unitEdit) setInVariable(flag string, s Setting, value string) error {
	v, ok := u.w.unit.env[s.place.name]
	if s.place.part == nil || s.place.next > 0 || !ok {
		return fail.Refused(fmt.Errorf("%s is put together from variables in %s, which is not rewritten", flag, s.Source), "change it by hand, then repeat the command")
	}
	fresh := ""
	if value != "" {
		fresh = unit.Quote("--"+flag+"="+value, false)
		fresh = strings.ReplaceAll(fresh, "%%", "%") // no specifiers in a variable's value
	}
	part := s.place.part
	text := strings.TrimSpace(v.Value[:part.Start] + fresh + v.Value[part.End:])
	if v.EnvFile {
		return u.setVariable(v.File, s.place.name, text, false)
	}
	u.env[s.place.name] = text
	u.dirty = true
	return nil
}

// dropIn is the drop-in's text.
func (u *unitEdit) dropIn() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# Written by steward. Files as they were before stand beside it, with .steward- in their names.\n")
	section := ""
	for _, e := range u.other {
		if e.Section != section {
			section = e.Section
			fmt.Fprintf(&b, "[%s]\n", section)
		}
		fmt.Fprintf(&b, "%s=%s\n", e.Name, e.Value)
	}
	fmt.Fprintf(&b, "[Service]\n")
	for _, name := range slices.Sorted(maps.Keys(u.env)) {
		fmt.Fprintf(&b, "Environment=%s\n", unit.Quote(name+"="+u.env[name], false))
	}
	for _, name := range slices.Sorted(maps.Keys(u.unset)) {
		if _, set := u.env[name]; !set {
			fmt.Fprintf(&b, "UnsetEnvironment=%s\n", name)
		}
	}
	if u.exec != "" {
		fmt.Fprintf(&b, "ExecStart=\nExecStart=%s\n", u.exec)
	}
	return b.Bytes()
}

// write writes all files.
func (u *unitEdit) write(tag string) error {
	for _, file := range slices.Sorted(maps.Keys(u.texts)) {
		if err := u.m.replace(file, u.texts[file], 0o640, tag); err != nil {
			return err
		}
	}
	if !u.dirty {
		return nil
	}
	return u.m.replace(u.m.dropInPath(u.w.Unit), u.dropIn(), 0o644, tag)
}
