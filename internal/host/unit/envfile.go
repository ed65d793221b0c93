package unit

import "strings"

// Assignment is one variable of an environment file, and the bytes from the beginning of its name to the end of its value.
type Assignment struct {
	Name, Value string
	Start, End  int
}

// EnvFile reads a file as EnvironmentFile= does: # and ; begin comments, quotes as a shell's, a backslash before the end of a line continues it. Nothing is
// expanded. Names that no variable can have are left out.
func EnvFile(text []byte) []Assignment {
	p := envParser{text: string(text)}
	for p.i < len(p.text) {
		p.line()
	}
	return p.all
}

type envParser struct {
	text string
	i    int
	all  []Assignment
}

// line reads one comment, assignment or line without meaning.
func (p *envParser) line() {
	for p.i < len(p.text) && strings.IndexByte(whitespace, p.text[p.i]) >= 0 {
		p.i++
	}
	if p.i == len(p.text) {
		return
	}
	start := p.i
	rest := p.text[start:]
	eol := strings.IndexAny(rest, "\n\r")
	if eol < 0 {
		eol = len(rest)
	}
	name, _, found := strings.Cut(rest[:eol], "=")
	if rest[0] == '#' || rest[0] == ';' || !found {
		p.i += eol
		return
	}
	p.i += len(name) + 1
	name = strings.TrimRight(name, whitespace)
	value := p.value()
	if validName(name) {
		p.all = append(p.all, Assignment{Name: name, Value: value, Start: start, End: p.i})
	}
}

// value reads up to the end of the line. Several quoted parts are one value.
func (p *envParser) value() string {
	var out []byte
	keep := 0 // so much of out does not end in white space that is to be cut off
	blank := true
	for ; p.i < len(p.text); p.i++ {
		switch c := p.text[p.i]; {
		case c == '\n' || c == '\r':
			return string(out[:keep])
		case c == '\\':
			blank = false
			if p.i++; p.i < len(p.text) && p.text[p.i] != '\n' && p.text[p.i] != '\r' {
				out = append(out, p.text[p.i])
			}
			keep = len(out)
		case blank && (c == '\'' || c == '"'):
			// White space between a quoted part and what follows it is dropped, as systemd does.
			out = p.quoted(out[:keep], c)
			keep = len(out)
		case strings.IndexByte(whitespace, c) >= 0:
			if !blank {
				out = append(out, c)
			}
		default:
			blank = false
			out = append(out, c)
			keep = len(out)
		}
	}
	p.i = len(p.text) // a quote or a backslash may have looked behind it
	return string(out[:keep])
}

// quoted reads to the closing quote and leaves p.i on it. A quote that is never closed ends with the file.
func (p *envParser) quoted(out []byte, quote byte) []byte {
	for p.i++; p.i < len(p.text); p.i++ {
		c := p.text[p.i]
		switch {
		case c == quote:
			return out
		case c == '\\' && quote == '"':
			if p.i++; p.i == len(p.text) {
				return out
			}
			if next := p.text[p.i]; strings.IndexByte("\"\\`$", next) >= 0 {
				out = append(out, next)
			} else if next != '\n' {
				out = append(out, '\\', next)
			}
		default:
			out = append(out, c)
		}
	}
	return out
}

func validName(name string) bool {
	for i := range len(name) {
		c := name[i]
		if c != '_' && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return name != ""
}

// PlainEnvFile reads a file as container runtimes read --env-file: a line is a name and, literally, a value.
func PlainEnvFile(text []byte) []Assignment {
	var all []Assignment
	at := 0
	for raw := range strings.Lines(string(text)) {
		line := strings.TrimRight(raw, "\r\n")
		lead := len(line) - len(strings.TrimLeft(line, " \t"))
		name, value, found := strings.Cut(line[lead:], "=")
		if found && validName(name) {
			all = append(all, Assignment{Name: name, Value: value, Start: at + lead, End: at + len(line)})
		}
		at += len(raw)
	}
	return all
}

// EnvLine writes an assignment so that both EnvFile and PlainEnvFile read it back, when the value allows it: then both is true; else only EnvFile does.
func EnvLine(name, value string) (line string, both bool) {
	if value != "" && !strings.ContainsAny(value, " \t\r\n\"'\\`$") {
		return name + "=" + value, true
	}
	if value == "" {
		return name + "=", true
	}
	quoted := strings.NewReplacer(`"`, `\"`, `\`, `\\`, "`", "\\`", "$", `\$`).Replace(value)
	return name + `="` + quoted + `"`, false
}
