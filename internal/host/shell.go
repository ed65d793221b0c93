package host

import "strings"

// shellWord is one word of a shell's command.
type shellWord struct {
	text string
	// opaque: it holds what only the shell can know, such as $(nproc).
	opaque bool
	// whole is the name of the variable that a part "=$NAME" at the word's end, or the word itself, consists of.
	whole string
}

// shell reads just enough of a shell's language to find the one command in a wrapper: words, quotes, variables, "$@", comments. It runs nothing, and what
// it does not understand it marks.
type shell struct {
	text string
	env  func(name string) string
	args []string // "$@"
	i    int
}

// commands are the simple commands of a text, without the variables that are set in front of them and without exec.
func (s *shell) commands() [][]shellWord {
	var all [][]shellWord
	var words []shellWord
	flush := func() {
		for len(words) > 0 && (words[0].text == "exec" || !strings.HasPrefix(words[0].text, "-") && isAssignment(words[0].text)) {
			words = words[1:]
		}
		if len(words) > 0 {
			all = append(all, words)
		}
		words = nil
	}
	for s.i < len(s.text) {
		switch c := s.text[s.i]; {
		case c == '\n' || strings.IndexByte(";|&(){}", c) >= 0:
			flush()
			s.i++
		case c == ' ' || c == '\t' || c == '\r':
			s.i++
		case strings.HasPrefix(s.text[s.i:], "\\\n"):
			s.i += 2
		case c == '#':
			if end := strings.IndexByte(s.text[s.i:], '\n'); end >= 0 {
				s.i += end
			} else {
				s.i = len(s.text)
			}
		default:
			words = append(words, s.word()...)
		}
	}
	flush()
	return all
}

func isAssignment(word string) bool {
	name, _, found := strings.Cut(word, "=")
	return found && name != "" && strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_0123456789") == ""
}

// word reads one word; "$@" is any number of them.
func (s *shell) word() []shellWord {
	var out strings.Builder
	w := shellWord{}
	all, quote, begin := false, byte(0), s.i
	for ; s.i < len(s.text); s.i++ {
		c := s.text[s.i]
		switch {
		case quote == 0 && (strings.IndexByte(" \t\r\n;|&", c) >= 0 || c == ')'):
			return s.finish(w, &out, all)
		case quote == 0 && (c == '\'' || c == '"'):
			quote = c
		case quote != 0 && c == quote:
			quote = 0
		case c == '\\' && quote != '\'':
			if s.i++; s.i < len(s.text) && s.text[s.i] != '\n' {
				if quote == '"' && strings.IndexByte("\"\\$`", s.text[s.i]) < 0 {
					out.WriteByte('\\')
				}
				out.WriteByte(s.text[s.i])
			}
		case c == '$' && quote != '\'':
			name, n := s.dollar()
			switch name {
			case "@", "*":
				all = true
			case "":
				w.opaque = true
			default:
				w.whole = ""
				if before := out.String(); before == "" || strings.HasSuffix(before, "=") {
					w.whole = name
				}
				out.WriteString(s.env(name))
			}
			s.i += n - 1
			continue
		case c == '`' && quote != '\'' || c == '(' && quote == 0 && s.i > begin:
			w.opaque = true
		default:
			out.WriteByte(c)
		}
		if c != '\'' && c != '"' {
			w.whole = ""
		}
	}
	return s.finish(w, &out, all)
}

func (s *shell) finish(w shellWord, out *strings.Builder, all bool) []shellWord {
	if all {
		words := make([]shellWord, 0, len(s.args))
		for _, a := range s.args {
			words = append(words, shellWord{text: a})
		}
		return words
	}
	w.text = out.String()
	return []shellWord{w}
}

// dollar reads what stands at a dollar: the name of a variable and how long it is; no name for what only a shell can know.
func (s *shell) dollar() (name string, n int) {
	rest := s.text[s.i+1:]
	switch {
	case rest == "":
		return "", 1
	case rest[0] == '{':
		end := strings.IndexByte(rest, '}')
		if end < 0 {
			return "", len(rest) + 1
		}
		name = rest[1:end]
		if name != "@" && !isAssignment(name+"=") {
			name = "" // ${A:-b} and its like
		}
		return name, end + 2
	case rest[0] == '(':
		depth := 0
		for i := range len(rest) {
			switch rest[i] {
			case '(':
				depth++
			case ')':
				if depth--; depth == 0 {
					return "", i + 2
				}
			}
		}
		return "", len(rest) + 1
	case rest[0] == '@' || rest[0] == '*':
		return rest[:1], 2
	}
	end := 0
	for end < len(rest) && isAssignment(rest[:end+1]+"=") {
		end++
	}
	if end == 0 {
		return "", 2
	}
	return rest[:end], end + 1
}
