package main

import (
	"fmt"
	"io"
	"strings"

	"etcd-steward/internal/term"
)

// problems are what is wrong with some rows of a table. They are written below it: in a column they would be longer than the lines of a terminal.
type problems []string

func (p *problems) add(what, why string) {
	if why != "" {
		*p = append(*p, term.Clean(what+": "+why))
	}
}

func (p problems) write(w io.Writer) error {
	if len(p) == 0 {
		return nil
	}
	_, err := fmt.Fprintln(w, "\n"+strings.Join(p, "\n"))
	return err
}
