// Package doctor reads etcd's logs, and what etcd's clients complain of, and says what the lines that it knows mean, why they come and what to do next.
// It promises to read a log of any size once, in memory that does not grow with it, whatever wraps the lines (journald, container runtimes, zap's JSON or
// text), and that every signature that it knows is what etcd 3.5, 3.6 or 3.7 really writes, or says which other program does.
// It does not promise that nothing is wrong when it finds nothing, and it cannot tell whether what a log tells is over, but where the log itself says so.
package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// Severity is how bad a thing is. The larger, the worse.
type Severity int

// The severities.
const (
	Warning Severity = iota + 1 // it works, and something should be done
	Serious                     // the cluster, or a part of its service, does not work
	Fatal                       // this member cannot run, or its data cannot be trusted
)

// String is the word for it.
func (s Severity) String() string {
	switch s {
	case Fatal:
		return "fatal"
	case Serious:
		return "serious"
	case Warning:
		return "warning"
	}
	panic("unreachable: no such severity")
}

// MarshalText implements encoding.TextMarshaler.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Signature is one thing that etcd's logs tell. It is data: see the tables.
type Signature struct {
	ID       string // API: never renamed
	Severity Severity
	// Any are alternatives; a line shows the thing when it holds all texts of one of them.
	Any [][]string
	// Means, Cause and Next are for people. Next are the next steps, commands first.
	Means, Cause string
	Next         []string
	// Not are texts with which a line does not show it all the same.
	Not []string
	// Least is how many lines it takes without one of Over between them: what is normal once is not when it repeats. 0 means 1.
	Least int64
	// Over are texts of which one, in a later line, shows that it is over.
	Over []string
	// Source is where the text comes from.
	Source string
}

// Moment is where a line stands in the log, and when it was written.
type Moment struct {
	Line int64      `json:"line"`
	Time *time.Time `json:"time,omitempty"` // nil when neither the line nor one before it says
}

// Found is one signature that a log shows.
type Found struct {
	ID       string   `json:"id"`
	Severity Severity `json:"severity"`
	Means    string   `json:"means"`
	Cause    string   `json:"cause"`
	Next     []string `json:"next"`
	Lines    int64    `json:"lines"` // how many lines show it
	First    Moment   `json:"first"`
	Last     Moment   `json:"last"`
	// Over says that the log shows, after the last such line, that etcd went on.
	Over    bool   `json:"over"`
	Example string `json:"example"` // the last line, shortened
}

// Report is what a log tells, the worst first and then the most recent.
type Report struct {
	Lines int64   `json:"lines"`
	Cut   int64   `json:"cut"` // lines so long that only their beginnings were read
	Found []Found `json:"found"`
}

// exampleMax bounds an example, in bytes.
const exampleMax = 400

// Read reads a log to its end. now is when it was read: some logs tell no year.
func Read(ctx context.Context, r io.Reader, now time.Time) (*Report, error) {
	lines := newReader(r, now)
	found, m := make([]Found, len(Signatures)), theMatcher()
	for ctx.Err() == nil {
		l, err := lines.next()
		if errors.Is(err, io.EOF) {
			return lines.report(found), nil
		}
		if err != nil {
			return nil, fmt.Errorf("read the log: %w", err)
		}
		m.each(l.text, func(signature int, over bool) {
			if !over && !holdsAny(l.text, Signatures[signature].Not) {
				found[signature].show(l)
			}
		})
		m.each(l.text, func(signature int, over bool) {
			if f := &found[signature]; over && f.Last.Line != l.number {
				f.end(Signatures[signature].Least)
			}
		})
	}
	return nil, ctx.Err()
}

// show notes that a line shows it.
func (f *Found) show(l line) {
	if f.Last.Line == l.number {
		return // by another of its texts
	}
	at := Moment{Line: l.number}
	if !l.at.IsZero() {
		at.Time = &l.at
	}
	if f.Lines == 0 {
		f.First = at
	}
	f.Lines++
	f.Last, f.Over, f.Example = at, false, shorten(string(l.text[:min(len(l.text), 2*exampleMax)]))
}

// end notes that it is over. What had not come often enough by then is forgotten.
func (f *Found) end(least int64) {
	if f.Lines < least {
		*f = Found{}
	}
	f.Over = f.Lines > 0
}

func (r *reader) report(found []Found) *Report {
	out := &Report{Lines: r.number, Cut: r.cut, Found: []Found{}}
	for i, f := range found {
		s := Signatures[i]
		if f.Lines < max(s.Least, 1) {
			continue
		}
		f.ID, f.Severity, f.Means, f.Cause, f.Next = s.ID, s.Severity, s.Means, s.Cause, s.Next
		out.Found = append(out.Found, f)
	}
	slices.SortStableFunc(out.Found, func(a, b Found) int {
		if a.Over != b.Over {
			if a.Over {
				return 1
			}
			return -1
		}
		return cmp.Or(cmp.Compare(b.Severity, a.Severity), cmp.Compare(b.Last.Line, a.Last.Line))
	})
	return out
}

// shorten keeps the beginning of a line, and whole characters.
func shorten(s string) string {
	s = strings.ToValidUTF8(s, "?")
	if len(s) <= exampleMax {
		return strings.Clone(s)
	}
	cut := exampleMax
	for cut > 0 && s[cut]&0xc0 == 0x80 {
		cut--
	}
	return s[:cut] + "…"
}
