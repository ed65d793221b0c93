// Package unit reads systemd's unit and environment files as systemd itself does: continuation lines, resets, drop-ins in their order, quoting, specifiers and
// variables. It promises that a line which systemd would ignore is ignored, and that a word can be found again where it stands in its file, so that one value
// can be changed and all else stays. It knows of services what etcd's need (Environment=, EnvironmentFile=, ExecStart= and a few more) and does not talk to systemd.
//
// go-systemd's parser is not used for it: it refuses lines longer than 2048 bytes, keeps comments inside of continuation lines, and gives up where systemd goes on.
package unit

import "strings"

// MaxFile bounds every file that is read here.
const MaxFile = 1 << 20

// Entry is one assignment of a unit file.
type Entry struct {
	Section, Name, Value string
	File                 string // that says so
	Line                 int    // of its beginning, from 1
}

const whitespace = " \t\n\r"

// Parse reads a unit file. What systemd would warn of and ignore is not among the entries.
func Parse(text []byte) []Entry {
	var entries []Entry
	section := ""
	for _, l := range logicalLines(text) {
		line := strings.Trim(l.text, whitespace)
		switch name, value, found := strings.Cut(line, "="); {
		case line == "":
		case line[0] == '[':
			if strings.HasSuffix(line, "]") {
				section = line[1 : len(line)-1]
			}
		case found && section != "" && strings.Trim(name, whitespace) != "":
			entries = append(entries, Entry{Section: section, Name: strings.Trim(name, whitespace), Value: strings.Trim(value, whitespace), Line: l.number})
		}
	}
	return entries
}

// logicalLine is a line with those that continue it; last is the number of the last of them.
type logicalLine struct {
	text         string
	number, last int
}

// logicalLines joins lines that end with a backslash, which becomes a space. Comments are left out, also between such lines.
func logicalLines(text []byte) []logicalLine {
	var lines []logicalLine
	var open *logicalLine
	number := 0
	for raw := range strings.Lines(string(text)) {
		number++
		l := strings.TrimLeft(strings.TrimRight(raw, "\r\n"), whitespace)
		if number == 1 {
			l = strings.TrimPrefix(l, "\ufeff")
		}
		if l != "" && (l[0] == '#' || l[0] == ';') {
			continue
		}
		if open == nil {
			open = &logicalLine{number: number}
		}
		open.text += l
		open.last = number
		if oddBackslash(open.text) {
			open.text = open.text[:len(open.text)-1] + " "
			continue
		}
		lines = append(lines, *open)
		open = nil
	}
	if open != nil {
		lines = append(lines, *open)
	}
	return lines
}

// oddBackslash says whether a line ends with a backslash that no other one escapes.
func oddBackslash(s string) bool {
	return (len(s)-len(strings.TrimRight(s, `\`)))%2 == 1
}

// Last is the value that counts of a setting which is given once: the last one.
func Last(entries []Entry, section, name string) string {
	value := ""
	for _, e := range entries {
		if e.Section == section && e.Name == name {
			value = e.Value
		}
	}
	return value
}

// List are the entries of a setting which may be given several times: an empty one takes back those before it.
func List(entries []Entry, section, name string) []Entry {
	var list []Entry
	for _, e := range entries {
		if e.Section != section || e.Name != name {
			continue
		}
		if e.Value == "" {
			list = nil
			continue
		}
		list = append(list, e)
	}
	return list
}
