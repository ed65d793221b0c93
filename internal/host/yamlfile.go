package host

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
)

// The blocks of etcd's YAML file whose fields are flags with other names.
const (
	clientBlock = "client-transport-security"
	peerBlock   = "peer-transport-security"
)

// peerOnly are fields of the peer block whose flags are not "peer-" and the field.
var (
	clientFields = map[string]string{"allowed-hostname": "client-cert-allowed-hostname", "allowed-cn": "client-cert-allowed-cn"}
	peerFields   = map[string]string{"allowed-hostname": "peer-cert-allowed-hostname", "allowed-cn": "peer-cert-allowed-cn"}
)

// yamlPath is where a flag stands in etcd's YAML file.
func yamlPath(flag string) []string {
	for block, fields := range map[string]map[string]string{clientBlock: clientFields, peerBlock: peerFields} {
		for field, name := range fields {
			if name == flag {
				return []string{block, field}
			}
		}
	}
	switch flag {
	case "cert-file", "key-file", "client-cert-file", "client-key-file", "client-cert-auth", "trusted-ca-file", "auto-tls":
		return []string{clientBlock, flag}
	case "peer-cert-file", "peer-key-file", "peer-client-cert-file", "peer-client-key-file", "peer-client-cert-auth", "peer-trusted-ca-file", "peer-auto-tls",
		"peer-skip-client-san-verification":
		return []string{peerBlock, strings.TrimPrefix(flag, "peer-")}
	}
	return []string{flag}
}

// yamlFlag is the flag for a field.
func yamlFlag(block, field string) string {
	switch block {
	case clientBlock:
		if name, ok := clientFields[field]; ok {
			return name
		}
		return field
	case peerBlock:
		if name, ok := peerFields[field]; ok {
			return name
		}
		return "peer-" + field
	}
	return field
}

// yamlSettings reads etcd's YAML file.
func yamlSettings(text []byte, source string) (Settings, error) {
	root, err := yamlRoot(text)
	if err != nil {
		return nil, err
	}
	settings := Settings{}
	for i := 0; root != nil && i+1 < len(root.Content); i += 2 {
		key, value := root.Content[i].Value, root.Content[i+1]
		if (key == clientBlock || key == peerBlock) && value.Kind == yaml.MappingNode {
			for j := 0; j+1 < len(value.Content); j += 2 {
				settings[yamlFlag(key, value.Content[j].Value)] = Setting{Value: yamlText(value.Content[j+1]), Source: source, place: place{kind: inYAML}}
			}
			continue
		}
		settings[key] = Setting{Value: yamlText(value), Source: source, place: place{kind: inYAML}}
	}
	return settings, nil
}

// yamlRoot is the mapping that a document is; nil for an empty one.
func yamlRoot(text []byte) (*yaml.Node, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, fmt.Errorf("parse YAML: %w", err)
	}
	if len(doc.Content) == 0 || doc.Content[0].Tag == "!!null" {
		return nil, nil
	}
	if doc.Content[0].Kind != yaml.MappingNode {
		return nil, fmt.Errorf("parse YAML: line %d: want a mapping", doc.Content[0].Line)
	}
	return doc.Content[0], nil
}

// yamlText is a value as its flag would be given it.
func yamlText(n *yaml.Node) string {
	switch n.Kind {
	case yaml.ScalarNode:
		if n.Tag == "!!null" {
			return ""
		}
		return n.Value
	case yaml.AliasNode:
		if n.Alias.Kind == yaml.ScalarNode {
			return n.Alias.Value
		}
	case yaml.SequenceNode:
		parts := make([]string, 0, len(n.Content))
		for _, c := range n.Content {
			parts = append(parts, c.Value)
		}
		return strings.Join(parts, ",")
	}
	return ""
}

// yamlField is the value of a key in a mapping, or nil.
func yamlField(n *yaml.Node, path ...string) *yaml.Node {
	for _, key := range path {
		if n == nil || n.Kind != yaml.MappingNode {
			return nil
		}
		var next *yaml.Node
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == key {
				next = n.Content[i+1]
			}
		}
		n = next
	}
	return n
}
