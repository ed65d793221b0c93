package term

import (
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// Screen is one page on a terminal that is drawn again and again, on a page of its own, so that what was on the terminal before is there again after Close.
type Screen struct {
	w    io.Writer
	size func() (width, height int)
}

// The control sequences of xterm, which every terminal of today understands: the other page and back, the cursor away and back, to the top left corner, clear to the end of
// the line and of the page.
const (
	otherPage  = "\x1b[?1049h\x1b[?25l"
	firstPage  = "\x1b[?25h\x1b[?1049l"
	home       = "\x1b[H"
	clearLine  = "\x1b[K"
	clearBelow = "\x1b[J"
)

// NewScreen takes a terminal over until Close. False when w is none.
func NewScreen(w io.Writer) (*Screen, bool) {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return nil, false
	}
	s := &Screen{w: w, size: func() (int, int) {
		width, height, err := term.GetSize(int(f.Fd()))
		if err != nil || width < 1 || height < 1 {
			return 80, 24
		}
		return width, height
	}}
	_, _ = io.WriteString(w, otherPage)
	return s, true
}

// Draw shows text, as much of it as fits. Its lines must be clean.
func (s *Screen) Draw(text string) error {
	width, height := s.size()
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	if n := len(lines); n > height {
		lines = append(lines[:height-1], fmt.Sprintf("... and %d lines more", n-height+1))
	}
	var b strings.Builder
	b.WriteString(home)
	for i, line := range lines {
		if i > 0 {
			b.WriteString("\r\n")
		}
		if r := []rune(line); len(r) > width {
			line = string(r[:width])
		}
		b.WriteString(line + clearLine)
	}
	b.WriteString(clearBelow)
	_, err := io.WriteString(s.w, b.String())
	return err
}

// Close gives the terminal back as it was.
func (s *Screen) Close() { _, _ = io.WriteString(s.w, firstPage) }
