package store

import (
	"fmt"
	"strings"
)

const (
	keyMax     = 1024 // bytes, prefix included: what S3 allows (docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html)
	segmentMax = 255  // bytes: what file systems allow
)

// ValidateKey says why key cannot name an object, or nil. A key is printable ASCII without spaces or backslashes, in segments divided by
// single slashes; no segment starts with a dot. So every key is also a path below the store's folder, and none leaves it.
func ValidateKey(key string) error {
	if key == "" {
		return fmt.Errorf("key is empty")
	}
	return validatePath(key)
}

// validatePrefix is ValidateKey for the beginning of a key, whose last segment may be unfinished or empty.
func validatePrefix(prefix string) error {
	if prefix == "" {
		return nil
	}
	dir, last := cutLast(prefix)
	if last != prefix { // there is a slash
		if err := validatePath(dir); err != nil {
			return err
		}
	}
	if last == "" {
		return nil
	}
	return validatePath(last)
}

func validatePath(path string) error {
	if len(path) > keyMax {
		return fmt.Errorf("key has %d bytes, more than %d", len(path), keyMax)
	}
	for i := range len(path) {
		if c := path[i]; c <= ' ' || c >= 0x7f || c == '\\' {
			return fmt.Errorf("key %q has a character that is not allowed", path)
		}
	}
	for segment := range strings.SplitSeq(path, "/") {
		switch {
		case segment == "":
			return fmt.Errorf("key %q has an empty segment", path)
		case segment[0] == '.':
			return fmt.Errorf("key %q has a segment that starts with a dot", path)
		case len(segment) > segmentMax:
			return fmt.Errorf("key %q has a segment of more than %d bytes", path, segmentMax)
		}
	}
	return nil
}

// cutLast splits a path at its last slash: "a/b/c" is "a/b" and "c".
func cutLast(path string) (dir, last string) {
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		return path[:i], path[i+1:]
	}
	return "", path
}

func joinKey(prefix, key string) string {
	if prefix == "" {
		return key
	}
	return prefix + "/" + key
}
