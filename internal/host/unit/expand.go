package unit

import (
	"fmt"
	"strings"
)

// Specifiers are what % and a letter stand for in a unit's values.
type Specifiers map[byte]string

// NewSpecifiers are those of a system unit.
func NewSpecifiers(unit, hostname string) Specifiers {
	name, _, _ := strings.Cut(unit, ".service")
	prefix, instance, _ := strings.Cut(name, "@")
	short, _, _ := strings.Cut(hostname, ".")
	return Specifiers{
		'%': "%", 'n': unit, 'N': name, 'p': prefix, 'P': unescapeName(prefix), 'i': instance, 'I': unescapeName(instance), 'H': hostname, 'l': short,
		't': "/run", 'S': "/var/lib", 'C': "/var/cache", 'L': "/var/log", 'E': "/etc", 'T': "/tmp", 'V': "/var/tmp", 'u': "root", 'U': "0", 'g': "root", 'G': "0",
		'h': "/root", 's': "/bin/bash",
	}
}

// unescapeName undoes systemd-escape(1) without --path: dashes are slashes, \xHH are bytes.
func unescapeName(s string) string {
	var out strings.Builder
	for i := 0; i < len(s); {
		switch s[i] {
		case '-':
			out.WriteByte('/')
			i++
		case '\\':
			n, _ := unescape(&out, s[i:])
			i += n
		default:
			out.WriteByte(s[i])
			i++
		}
	}
	return out.String()
}

// Expand puts in what specifiers stand for. One that is not known here is an error: its value depends on more than files.
func (s Specifiers) Expand(text string) (string, error) {
	var out strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] != '%' || i+1 == len(text) {
			out.WriteByte(text[i])
			continue
		}
		i++
		value, ok := s[text[i]]
		if !ok && (text[i] >= 'a' && text[i] <= 'z' || text[i] >= 'A' && text[i] <= 'Z') {
			return "", fmt.Errorf("the specifier %%%c is not known here", text[i])
		}
		if !ok {
			value = "%" + text[i:i+1]
		}
		out.WriteString(value)
	}
	return out.String(), nil
}

// Argument is one argument of a command line.
type Argument struct {
	Text string
	Word Word // that it comes from; several may come from one $VARIABLE
	// Variables were put in for it.
	Variables []string
	// Part is where in the value of a $VARIABLE that is a word of its own it stands.
	Part *Word
}

// Arguments expands a command line's words with the variables that the process is given: ${A} anywhere, and $A where it is a word of its own, which is split
// again. With the prefix ":" nothing is expanded.
func Arguments(words []Word, env map[string]string, s Specifiers, expand bool) ([]Argument, error) {
	var args []Argument
	for _, w := range words {
		text, err := s.Expand(w.Text)
		if err != nil {
			return nil, err
		}
		if !expand {
			args = append(args, Argument{Text: text, Word: w})
			continue
		}
		if text != "" && text[0] == '$' && (len(text) == 1 || text[1] != '{' && text[1] != '$') {
			for _, part := range variableWords(env[text[1:]]) {
				args = append(args, Argument{Text: part.Text, Word: w, Variables: []string{text[1:]}, Part: &part})
			}
			continue
		}
		text, used := braces(text, env)
		args = append(args, Argument{Text: text, Word: w, Variables: used})
	}
	return args, nil
}

// braces puts in the variables of ${A}; $$ is one dollar.
func braces(text string, env map[string]string) (string, []string) {
	var out strings.Builder
	var used []string
	for i := 0; i < len(text); i++ {
		if text[i] != '$' || i+1 == len(text) {
			out.WriteByte(text[i])
			continue
		}
		if text[i+1] == '$' {
			out.WriteByte('$')
			i++
			continue
		}
		end := -1
		if text[i+1] == '{' {
			end = strings.IndexByte(text[i:], '}')
		}
		if end < 0 {
			out.WriteByte('$')
			continue
		}
		name := text[i+2 : i+end]
		out.WriteString(env[name])
		used = append(used, name)
		i += end
	}
	return out.String(), used
}
