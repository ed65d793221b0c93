package unit

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"etcd-steward/internal/host/tree"
)

// Command is the command that a service runs.
type Command struct {
	Entry Entry // the ExecStart= that says so
	Words []Word
	// Args are the words with variables and specifiers put in; the first is the program.
	Args []Argument
}

// Variable is one variable of a service's environment.
type Variable struct {
	Value string
	File  string
	// EnvFile: an environment file says so, and not the unit or one of its drop-ins.
	EnvFile bool
}

// EnvironmentFile is one that a service reads.
type EnvironmentFile struct {
	Path     string
	Optional bool // its setting begins with a dash
	Err      error
}

// Environment is what a service's process is given, as far as its files say, and the files that were named. Err of a file that could not be read stands in it.
func (s *Service) Environment(t tree.Tree, sp Specifiers) (map[string]Variable, []EnvironmentFile) {
	env := map[string]Variable{}
	for _, e := range List(s.Entries, "Service", "Environment") {
		for _, w := range assignments(e.Value) {
			text, err := sp.Expand(w.Text)
			name, value, found := strings.Cut(text, "=")
			if err == nil && found && validName(name) {
				env[name] = Variable{Value: value, File: e.File}
			}
		}
	}
	files := s.environmentFiles(t, sp)
	for i, f := range files {
		text, err := t.Read(f.Path)
		if files[i].Err = err; err != nil {
			continue
		}
		for _, a := range EnvFile(text) {
			env[a.Name] = Variable{Value: a.Value, File: f.Path, EnvFile: true}
		}
	}
	for _, e := range List(s.Entries, "Service", "UnsetEnvironment") {
		for _, w := range assignments(e.Value) {
			name, value, found := strings.Cut(w.Text, "=")
			if v, ok := env[name]; ok && (!found || v.Value == value) {
				delete(env, name)
			}
		}
	}
	return env, files
}

func (s *Service) environmentFiles(t tree.Tree, sp Specifiers) []EnvironmentFile {
	var files []EnvironmentFile
	for _, e := range List(s.Entries, "Service", "EnvironmentFile") {
		name, err := sp.Expand(e.Value)
		if err != nil {
			continue
		}
		name, optional := strings.CutPrefix(name, "-")
		if !path.IsAbs(name) {
			continue
		}
		if !strings.ContainsAny(name, "*?[") {
			files = append(files, EnvironmentFile{Path: path.Clean(name), Optional: optional})
			continue
		}
		for _, match := range t.Glob(name) {
			files = append(files, EnvironmentFile{Path: match, Optional: optional})
		}
	}
	return files
}

// ErrNoCommand is the error of a service without ExecStart=.
var ErrNoCommand = errors.New("it has no ExecStart=")

// Command is what ExecStart= says. More than one command is an error: then it is not the command of a long-running service.
func (s *Service) Command(env map[string]Variable, sp Specifiers) (Command, error) {
	for _, e := range s.Entries {
		// One that cannot be read makes systemd refuse the unit, also when another one takes its place; but for those that begin with a dash.
		if _, err := Words(e.Value); err != nil && e.Section == "Service" && e.Name == "ExecStart" && !strings.HasPrefix(e.Value, "-") {
			return Command{Entry: e}, fmt.Errorf("ExecStart= in %s: %w", e.File, err)
		}
	}
	list := List(s.Entries, "Service", "ExecStart")
	if len(list) == 0 {
		return Command{}, ErrNoCommand
	}
	if len(list) > 1 {
		return Command{}, fmt.Errorf("it has %d ExecStart=", len(list))
	}
	c := Command{Entry: list[0]}
	words, err := Words(list[0].Value)
	if err != nil || len(words) == 0 {
		return c, fmt.Errorf("ExecStart= in %s: %w", c.Entry.File, err)
	}
	prefix := words[0].Text[:len(words[0].Text)-len(strings.TrimLeft(words[0].Text, "@-:+!|"))]
	words[0].Text = words[0].Text[len(prefix):]
	c.Words = words
	for _, w := range words {
		if w.Text == ";" {
			return c, errors.New("its ExecStart= has several commands")
		}
	}
	if strings.Contains(prefix, "@") && len(words) > 1 {
		words = append(words[:1:1], words[2:]...) // the second is what the process calls itself
	}
	values := make(map[string]string, len(env))
	for name, v := range env {
		values[name] = v.Value
	}
	if c.Args, err = Arguments(words, values, sp, !strings.Contains(prefix, ":")); err != nil {
		return c, fmt.Errorf("ExecStart= in %s: %w", c.Entry.File, err)
	}
	if len(c.Args) == 0 || c.Args[0].Text == "" {
		return c, errors.New("its ExecStart= names no program")
	}
	return c, nil
}
