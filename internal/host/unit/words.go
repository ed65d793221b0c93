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
}

// ErrQuotes is the error of a value whose quotes are not balanced: systemd ignores all of it.
var ErrQuotes = errors.New("unbalanced quotes")

// Words splits a value as systemd does for ExecStart= and Environment=: at white space, with quotes anywhere and C's escapes.
func Words(value string) ([]Word, error) {
	var words []Word
	for i := 0; ; {
		for i < len(value) && strings.IndexByte(whitespace, value[i]) >= 0 {
			i++
		}
		if i == len(value) {
			return words, nil
		}
		w, err := firstWord(value, i)
		if err != nil {
			return nil, err
		}
		words = append(words, w)
		i = w.End
	}
}

func firstWord(value string, start int) (Word, error) {
	var text strings.Builder
	var quote byte
	i := start
	for i < len(value) {
		c := value[i]
		switch {
		case c == '\\':
			n := unescape(&text, value[i:])
			i += n
			continue
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '\'' || c == '"'):
			quote = c
		case quote == 0 && strings.IndexByte(whitespace, c) >= 0:
			return Word{Text: text.String(), Start: start, End: i}, nil
		default:
			text.WriteByte(c)
		}
		i++
	}
	if quote != 0 {
		return Word{}, ErrQuotes
	}
	return Word{Text: text.String(), Start: start, End: i}, nil
}

var simpleEscapes = map[byte]byte{
	'a': '\a', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t', 'v': '\v', '\\': '\\', '"': '"', '\'': '\'', 's': ' ',
}

// unescape writes what the escape at the beginning of s stands for, and says how long it is. An unknown one stands for itself, as it does for systemd.
func unescape(to *strings.Builder, s string) int {
	if len(s) < 2 {
		to.WriteByte('\\')
		return 1
	}
	if c, ok := simpleEscapes[s[1]]; ok {
		to.WriteByte(c)
		return 2
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
				return from + digits
			}
		case n <= 255:
			to.WriteByte(byte(n))
			return from + digits
		}
	}
	to.WriteByte('\\')
	return 1
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
