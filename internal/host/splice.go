package host

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// A splice changes one value in a YAML text and leaves every other byte as it is. Where a value is written in a way that cannot be cut out (over several
// lines, with an anchor), errWhole says that the document has to be written anew.
var errWhole = errors.New("the value cannot be replaced where it stands")

// offset is where a node begins.
func offset(text []byte, line, column int) int {
	at := 0
	for ; line > 1; line-- {
		i := bytes.IndexByte(text[at:], '\n')
		if i < 0 {
			return len(text)
		}
		at += i + 1
	}
	for ; column > 1 && at < len(text); column-- {
		_, n := utf8.DecodeRune(text[at:])
		at += n
	}
	return at
}

// span is where in the text a scalar of one line stands, with its quotes.
func span(text []byte, n *yaml.Node) (start, end int, err error) {
	if n.Kind != yaml.ScalarNode || n.Anchor != "" {
		return 0, 0, errWhole
	}
	start = offset(text, n.Line, n.Column)
	rest := text[start:]
	if i := bytes.IndexByte(rest, '\n'); i >= 0 {
		rest = rest[:i]
	}
	switch {
	case n.Style == 0 || n.Style == yaml.FlowStyle:
		if bytes.HasPrefix(rest, []byte(n.Value)) {
			end = len(n.Value)
			break
		}
		return 0, 0, errWhole
	case n.Style&yaml.SingleQuotedStyle != 0 && len(rest) > 0 && rest[0] == '\'':
		for end = 1; end < len(rest); end++ {
			if rest[end] != '\'' {
				continue
			}
			if end+1 < len(rest) && rest[end+1] == '\'' {
				end++
				continue
			}
			break
		}
		end++
	case n.Style&yaml.DoubleQuotedStyle != 0 && len(rest) > 0 && rest[0] == '"':
		for end = 1; end < len(rest) && rest[end] != '"'; end++ {
			if rest[end] == '\\' {
				end++
			}
		}
		end++
	default:
		return 0, 0, errWhole
	}
	if end > len(rest) {
		return 0, 0, errWhole // it goes on in the next line
	}
	return start, start + end, nil
}

// splice replaces a scalar.
func splice(text []byte, n *yaml.Node, scalar string) ([]byte, error) {
	start, end, err := span(text, n)
	if err != nil {
		return nil, err
	}
	return cat(text[:start], []byte(scalar), text[end:]), nil
}

func cat(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// lineAt are the bounds of the line that an offset is in; end is behind its newline.
func lineAt(text []byte, at int) (start, end int) {
	start = bytes.LastIndexByte(text[:at], '\n') + 1
	end = len(text)
	if i := bytes.IndexByte(text[at:], '\n'); i >= 0 {
		end = at + i + 1
	}
	return start, end
}

// insertItem adds a scalar to a list, behind its last item.
func insertItem(text []byte, list *yaml.Node, scalar string) ([]byte, error) {
	if list == nil || list.Kind != yaml.SequenceNode || len(list.Content) == 0 {
		return nil, errWhole
	}
	last := list.Content[len(list.Content)-1]
	start, end, err := span(text, last)
	if err != nil {
		return nil, err
	}
	if list.Style&yaml.FlowStyle != 0 {
		return cat(text[:end], []byte(", "+scalar), text[end:]), nil
	}
	lineStart, lineEnd := lineAt(text, start)
	lead, ok := bytes.CutSuffix(bytes.TrimRight(text[lineStart:start], " "), []byte("-"))
	if !ok || len(bytes.Trim(lead, " ")) > 0 {
		return nil, errWhole // "- - a", or the dash stands with its key
	}
	return insertLine(text, lineEnd, string(text[lineStart:start])+scalar), nil
}

// insertLine puts a line at an offset where one begins, or behind a last line that does not end.
func insertLine(text []byte, at int, line string) []byte {
	if at > 0 && text[at-1] != '\n' {
		return cat(text[:at], []byte("\n"+line), text[at:])
	}
	return cat(text[:at], []byte(line+"\n"), text[at:])
}

// removeLines takes away the lines that hold nothing but the given scalars: list items, or a key with its value.
func removeLines(text []byte, nodes ...*yaml.Node) ([]byte, error) {
	for i := len(nodes) - 1; i >= 0; i-- {
		start, end, err := span(text, nodes[i])
		if err != nil {
			return nil, err
		}
		lineStart, lineEnd := lineAt(text, start)
		before := strings.TrimSpace(string(text[lineStart:start]))
		after := strings.TrimSpace(string(text[end:lineEnd]))
		if before != "-" || after != "" && !strings.HasPrefix(after, "#") {
			return nil, errWhole
		}
		text = cat(text[:lineStart], text[lineEnd:])
	}
	return text, nil
}

// removeKey takes away a key and its value when they stand alone in one line.
func removeKey(text []byte, key, value *yaml.Node) ([]byte, error) {
	start, _, err := span(text, key)
	if err != nil {
		return nil, err
	}
	end := start
	if value.Tag != "!!null" || value.Value != "" {
		if _, end, err = span(text, value); err != nil {
			return nil, err
		}
	}
	lineStart, lineEnd := lineAt(text, start)
	after := ""
	if end > start {
		after = strings.TrimSpace(string(text[end:lineEnd]))
	}
	if value.Line != key.Line || strings.TrimSpace(string(text[lineStart:start])) != "" || after != "" && !strings.HasPrefix(after, "#") {
		return nil, errWhole
	}
	return cat(text[:lineStart], text[lineEnd:]), nil
}

// insertKey adds a key and its value to a block of keys: behind its last one when that is of one line, else before its first.
func insertKey(text []byte, block *yaml.Node, line string) ([]byte, error) {
	if block.Kind != yaml.MappingNode || block.Style&yaml.FlowStyle != 0 || len(block.Content) == 0 {
		return nil, errWhole
	}
	start, _, err := span(text, block.Content[0])
	if err != nil {
		return nil, err
	}
	at, firstEnd := lineAt(text, start)
	indent := text[at:start]
	if len(bytes.Trim(indent, " ")) > 0 {
		return nil, errWhole
	}
	last := block.Content[len(block.Content)-1]
	if valueStart, _, err := span(text, last); err == nil && last.Line == block.Content[len(block.Content)-2].Line {
		_, at = lineAt(text, valueStart)
	} else if len(block.Content) == 2 && last.Line == block.Content[0].Line {
		at = firstEnd
	}
	return insertLine(text, at, string(indent)+line), nil
}

// scalar writes a text as a YAML scalar of one line that is read back as that text.
func scalar(text string) string {
	out, err := yaml.Marshal(&yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text})
	if s := strings.TrimSuffix(string(out), "\n"); err == nil && !strings.Contains(s, "\n") && !strings.HasPrefix(s, "|") && !strings.HasPrefix(s, ">") {
		return s
	}
	return "\"" + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\t", `\t`).Replace(text) + "\""
}

// flowScalar is scalar for a list or mapping in brackets, where commas and brackets mean something.
func flowScalar(text string) string {
	s := scalar(text)
	if s != "" && s[0] != '"' && s[0] != '\'' && strings.ContainsAny(s, ",[]{}") {
		return "'" + strings.ReplaceAll(text, "'", "''") + "'"
	}
	return s
}

// rewrite writes a whole document anew, with its comments.
func rewrite(doc *yaml.Node) ([]byte, error) {
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	if err := enc.Encode(doc); err != nil {
		return nil, fmt.Errorf("write YAML: %w", err)
	}
	return out.Bytes(), enc.Close()
}
