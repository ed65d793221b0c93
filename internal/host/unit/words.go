package unit

import (
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Word is one word of a value, without its quotes and escapes, and where it stands in there.
type Word struct {
	Text       string
	Start, End int
	odd        bool // it has an escape that means nothing
}

// ErrQuotes is the error of a value whose quotes are not balanced: systemd ignores all of it.
var ErrQuotes = errors.New("unbalanced quotes")

// Words splits a value as systemd does for ExecStart=: at white space, with quotes anywhere and C's escapes.
func Words(value string) ([]Word, error) { return words(value, unescape) }

// words splits a value with its own reading of backslashes. With an error, the words before it are given as well.
func words(value string, escape func(*strings.Builder, string) (int, bool)) ([]Word, error) {
	var words []Word
	for i := 0; ; {
		for i < len(value) && strings.IndexByte(whitespace, value[i]) >= 0 {
			i++
		}
		if i == len(value) {
			return words, nil
		}
		w, err := firstWord(value, i, escape)
		if err != nil {
			return append(words, w), err
		}
		words = append(words, w)
		i = w.End
	}
}

// firstWord reads one word. Quotes that are not closed are an error, and end with the value.
func firstWord(value string, start int, escape func(*strings.Builder, string) (int, bool)) (Word, error) {
	var text strings.Builder
	var quote byte
	w := Word{Start: start}
	i := start
	for i < len(value) {
		c := value[i]
		switch {
		case c == '\\':
			n, ok := escape(&text, value[i:])
			w.odd = w.odd || !ok
			i += n
			continue
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '\'' || c == '"'):
			quote = c
		case quote == 0 && strings.IndexByte(whitespace, c) >= 0:
			w.Text, w.End = text.String(), i
			return w, nil
		default:
			text.WriteByte(c)
		}
		i++
	}
	w.Text, w.End = text.String(), i
	if quote != 0 {
		return w, ErrQuotes
	}
	return w, nil
}

// assignments are the words of Environment=. What stands behind a word that systemd does not understand is lost, that word included.
func assignments(value string) []Word {
	all, err := Words(value)
	if err != nil {
		all = all[:len(all)-1]
	}
	for i, w := range all {
		if w.odd {
			return all[:i]
		}
	}
	return all
}

// variableWords splits the value of a $VARIABLE that is a word of its own: a backslash stands for what follows it, and quotes may stay open.
func variableWords(value string) []Word {
	all, _ := words(value, func(to *strings.Builder, s string) (int, bool) {
		if len(s) > 1 {
			to.WriteByte(s[1])
		}
		return min(len(s), 2), true
	})
	return all
}

var simpleEscapes = map[byte]byte{
	'a': '\a', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t', 'v': '\v', '\\': '\\', '"': '"', '\'': '\'', 's': ' ',
}

// unescape writes what the escape at the beginning of s stands for, and says how long it is. One that means nothing stands for itself, and is not ok.
func unescape(to *strings.Builder, s string) (n int, ok bool) {
	if len(s) < 2 {
		to.WriteByte('\\')
		return 1, false
	}
	if c, ok := simpleEscapes[s[1]]; ok {
		to.WriteByte(c)
		return 2, true
	}
	from, digits, base := 2, 0, 16
	switch {
	case s[1] == 'x':
		digits = 2
	case s[1] == 'u':
		digits = 4
	case s[1] == 'U':
		digits = 8
	case s[1] >= '0' && s[1] <= '7':
		from, digits, base = 1, 3, 8
	}
	if digits > 0 && len(s) >= from+digits {
		n, err := strconv.ParseUint(s[from:from+digits], base, 32)
		switch {
		case err != nil || n == 0:
		case base == 16 && digits > 2:
			if utf8.ValidRune(rune(n)) {
				to.WriteRune(rune(n))
				return from + digits, true
			}
		case n <= 255:
			to.WriteByte(byte(n))
			return from + digits, true
		}
	}
	to.WriteByte('\\')
	return 1, false
}

// Quote writes a word so that systemd reads it back as it is: in ExecStart= (where $ and % mean something) when command is true, else in Environment=,
// where only % does.
func Quote(word string, command bool) string {
	word = strings.ReplaceAll(word, "%", "%%")
	if command {
		word = strings.ReplaceAll(word, "$", "$$")
	}
	plain := word != "" && word != ";" && strings.IndexFunc(word, func(r rune) bool {
		return r <= ' ' || r == 0x7f || strings.ContainsRune("\"'\\", r)
	}) < 0
	if plain {
		return word
	}
	var out strings.Builder
	out.WriteByte('"')
	for i := range len(word) {
		switch c := word[i]; {
		case c == '"' || c == '\\':
			out.WriteByte('\\')
			out.WriteByte(c)
		case c < ' ' || c == 0x7f:
			out.WriteString(`\x` + strconv.FormatUint(uint64(c)+0x100, 16)[1:])
		default:
			out.WriteByte(c)
		}
	}
	out.WriteByte('"')
	return out.String()
}
