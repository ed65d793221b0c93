package config

import (
	"fmt"
	"reflect"
	"regexp"
	"strings"
)

// A field is addressed by a path such as clusters[0].tls.ca. The paths are made from the yaml tags of Config, here and nowhere else.

// fieldNames are the names that a struct's fields have in the file.
func fieldNames(t reflect.Type) []string {
	var names []string
	for i := range t.NumField() {
		if name := t.Field(i).Tag.Get("yaml"); name != "" {
			names = append(names, name)
		}
	}
	return names
}

// fieldNamed is the struct's field of that name in the file.
func fieldNamed(v reflect.Value, name string) (reflect.Value, bool) {
	for i := range v.NumField() {
		if name != "" && v.Type().Field(i).Tag.Get("yaml") == name {
			return v.Field(i), true
		}
	}
	return reflect.Value{}, false
}

// isList says whether v is a list of blocks (clusters), as opposed to a list of words.
func isList(v reflect.Value) bool {
	return v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Struct
}

// eachLeaf calls f for every field that has no fields of its own, in the order of the types.
func eachLeaf(v reflect.Value, path string, f func(path string, v reflect.Value)) {
	switch {
	case v.Kind() == reflect.Struct:
		for _, name := range fieldNames(v.Type()) {
			field, _ := fieldNamed(v, name)
			eachLeaf(field, join(path, name), f)
		}
	case isList(v):
		for i := range v.Len() {
			eachLeaf(v.Index(i), index(path, i), f)
		}
	default:
		f(path, v)
	}
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func index(path string, i int) string { return fmt.Sprintf("%s[%d]", path, i) }

// parent is the block around a field: clusters[0].tls of clusters[0].tls.ca, clusters of clusters[0].
func parent(path string) string {
	return path[:max(strings.LastIndexAny(path, ".["), 0)]
}

var number = regexp.MustCompile(`\[\d+\]`)

// anyCluster is the path with [] for every index: how the tables of defaults and later fields name it.
func anyCluster(path string) string { return number.ReplaceAllString(path, "[]") }
