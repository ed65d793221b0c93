package host

import (
	"errors"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
)

// lists are flags that etcd's YAML file has as lists.
var lists = map[string]bool{
	"log-outputs": true, "cipher-suites": true, "client-cert-allowed-hostname": true, "client-cert-allowed-cn": true, "peer-cert-allowed-cn": true,
	"peer-cert-allowed-hostname": true,
}

// yamlValue is how a flag's value is written in etcd's YAML file.
func yamlValue(flag, value string) string {
	switch {
	case lists[flag]:
		parts := splitList(value)
		for i := range parts {
			parts[i] = flowScalar(parts[i])
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case numbers[flag] && strings.Trim(value, "0123456789") == "":
		return value
	case toggles[flag] && (value == "true" || value == "false"):
		return value
	}
	return scalar(value)
}

// setYAML changes one flag in the text of etcd's YAML file; an empty value takes it away.
func setYAML(text []byte, flag, value string) ([]byte, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, fmt.Errorf("parse YAML: %w", err)
	}
	root, err := yamlRoot(text)
	if err != nil {
		return nil, err
	}
	path := yamlPath(flag)
	if root == nil {
		out := appendYAML(text, path, flag, value)
		if check, err := yamlSettings(out, ""); err != nil || check[flag].Value != value {
			return nil, errors.New("the file says nothing, in a way that nothing can be added to")
		}
		return out, nil
	}
	out, err := spliceYAML(text, root, path, flag, value)
	if err == nil {
		// What was cut is read again: only then the bytes are known to mean what they should.
		if check, cerr := yamlSettings(out, ""); cerr == nil && check[flag].Value == value && sameBut(text, out, flag) {
			return out, nil
		}
		err = errWhole
	}
	if !errors.Is(err, errWhole) {
		return nil, err
	}
	if err := setNode(doc.Content[0], path, flag, value); err != nil {
		return nil, err
	}
	return rewrite(&doc)
}

// sameBut says whether two texts say the same of all other flags.
func sameBut(a, b []byte, flag string) bool {
	x, errX := yamlSettings(a, "")
	y, errY := yamlSettings(b, "")
	return errX == nil && errY == nil && sameSettings(x, y, flag)
}

// sameSettings compares values, but for some flags'.
func sameSettings(a, b Settings, but ...string) bool {
	skip := map[string]bool{}
	for _, flag := range but {
		skip[flag] = true
	}
	for flag, s := range a {
		if !skip[flag] && b[flag].Value != s.Value {
			return false
		}
	}
	for flag, s := range b {
		if !skip[flag] && a[flag].Value != s.Value {
			return false
		}
	}
	return true
}

func appendYAML(text []byte, path []string, flag, value string) []byte {
	if value == "" {
		return text
	}
	if len(path) == 1 {
		return insertLine(text, len(text), flag+": "+yamlValue(flag, value))
	}
	return insertLine(text, len(text), path[0]+":\n  "+path[1]+": "+yamlValue(flag, value))
}

// spliceYAML changes the text alone.
func spliceYAML(text []byte, root *yaml.Node, path []string, flag, value string) ([]byte, error) {
	block := root
	if len(path) == 2 {
		if block = yamlField(root, path[0]); block == nil || block.Tag == "!!null" {
			if block != nil || strings.Contains(string(text), "\n...") {
				return nil, errWhole
			}
			return appendYAML(text, path, flag, value), nil
		}
	}
	name := path[len(path)-1]
	for i := 0; i+1 < len(block.Content); i += 2 {
		key, node := block.Content[i], block.Content[i+1]
		switch {
		case key.Value != name:
		case value == "":
			return removeKey(text, key, node)
		case node.Kind != yaml.ScalarNode || lists[flag] || node.Tag == "!!null" && node.Value == "":
			return nil, errWhole
		default:
			return splice(text, node, yamlValue(flag, value))
		}
	}
	if value == "" {
		return text, nil
	}
	if block == root {
		return appendYAML(text, path, flag, value), nil
	}
	return insertKey(text, block, name+": "+yamlValue(flag, value))
}

// setNode changes the document itself.
func setNode(root *yaml.Node, path []string, flag, value string) error {
	block := root
	if len(path) == 2 {
		block = yamlField(root, path[0])
		if block == nil {
			block = &yaml.Node{Kind: yaml.MappingNode}
			root.Content = append(root.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: path[0]}, block)
		} else if block.Kind != yaml.MappingNode {
			*block = yaml.Node{Kind: yaml.MappingNode}
		}
	}
	name := path[len(path)-1]
	var fresh yaml.Node
	if err := yaml.Unmarshal([]byte(yamlValue(flag, value)), &fresh); err != nil || len(fresh.Content) != 1 && value != "" {
		return fmt.Errorf("write %s as YAML: %w", flag, err)
	}
	for i := 0; i+1 < len(block.Content); i += 2 {
		if block.Content[i].Value != name {
			continue
		}
		if value == "" {
			block.Content = append(block.Content[:i], block.Content[i+2:]...)
			return nil
		}
		fresh.Content[0].LineComment = block.Content[i+1].LineComment
		block.Content[i+1] = fresh.Content[0]
		return nil
	}
	if value != "" {
		block.Content = append(block.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: name}, fresh.Content[0])
	}
	return nil
}
