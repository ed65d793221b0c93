package host

import (
	"bytes"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"etcd-steward/internal/host/tree"
	"etcd-steward/internal/host/unit"
)

// programs are what is looked for.
var programs = map[string]bool{"etcd": true, "kube-apiserver": true, "kube-controller-manager": true, "kube-scheduler": true}

// maxServices bounds how many units are looked at.
const maxServices = 4096

// units looks at every service of the machine.
func (f *finder) units() {
	names := unit.Services(f.Tree)
	for _, name := range names[:min(len(names), maxServices)] {
		s, err := unit.Load(f.Tree, name)
		if tree.Missing(err) && s.Path == "" {
			continue
		}
		if err != nil {
			if strings.Contains(name, "etcd") || programs[strings.TrimSuffix(name, ".service")] {
				f.problem(s.Files()[max(len(s.Files())-1, 0)], err)
			}
			continue
		}
		f.service(s)
	}
}

// service takes in a unit if it runs one of the programs.
func (f *finder) service(s *unit.Service) {
	sp := unit.NewSpecifiers(s.Name, f.hostname)
	env, files := s.Environment(f.Tree, sp)
	cmd, err := s.Command(env, sp)
	if err != nil {
		if f.suspect(s) {
			f.problem(s.Path, err)
		}
		return
	}
	dir, err := sp.Expand(strings.TrimPrefix(unit.Last(s.Entries, "Service", "WorkingDirectory"), "-"))
	if err != nil || !path.IsAbs(dir) {
		dir = "/"
	}
	w := Workload{
		Name: strings.TrimSuffix(s.Name, ".service"), Kind: Unit, Unit: s.Name, Held: s.Masked || held(s),
		User: unit.Last(s.Entries, "Service", "User"), Group: unit.Last(s.Entries, "Service", "Group"), Files: s.Files(),
		unit: &unitState{service: s, command: cmd, env: env, files: files, workingDir: dir},
	}
	for _, file := range files {
		if file.Err == nil {
			w.Files = append(w.Files, file.Path)
		}
	}
	g, ok, err := f.command(&w)
	if err != nil {
		if w.Program == "etcd" || strings.Contains(s.Name, "etcd") {
			f.problem(s.Path, err)
		}
		return
	}
	if !ok {
		if program := f.wrapped(s); program != "" && w.Program != "etcd" {
			f.problem(s.Path, fmt.Errorf("it seems to run %s by a way that is not understood", program))
		}
		return
	}
	for _, file := range files {
		if file.Err != nil && (!file.Optional || !tree.Missing(file.Err)) {
			f.unread(&w, file.Path, file.Err)
		}
	}
	f.take(w, g)
}

// suspect says whether a unit that is not understood seems to run one of the programs.
func (f *finder) suspect(s *unit.Service) bool {
	for _, e := range unit.List(s.Entries, "Service", "ExecStart") {
		for _, word := range strings.FieldsFunc(e.Value, func(r rune) bool { return strings.ContainsRune(" \t'\"", r) }) {
			if programs[path.Base(strings.TrimLeft(word, "@-:+!|"))] {
				return true
			}
		}
	}
	return false
}

// wrapped is the program that a unit seems to run by another one, as in "nice -n -5 /usr/bin/etcd"; a word in a folder for programs says so, where others may be data.
func (f *finder) wrapped(s *unit.Service) string {
	for _, e := range unit.List(s.Entries, "Service", "ExecStart") {
		words, _ := unit.Words(e.Value)
		for _, w := range words[min(1, len(words)):] {
			if programs[path.Base(w.Text)] && strings.HasSuffix(path.Dir(w.Text), "bin") {
				return w.Text
			}
		}
	}
	return ""
}

// unread notes a file of a workload that could not be read. One that is missing says nothing, and so leaves nothing unclear.
func (f *finder) unread(w *Workload, file string, err error) {
	f.problem(file, err)
	if !tree.Missing(err) {
		w.Unread = fmt.Errorf("read %s: %w", file, err)
	}
}

// command finds out which program a unit runs in the end: itself, in a container, through a shell or through a script. ok is false for one that is not looked for.
func (f *finder) command(w *Workload) (g given, ok bool, err error) {
	u := w.unit
	g.env = Settings{}
	for name, v := range u.env {
		kind := inUnit
		if v.EnvFile {
			kind = inEnvFile
		}
		g.env[name] = Setting{Value: v.Value, Source: v.File, place: place{kind: kind, name: name}}
	}
	args := u.arguments(g.env)
	program := path.Base(args[0].text)
	if program == "env" {
		args, program = afterEnv(args)
	}
	switch {
	case runtimes[program]:
		return f.run(w, g, args)
	case program == "sh" || program == "bash" || program == "dash":
		for i := 1; i+1 < len(args); i++ {
			if strings.HasPrefix(args[i].text, "-") && strings.HasSuffix(args[i].text, "c") {
				return f.script(w, g, args[i+1].text, u.command.Entry.File, args[i+2:])
			}
		}
		return g, false, nil
	case programs[program] || strings.Contains(program, "etcd"):
		if text, err := f.Read(args[0].text); err == nil && bytes.HasPrefix(text, []byte("#!")) && bytes.Contains(text[:min(64, len(text))], []byte("sh")) {
			w.Files = append(w.Files, args[0].text)
			g, ok, err = f.script(w, g, string(text), args[0].text, args[1:])
			if err == nil && !ok && programs[program] {
				err = errors.New("it runs " + args[0].text + ", a script which is not understood")
				w.Program = program
			}
			return g, ok, err
		}
	}
	w.Program, g.args = program, args[1:]
	return g, programs[program], nil
}

