package main

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"etcd-steward/backup/changes"
)

// kvJSON is a key as etcdctl's JSON has it: base64 for what may be binary, nothing for what is zero.
type kvJSON struct {
	Key            []byte `json:"key"`
	CreateRevision int64  `json:"create_revision,omitempty"`
	ModRevision    int64  `json:"mod_revision,omitempty"`
	Version        int64  `json:"version,omitempty"`
	Value          []byte `json:"value,omitempty"`
	Lease          int64  `json:"lease,omitempty"`
}

func (c *call) kvJSON(kv *changes.KeyValue) *kvJSON {
	if kv == nil {
		return nil
	}
	out := &kvJSON{Key: kv.Key, CreateRevision: kv.CreateRevision, ModRevision: kv.ModRevision, Version: kv.Version, Value: kv.Value, Lease: kv.Lease}
	if c.Bool("keys-only") {
		out.Value = nil
	}
	return out
}

// visible makes bytes safe for a terminal, reversibly: what cannot be printed is \xNN, a line break \n. lines leaves line breaks and tabs, and
// single backslashes, as they are.
func visible(b []byte, lines bool) string {
	var out strings.Builder
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		switch {
		case r == utf8.RuneError && n <= 1:
			fmt.Fprintf(&out, `\x%02x`, b[0])
		case lines && (r == '\n' || r == '\t' || r == '\\'):
			out.WriteRune(r)
		case r == '\n':
			out.WriteString(`\n`)
		case r == '\t':
			out.WriteString(`\t`)
		case r == '\r':
			out.WriteString(`\r`)
		case r == '\\':
			out.WriteString(`\\`)
		case unicode.IsPrint(r):
			out.WriteRune(r)
		default:
			for _, x := range b[:n] {
				fmt.Fprintf(&out, `\x%02x`, x)
			}
		}
		b = b[n:]
	}
	return out.String()
}

// inHex is etcdctl's --hex: each byte as \xNN.
func inHex(b []byte) string {
	digits := hex.EncodeToString(b)
	var out strings.Builder
	for i := 0; i < len(digits); i += 2 {
		out.WriteString(`\x` + digits[i:i+2])
	}
	return out.String()
}

// text is bytes as the flags want them.
func (c *call) text(b []byte, lines bool) string {
	if c.Bool("hex") {
		return inHex(b)
	}
	return visible(b, lines)
}

// shortMax is how much of a value one line shows.
const shortMax = 100

// short is the beginning of a value on one line, and how much there is of it.
func (c *call) short(b []byte) string {
	if len(b) <= shortMax {
		return c.text(b, false)
	}
	return fmt.Sprintf("%s... (%d bytes)", c.text(b[:shortMax], false), len(b))
}

// document writes one JSON document whose list may be of any length: the fields of head, a struct, the list, and the fields of a foot.
type document struct {
	w     *bufio.Writer
	head  any
	list  string
	n     int
	begun bool
}

func newDocument(w io.Writer, head any, list string) *document {
	return &document{w: bufio.NewWriter(w), head: head, list: list}
}

// begin writes the head when nothing was written yet.
func (d *document) begin() error {
	if d.begun {
		return nil
	}
	d.begun = true
	b, err := json.Marshal(d.head)
	if err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	b = b[:len(b)-1] // its brace
	if len(b) > 1 {
		b = append(b, ',')
	}
	_, err = fmt.Fprintf(d.w, "%s%q:[", b, d.list)
	return err
}

func (d *document) add(v any) error {
	if err := d.begin(); err != nil {
		return err
	}
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	sep := ",\n"
	if d.n++; d.n == 1 {
		sep = "\n"
	}
	_, err = fmt.Fprintf(d.w, "%s%s", sep, b)
	return err
}

// end closes the list and writes the fields of foot, a struct with at least one.
func (d *document) end(foot any) error {
	if err := d.begin(); err != nil {
		return err
	}
	b, err := json.Marshal(foot)
	if err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	if _, err := fmt.Fprintf(d.w, "],%s\n", b[1:]); err != nil {
		return err
	}
	return d.w.Flush()
}

// counted is the foot of a list.
type counted struct {
	Count int `json:"count"`
}
