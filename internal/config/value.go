package config

import (
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// Duration is a time.Duration that also reads days and weeks: 90s, 6h, 7d, 1d12h, 2w.
type Duration time.Duration

// longUnits are the units that time.ParseDuration does not know.
var longUnits = map[byte]time.Duration{'d': 24 * time.Hour, 'w': 7 * 24 * time.Hour}

// ParseDuration reads a duration of zero or more. A number without a unit is an error, but for 0.
func ParseDuration(text string) (Duration, error) {
	rest, total := text, time.Duration(0)
	for {
		i := 0
		for i < len(rest) && rest[i] >= '0' && rest[i] <= '9' {
			i++
		}
		if i == 0 || i == len(rest) || longUnits[rest[i]] == 0 {
			break
		}
		n, err := strconv.ParseInt(rest[:i], 10, 32)
		if err != nil || time.Duration(n) > 1<<62/longUnits[rest[i]]-total/longUnits[rest[i]] {
			return 0, fmt.Errorf("%q is too long for a duration", text)
		}
		total += time.Duration(n) * longUnits[rest[i]]
		rest = rest[i+1:]
	}
	if rest == "" && total > 0 {
		return Duration(total), nil
	}
	d, err := time.ParseDuration(rest)
	if err != nil || d < 0 || total+d < 0 {
		return 0, fmt.Errorf("%q is no duration: want for example 90s, 6h, 7d or 2w", text)
	}
	return Duration(total + d), nil
}

// String is the short form that ParseDuration reads back.
func (d Duration) String() string {
	if d == 0 {
		return "0s"
	}
	if days := time.Duration(d) / (24 * time.Hour); days > 0 && time.Duration(d)%(24*time.Hour) == 0 {
		return fmt.Sprintf("%dd", days)
	}
	s := time.Duration(d).String()
	s = strings.TrimSuffix(s, "0s")
	if strings.HasSuffix(s, "h0m") {
		return strings.TrimSuffix(s, "0m")
	}
	if s == "" || s[len(s)-1] >= '0' && s[len(s)-1] <= '9' {
		return time.Duration(d).String() // the zeros belonged to a number: 10s
	}
	return s
}

// secret prints as nothing, wherever it is printed.
type secret string

func (secret) String() string       { return "(secret)" }
func (secret) GoString() string     { return "(secret)" }
func (secret) LogValue() slog.Value { return slog.StringValue("(secret)") }

// setLeaf parses text into a field that has no fields of its own.
func setLeaf(v reflect.Value, text string) error {
	switch p := v.Addr().Interface().(type) {
	case *string:
		*p = text
	case *Duration:
		d, err := ParseDuration(text)
		if err != nil {
			return err
		}
		*p = d
	case *Size:
		n, err := ParseSize(text)
		if err != nil {
			return err
		}
		*p = n
	case *int:
		n, err := strconv.ParseInt(text, 10, 32)
		if err != nil {
			return fmt.Errorf("%q is no whole number", text)
		}
		*p = int(n)
	case *bool:
		switch text {
		case "true", "false":
			*p = text == "true"
		default:
			return fmt.Errorf("%q is neither true nor false", text)
		}
	case *[]string:
		*p = nil
		for s := range strings.SplitSeq(text, ",") {
			if s = strings.TrimSpace(s); s == "" {
				return errors.New("the list has an empty entry")
			}
			*p = append(*p, s)
		}
	default:
		panic(fmt.Sprintf("unreachable: a field of type %s", v.Type()))
	}
	return nil
}

// leafText is a field's value as Effective shows it.
func leafText(v reflect.Value) string {
	if list, ok := v.Interface().([]string); ok {
		return strings.Join(list, ",")
	}
	return fmt.Sprint(v.Interface())
}