// afterEnv steps over env(1) and the variables it is given.
func afterEnv(args []argument) ([]argument, string) {
	for len(args) > 1 {
		args = args[1:]
		if !isAssignment(args[0].text) {
			break
		}
	}
	return args, path.Base(args[0].text)
}

// arguments are the unit's, with the place of each. A word that is --flag=${ITS_VARIABLE} is said where the variable is.
func (u *unitState) arguments(env Settings) []argument {
	args := make([]argument, 0, len(u.command.Args))
	for _, a := range u.command.Args {
		arg := argument{text: a.Text, source: u.command.Entry.File, place: place{kind: inCommand, word: a.Word}}
		if len(a.Variables) > 0 {
			arg.place.kind, arg.place.name, arg.place.part = inVariable, a.Variables[0], a.Part
			if s, ok := env[a.Variables[0]]; ok {
				arg.source, arg.place.inner = s.Source, s.place.kind
				_, value, found := strings.Cut(a.Word.Text, "=")
				if !found {
					value = a.Word.Text
				}
				if value == "${"+a.Variables[0]+"}" {
					arg.place = s.place
				}
			}
		}
		args = append(args, arg)
	}
	return args
}

// run is a unit that runs a container.
func (f *finder) run(w *Workload, g given, args []argument) (given, bool, error) {
	run, ok := parseRun(args)
	if !ok {
		return g, false, nil
	}
	program, rest := run.program()
	if !programs[program] {
		return g, false, nil
	}
	w.Program, w.Container, w.Image, w.Mounts = program, true, run.image, run.mounts
	env := Settings{} // a container sees none of the unit's own variables
	for _, file := range run.envFiles {
		text, err := f.Read(file)
		if err != nil {
			f.unread(w, file, err)
			w.unit.plainFiles = append(w.unit.plainFiles, file)
			continue
		}
		for _, a := range unit.PlainEnvFile(text) {
			env[a.Name] = Setting{Value: a.Value, Source: file, place: place{kind: inPlainFile, name: a.Name}}
		}
		w.unit.plainFiles = append(w.unit.plainFiles, file)
		if !slices.Contains(w.Files, file) {
			w.Files = append(w.Files, file)
		}
	}
	for _, name := range run.passed {
		if s, ok := g.env[name]; ok {
			env[name] = s
		}
	}
	for name, value := range run.env {
		env[name] = Setting{Value: value, Source: args[0].source, place: place{kind: inScript, name: name}}
	}
	return given{args: rest, env: env}, true, nil
}

// script looks for the one command in a shell's text that runs a program.
func (f *finder) script(w *Workload, g given, text, source string, args []argument) (given, bool, error) {
	if len(text) > unit.MaxFile {
		return g, false, tree.ErrTooLong
	}
	outer := make([]string, 0, len(args))
	for _, a := range args {
		outer = append(outer, a.text)
	}
	sh := &shell{text: text, args: outer, env: func(name string) string { return g.env[name].Value }}
	var found []given
	before := *w
	for _, words := range sh.commands() {
		one := *w
		got, ok, err := f.shellCommand(&one, g, words, source)
		if err != nil {
			w.Program = "etcd"
			return g, false, err
		}
		if ok {
			found = append(found, got)
			before = one
		}
	}
	switch len(found) {
	case 0:
		return g, false, nil
	case 1:
		*w = before
		w.unit.fixed = true
		return found[0], true, nil
	}
	w.Program = "etcd"
	return g, false, errors.New("the shell's commands in " + source + " run it in several ways")
}

func (f *finder) shellCommand(w *Workload, g given, words []shellWord, source string) (given, bool, error) {
	args := make([]argument, 0, len(words))
	opaque := false
	for _, word := range words {
		a := argument{text: word.text, source: source, place: place{kind: inScript}}
		if s, ok := g.env[word.whole]; ok && word.whole != "" {
			a.source, a.place = s.Source, s.place
		}
		opaque = opaque || word.opaque
		args = append(args, a)
	}
	program, ok, err := path.Base(args[0].text), false, error(nil)
	if runtimes[program] {
		g, ok, err = f.run(w, g, args)
	} else if ok = programs[program]; ok {
		w.Program, g.args = program, args[1:]
	}
	if ok && opaque {
		return g, false, errors.New("what the shell in " + source + " gives it cannot be told from files")
	}
	return g, ok, err
}
