// Package term is what people see: tables, progress bars, sizes and ages. It promises output that is safe to show on a terminal
// whatever the bytes came from, and that nothing but the answer is written to the stream that it is given.
// It knows nothing of backups.
package term

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode"

	"github.com/dustin/go-humanize"
	"golang.org/x/term"
)

// IsTerminal says whether w is a terminal: only then are bars drawn and questions asked.
func IsTerminal(w any) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// Bytes is a size in binary units, as in "2.4 GiB".
func Bytes(n int64) string {
	if n < 0 {
		return "-" + humanize.IBytes(uint64(-n))
	}
	return humanize.IBytes(uint64(n))
}

// Count is a number with its thousands set apart, as in "720,000".
func Count(n int64) string { return humanize.Comma(n) }

// Counted is a number with its noun, of which there may be one.
func Counted(n int, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return Count(int64(n)) + " " + more
}

// Time is a moment in UTC to the second, which sorts as text; "-" for none.
func Time(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format("2006-01-02 15:04:05Z")
}

// Age is a duration in its largest unit, and the next smaller one while the number is small: 42s, 5m10s, 3h, 2d4h, 90d.
// A negative one, as of a clock that is ahead, is "in" that time.
func Age(d time.Duration) string {
	if d <= -time.Second {
		return "in " + Age(-d)
	}
	units := []struct {
		size time.Duration
		name string
	}{{24 * time.Hour, "d"}, {time.Hour, "h"}, {time.Minute, "m"}, {time.Second, "s"}}
	for i, u := range units {
		n := d / u.size
		if n < 1 {
			continue
		}
		s := fmt.Sprintf("%d%s", n, u.name)
		if n < 10 && i+1 < len(units) {
			if rest := (d % u.size) / units[i+1].size; rest > 0 {
				s += fmt.Sprintf("%d%s", rest, units[i+1].name)
			}
		}
		return s
	}
	return "0s"
}

// Seconds is how long something took, with as many digits as are worth reading: 0.34s, 5.1s, 2m3s.
func Seconds(s float64) string {
	switch {
	case s < 1:
		return fmt.Sprintf("%.2fs", s)
	case s < 60:
		return fmt.Sprintf("%.1fs", s)
	default:
		return Age(time.Duration(s * float64(time.Second)))
	}
}

// Clean makes text that came from elsewhere (a member's name, a server's message) harmless: one line, no control or escape characters.
func Clean(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case r == unicode.ReplacementChar || !unicode.IsPrint(r):
			return '?'
		}
		return r
	}, s)
}

// maxAnswer bounds what is read of an answer to a question.
const maxAnswer = 1 << 10

// Confirm asks a yes-or-no question and returns true only for "y" or "yes".
func Confirm(in io.Reader, out io.Writer, question string) (bool, error) {
	if _, err := fmt.Fprintf(out, "%s [y/N] ", question); err != nil {
		return false, err
	}
	line, err := bufio.NewReader(io.LimitReader(in, maxAnswer)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return true, nil
	}
	return false, nil
}
