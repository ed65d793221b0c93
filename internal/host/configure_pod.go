package host

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"etcd-steward/internal/fail"
)

// podDoc is a manifest whose container is about to be changed.
type podDoc struct {
	doc       yaml.Node
	container *yaml.Node
}

func openPod(text []byte, container int) (*podDoc, error) {
	p := &podDoc{}
	if err := yaml.Unmarshal(text, &p.doc); err != nil {
		return nil, fmt.Errorf("parse the manifest: %w", err)
	}
	if len(p.doc.Content) == 0 {
		return nil, errors.New("the manifest is empty")
	}
	list := yamlField(p.doc.Content[0], "spec", "containers")
	if list == nil || list.Kind != yaml.SequenceNode || container >= len(list.Content) {
		return nil, errors.New("the manifest has no such container")
	}
	p.container = list.Content[container]
	return p, nil
}

// words are the nodes of command: and args: together, without the program.
func (p *podDoc) words() []*yaml.Node {
	var all []*yaml.Node
	command, args := yamlField(p.container, "command"), yamlField(p.container, "args")
	if command != nil {
		all = append(all, command.Content...)
	}
	if len(all) > 0 {
		all = all[1:]
	} else if args != nil && len(args.Content) > 0 && !strings.HasPrefix(args.Content[0].Value, "-") {
		return args.Content[1:]
	}
	if args != nil {
		all = slices.Concat(all, args.Content)
	}
	return all
}

// flagList is the list that a flag can be added to.
func (p *podDoc) flagList() *yaml.Node {
	for _, name := range []string{"args", "command"} {
		if list := yamlField(p.container, name); list != nil && len(list.Content) > 0 {
			return list
		}
	}
	return nil
}

// setPod changes one flag in the text of a manifest; an empty value takes it away.
func setPod(text []byte, w *Workload, flag string, s Setting, value string) ([]byte, error) {
	p, err := openPod(text, w.at.container)
	if err != nil {
		return nil, err
	}
	out, err := p.splice(text, flag, s, value)
	if !errors.Is(err, errWhole) {
		return out, err
	}
	if err := p.set(flag, s, value); err != nil {
		return nil, err
	}
	return rewrite(&p.doc)
}

func refuseShell(flag string, source string) error {
	return fail.Refused(fmt.Errorf("%s is set by a shell or a script in %s, which is not rewritten", flag, source), "change it by hand, then repeat the command")
}

// splice changes the text alone.
func (p *podDoc) splice(text []byte, flag string, s Setting, value string) ([]byte, error) {
	words := p.words()
	item := "--" + flag + "=" + value
	list := p.flagList()
	write := scalar
	if list != nil && list.Style&yaml.FlowStyle != 0 {
		write = flowScalar
	}
	switch s.place.kind {
	case inPodScript:
		return nil, refuseShell(flag, s.Source)
	case inPodEnv:
		node := p.env(s.place.name)
		if node == nil || node.Kind != yaml.ScalarNode {
			return nil, errWhole
		}
		return splice(text, node, `"`+strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(value)+`"`)
	case inPodArgs:
		if s.place.index >= len(words) || s.place.next >= len(words) {
			return nil, errWhole
		}
		nodes := []*yaml.Node{words[s.place.index]}
		if s.place.next > 0 {
			nodes = append(nodes, words[s.place.next])
		}
		switch {
		case value == "":
			return removeLines(text, nodes...)
		case s.place.next > 0:
			return splice(text, nodes[1], write(value))
		}
		return splice(text, nodes[0], write(item))
	}
	if list == nil {
		return nil, fail.Refused(errors.New("its manifest has neither command nor args"), "write them into the manifest by hand, then repeat the command")
	}
	return insertItem(text, list, write(item))
}

// env is the value of a variable of the container.
func (p *podDoc) env(name string) *yaml.Node {
	list := yamlField(p.container, "env")
	if list == nil {
		return nil
	}
	var found *yaml.Node
	for _, e := range list.Content {
		if n := yamlField(e, "name"); n != nil && n.Value == name {
			found = yamlField(e, "value")
		}
	}
	return found
}

// set changes the document itself.
func (p *podDoc) set(flag string, s Setting, value string) error {
	item := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: "--" + flag + "=" + value}
	words := p.words()
	switch {
	case s.place.kind == inPodEnv:
		if node := p.env(s.place.name); node != nil {
			*node = yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: value, Style: yaml.DoubleQuotedStyle}
			return nil
		}
		return fmt.Errorf("the manifest has no variable %s", s.place.name)
	case s.place.kind != inPodArgs:
		list := p.flagList()
		list.Content = append(list.Content, item)
		return nil
	case s.place.next > 0 && value != "":
		words[s.place.next].Value, words[s.place.next].Style, words[s.place.next].Tag = value, 0, "!!str"
		return nil
	case value != "":
		words[s.place.index].Value, words[s.place.index].Style, words[s.place.index].Tag = item.Value, 0, "!!str"
		return nil
	}
	gone := []*yaml.Node{words[s.place.index]}
	if s.place.next > 0 {
		gone = append(gone, words[s.place.next])
	}
	for _, name := range []string{"command", "args"} {
		if list := yamlField(p.container, name); list != nil {
			list.Content = slices.DeleteFunc(list.Content, func(n *yaml.Node) bool { return slices.Contains(gone, n) })
		}
	}
	return nil
}
