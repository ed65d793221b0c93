package config

import (
	"fmt"
	"reflect"
)

// Kind is the kind of place that a value came from.
type Kind string

// The kinds, the strongest first.
const (
	FromFlag        Kind = "flag"
	FromEnvironment Kind = "environment"
	FromFile        Kind = "file"
	FromCredential  Kind = "credential" // a file in $CREDENTIALS_DIRECTORY
	FromDetection   Kind = "detected"   // what this machine runs
	FromDefault     Kind = "default"
)

// Origin is where a value came from.
type Origin struct {
	Kind Kind
	Name string // the flag, variable, file or credential
	Line int    // in the file; else 0
}

// String is for people: "default", "steward.yaml:12", "--store", "detected in /etc/etcd.env".
func (o Origin) String() string {
	switch o.Kind {
	case FromFile:
		return fmt.Sprintf("%s:%d", o.Name, o.Line)
	case FromFlag:
		return o.Name
	case FromDetection:
		return "detected in " + o.Name
	case FromDefault, "":
		return "default"
	}
	return string(o.Kind) + " " + o.Name
}

// place is where a problem is: nothing for a default, since nobody wrote it.
func (o Origin) place() string {
	if o.Kind == FromDefault || o.Kind == "" {
		return o.Name
	}
	return o.String()
}

// Setting is one field's value and where it came from.
type Setting struct {
	Field string `json:"field"` // store, clusters[0].tls.ca
	Value string `json:"value"` // as it would be given to a flag; "" when unset
	From  string `json:"from"`
}

// Effective lists every field, in the order of the documentation, with the value that is used and its origin. It holds no secret.
func (c *Config) Effective() []Setting {
	var all []Setting
	eachLeaf(reflect.ValueOf(c).Elem(), "", func(path string, v reflect.Value) {
		from := c.origins[path]
		if from.Kind == "" {
			from.Kind = FromDefault
		}
		all = append(all, Setting{Field: path, Value: leafText(v), From: from.String()})
	})
	return all
}

// origin is where the field at path was given: itself, or the nearest block around it that was.
func (c *Config) origin(path string) Origin {
	for p := path; p != ""; p = parent(p) {
		if o, ok := c.origins[p]; ok {
			return o
		}
	}
	return Origin{Kind: FromDefault, Name: c.path}
}

// given says whether somebody gave the field, rather than a default.
func (c *Config) given(path string) bool {
	o, ok := c.origins[path]
	return ok && o.Kind != FromDefault
}
