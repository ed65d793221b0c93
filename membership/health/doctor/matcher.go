package doctor

import (
	"bytes"
	"encoding/binary"
	"sync"
)

// matcher finds the signatures that a line shows in one pass over it, however many there are: it looks for the beginning of one text of each alternative.
type matcher struct {
	maybe   [1 << 12]bool // by a hash of four bytes: whether any text begins with such
	anchors map[uint32][]anchor
}

// anchor is a text by which an alternative is recognised.
type anchor struct {
	text      []byte
	rest      [][]byte // what else the line must hold
	signature int
	over      bool // it shows the end of it
}

// anchorLeast is how long an anchor must be.
const anchorLeast = 4

var theMatcher = sync.OnceValue(func() *matcher {
	m := &matcher{anchors: map[uint32][]anchor{}}
	for i, s := range Signatures {
		for _, all := range s.Any {
			m.add(i, all, false)
		}
		for _, text := range s.Over {
			m.add(i, []string{text}, true)
		}
	}
	return m
})

// add takes the longest text for the anchor, since it is the rarest.
func (m *matcher) add(signature int, all []string, over bool) {
	longest := 0
	for i, text := range all {
		if len(text) > len(all[longest]) {
			longest = i
		}
	}
	a := anchor{text: []byte(all[longest]), signature: signature, over: over}
	for i, text := range all {
		if i != longest {
			a.rest = append(a.rest, []byte(text))
		}
	}
	if len(a.text) < anchorLeast {
		panic("unreachable: a signature's text is too short: " + all[longest])
	}
	key := binary.LittleEndian.Uint32(a.text)
	m.maybe[hash(key)] = true
	m.anchors[key] = append(m.anchors[key], a)
}

func hash(key uint32) uint32 { return key * 2654435761 >> 20 }

// each calls f for every alternative that a line shows; a signature may come several times.
func (m *matcher) each(line []byte, f func(signature int, over bool)) {
	for i := 0; i+anchorLeast <= len(line); i++ {
		key := binary.LittleEndian.Uint32(line[i:])
		if !m.maybe[hash(key)] {
			continue
		}
		for _, a := range m.anchors[key] {
			if bytes.HasPrefix(line[i:], a.text) && holdsAll(line, a.rest) {
				f(a.signature, a.over)
			}
		}
	}
}

func holdsAny(line []byte, texts []string) bool {
	for _, t := range texts {
		if bytes.Contains(line, []byte(t)) {
			return true
		}
	}
	return false
}

func holdsAll(line []byte, parts [][]byte) bool {
	for _, p := range parts {
		if !bytes.Contains(line, p) {
			return false
		}
	}
	return true
}
