package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxFile bounds the config file.
const maxFile = 1 << 20

// parser fills a Config from a YAML tree and notes the line of every field.
type parser struct {
	file     string
	origins  map[string]Origin
	problems Problems
}

// parse reads the file's text. It returns everything that is wrong with its shape, not only the first thing.
func (c *Config) parse(text []byte) error {
	p := parser{file: c.path, origins: c.origins}
	dec := yaml.NewDecoder(bytes.NewReader(text))
	var doc, more yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return nil // an empty file says nothing
	case err != nil:
		return p.syntax(err)
	}
	if err := dec.Decode(&more); !errors.Is(err, io.EOF) {
		p.problems.add(p.at(&more), "a second document begins here: the file may hold one")
		return p.problems.err()
	}
	p.value(doc.Content[0], reflect.ValueOf(c).Elem(), "")
	return p.problems.err()
}

func (p *parser) at(n *yaml.Node) Origin { return Origin{Kind: FromFile, Name: p.file, Line: n.Line} }

var (
	yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)$`)
	// The library counts lines from 0 in errors of its parser, as opposed to its scanner (yaml/v3 decode.go, parser.fail).
	fromZero = regexp.MustCompile(`^did not find expected (['<]|node content|key)`)
)

// syntax turns the YAML library's message into a problem with a line.
func (p *parser) syntax(err error) error {
	at, text := Origin{Kind: FromFile, Name: p.file, Line: 1}, err.Error()
	if m := yamlLine.FindStringSubmatch(text); m != nil {
		if n, err := strconv.Atoi(m[1]); err == nil {
			if at.Line = n; fromZero.MatchString(m[2]) {
				at.Line++
			}
		}
		text = m[2]
	}
	if strings.Contains(text, "cannot start any token") {
		text += ` (quote a value that begins with @ or with *: "@daily")`
	}
	p.problems.add(at, "%s", text)
	return p.problems.err()
}

// value puts a node into the field v at path.
func (p *parser) value(n *yaml.Node, v reflect.Value, path string) {
	p.origins[path] = p.at(n)
	switch {
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		p.problems.add(p.at(n), "%s is an anchor or an alias: write the value out", path)
	case n.Kind == yaml.ScalarNode && n.Tag == "!!null":
		p.problems.add(p.at(n), "%s is empty: give a value, or leave the field out", named(path))
	case v.Kind() == reflect.Struct:
		p.block(n, v, path)
	case isList(v):
		p.list(n, v, path)
	case v.Kind() == reflect.Slice:
		p.words(n, v, path)
	default:
		p.leaf(n, v, path)
	}
}

func named(path string) string {
	if path == "" {
		return "the file"
	}
	return path
}

// block reads a mapping into a struct.
func (p *parser) block(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.MappingNode {
		p.problems.add(p.at(n), "%s must be a block of fields: %s", named(path), strings.Join(fieldNames(v.Type()), ", "))
		return
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Kind != yaml.ScalarNode || key.Value == "" {
			p.problems.add(p.at(key), "%s has a field without a name", named(path))
			continue
		}
		field, known := fieldNamed(v, key.Value)
		switch first, again := seen[key.Value]; {
		case again:
			p.problems.add(p.at(key), "field %q is given twice, first in line %d", key.Value, first)
		case !known:
			p.unknown(key, v.Type(), path)
		default:
			p.value(value, field, join(path, key.Value))
			p.origins[join(path, key.Value)] = p.at(key)
		}
		seen[key.Value] = key.Line
	}
}

// unknown says what a field could have been.
func (p *parser) unknown(key *yaml.Node, t reflect.Type, path string) {
	known := fieldNames(t)
	text := fmt.Sprintf("unknown field %q", key.Value)
	if in := strings.TrimPrefix(anyCluster(path), "clusters[]."); path != "" {
		text += " in " + strings.TrimSuffix(strings.Replace(in, "clusters[]", "clusters", 1), ".")
	}
	if why := later[join(anyCluster(path), key.Value)]; why != "" {
		text += ": it " + why
	} else if near := nearest(key.Value, known); near != "" {
		text += fmt.Sprintf(" (did you mean %q?)", near)
	} else {
		text += ": known are " + strings.Join(slices.Sorted(slices.Values(known)), ", ")
	}
	p.problems.add(p.at(key), "%s", text)
}

// list reads a sequence of blocks.
func (p *parser) list(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.SequenceNode || len(n.Content) == 0 {
		p.problems.add(p.at(n), "%s must be a list of at least one block, each beginning with a dash", path)
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
	for i, entry := range n.Content {
		p.value(entry, v.Index(i), index(path, i))
	}
}

// words reads a sequence of plain values.
func (p *parser) words(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.SequenceNode || len(n.Content) == 0 {
		p.problems.add(p.at(n), "%s must be a list of at least one value: [a, b]", path)
		return
	}
	for _, entry := range n.Content {
		if entry.Kind != yaml.ScalarNode || entry.Tag == "!!null" || strings.TrimSpace(entry.Value) == "" || entry.Anchor != "" {
			p.problems.add(p.at(entry), "%s must hold plain values", path)
			continue
		}
		v.Set(reflect.Append(v, reflect.ValueOf(entry.Value)))
	}
}

// leaf reads one value, in the type that the field has: no number where a text is meant, no yes for true.
func (p *parser) leaf(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.ScalarNode {
		p.problems.add(p.at(n), "%s must be one value", path)
		return
	}
	if n.Value == "" {
		p.problems.add(p.at(n), "%s is empty: give a value, or leave the field out", path)
		return
	}
	if err := setLeaf(v, n.Value); err != nil {
		p.problems.add(p.at(n), "%s: %v", path, err)
	}
}
