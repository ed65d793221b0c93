// Package revision is etcd's revision as a type: the position of a change in the key space's history.
package revision

import (
	"fmt"
	"strconv"
	"strings"
)

// Revision is a revision of etcd's key space. It prints in decimal for people; in object names it is 16 hex digits, so that
// byte order is revision order.
type Revision int64

// Hex is the fixed-width form for object names.
func (r Revision) Hex() string { return fmt.Sprintf("%016x", int64(r)) }

// ParseHex is the inverse of Hex; nothing else is accepted.
func ParseHex(s string) (Revision, error) {
	n, err := strconv.ParseInt(s, 16, 64)
	if err != nil || n < 0 || len(s) != 16 || strings.ToLower(s) != s {
		return 0, fmt.Errorf("revision %q: want 16 lower-case hex digits", s)
	}
	return Revision(n), nil
}
