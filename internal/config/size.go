package config

import (
	"fmt"
	"strconv"
	"strings"
)

// Size is a number of bytes, written as a whole number of KiB, MiB or GiB.
type Size int64

// sizeUnits, the largest first.
var sizeUnits = []struct {
	name  string
	bytes Size
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}}

// ParseSize reads a size. A unit is needed, and it is one of ours: MB would leave open which million is meant.
func ParseSize(text string) (Size, error) {
	for _, u := range sizeUnits {
		digits, ok := strings.CutSuffix(text, u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(digits, 10, 32)
		if err == nil && n > 0 && Size(n) <= sizeMax/u.bytes {
			return Size(n) * u.bytes, nil
		}
	}
	return 0, fmt.Errorf("%q is no size: want for example 64KiB, 8MiB or 1GiB", text)
}

// sizeMax is more than any disk.
const sizeMax Size = 1 << 60

// String is the short form that ParseSize reads back.
func (s Size) String() string {
	for _, u := range sizeUnits {
		if s >= u.bytes && s%u.bytes == 0 {
			return fmt.Sprintf("%d%s", s/u.bytes, u.name)
		}
	}
	return fmt.Sprintf("%d bytes", int64(s))
}
