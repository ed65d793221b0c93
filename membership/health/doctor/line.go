package doctor

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"time"
)

// lineMax bounds what is kept of one line. etcd's own are far shorter, but for requests that it quotes.
const lineMax = 64 << 10

// line is one line without what its carrier put around it.
type line struct {
	text   []byte // until the next is read
	number int64
	at     time.Time // the line's own, else that of the last line that had one; zero when none had
}

// reader reads lines of any length in bounded memory.
type reader struct {
	in     *bufio.Reader
	now    time.Time
	number int64
	cut    int64
	last   time.Time
	buf    []byte
	// part is what a container runtime has split: it ends with a line that is not partial.
	part []byte
}

func newReader(r io.Reader, now time.Time) *reader {
	return &reader{in: bufio.NewReaderSize(r, 64<<10), now: now}
}

// next returns io.EOF after the last line.
func (r *reader) next() (line, error) {
	for {
		raw, err := r.raw()
		if errors.Is(err, io.EOF) && len(r.part) > 0 { // the log ends in the middle of a line
			text := r.part
			r.part = nil
			return line{text: text, number: r.number, at: r.last}, nil
		}
		if err != nil {
			return line{}, err
		}
		whole := false
		text, at, partial := unwrap(raw)
		if len(r.part) > 0 || partial {
			r.part = append(r.part, text[:min(len(text), max(0, lineMax-len(r.part)))]...)
			if partial {
				r.note(at)
				continue
			}
			text, whole = r.part, true
		}
		if at.IsZero() {
			at = timeOf(string(text[:min(len(text), 256)]), r.now)
		}
		r.note(at)
		if whole { // its bytes are the caller's until the next line is put together
			r.part = r.part[:0]
		}
		return line{text: text, number: r.number, at: r.last}, nil
	}
}

func (r *reader) note(at time.Time) {
	if !at.IsZero() {
		r.last = at.UTC()
	}
}

// raw is the next line's beginning, without its end.
func (r *reader) raw() ([]byte, error) {
	r.buf = r.buf[:0]
	cut, any := false, false
	for {
		piece, err := r.in.ReadSlice('\n')
		any = any || len(piece) > 0
		if room := lineMax - len(r.buf); len(bytes.TrimRight(piece, "\r\n")) > room {
			piece, cut = piece[:room], true
		}
		r.buf = append(r.buf, piece...)
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case err != nil && (!errors.Is(err, io.EOF) || !any):
			return nil, err
		}
		r.number++
		if cut {
			r.cut++
		}
		return bytes.TrimRight(r.buf, "\r\n"), nil
	}
}

// unwrap takes away what a container runtime puts around a line: CRI's "TIME stderr F ", Docker's JSON.
func unwrap(raw []byte) (text []byte, at time.Time, partial bool) {
	if bytes.HasPrefix(raw, []byte(`{"log":`)) {
		var d struct {
			Log  string    `json:"log"`
			Time time.Time `json:"time"`
		}
		if err := json.Unmarshal(raw, &d); err == nil {
			return []byte(strings.TrimRight(d.Log, "\r\n")), d.Time, !strings.HasSuffix(d.Log, "\n")
		}
	}
	stamp, rest, _ := bytes.Cut(raw, []byte(" "))
	for _, stream := range []string{"stderr F ", "stdout F ", "stderr P ", "stdout P "} {
		if text, ok := bytes.CutPrefix(rest, []byte(stream)); ok {
			if at, err := time.Parse(time.RFC3339Nano, string(stamp)); err == nil {
				return text, at, stream[len("stderr ")] == 'P'
			}
		}
	}
	return raw, time.Time{}, false
}

// zone-less and other layouts of the times that lines begin with: zap's of etcd, zap's text, journald's short-iso.
var layouts = []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999Z0700", "2006-01-02 15:04:05.999999999"}

// timeOf is the time that a line tells itself: zap's ts, or what it begins with; zero when it tells none.
func timeOf(text string, now time.Time) time.Time {
	if _, rest, ok := strings.Cut(text, `"ts":"`); ok {
		if stamp, _, ok := strings.Cut(rest, `"`); ok {
			return parseTime(stamp)
		}
	}
	word, rest, _ := strings.Cut(text[:min(len(text), 64)], " ")
	word, _, _ = strings.Cut(word, "\t")
	if at := parseTime(word); !at.IsZero() {
		return at
	}
	if second, _, ok := strings.Cut(rest, " "); ok && len(word) == len("2006-01-02") {
		return parseTime(word + " " + second)
	}
	return syslogTime(text, now)
}

func parseTime(s string) time.Time {
	if len(s) < len("2006-01-02T15:04:05") {
		return time.Time{}
	}
	for _, l := range layouts {
		if at, err := time.Parse(l, s); err == nil {
			return at
		}
	}
	return time.Time{}
}

// syslogTime reads "Nov 28 03:16:00", which tells no year: it is the last such moment that is not in the future.
func syslogTime(text string, now time.Time) time.Time {
	const layout = "Jan _2 15:04:05"
	if len(text) < len(layout) {
		return time.Time{}
	}
	at, err := time.ParseInLocation(layout, text[:len(layout)], now.Location())
	if err != nil {
		return time.Time{}
	}
	at = at.AddDate(now.Year(), 0, 0)
	if at.After(now.Add(24 * time.Hour)) {
		at = at.AddDate(-1, 0, 0)
	}
	return at
}
