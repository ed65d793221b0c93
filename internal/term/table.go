package term

import (
	"fmt"
	"io"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// Column is one column of a table.
type Column struct {
	Title string
	Right bool // for numbers
}

// Columns makes columns of their titles; one that begins with ">" is for numbers.
func Columns(titles ...string) []Column {
	var all []Column
	for _, t := range titles {
		title, right := strings.CutPrefix(t, ">")
		all = append(all, Column{Title: title, Right: right})
	}
	return all
}

// Table writes rows under upper-case titles, without lines, so that awk and eyes can both read it. A column in which no
// row says anything is left out.
func Table(w io.Writer, columns []Column, rows [][]string) error {
	t := table.NewWriter()
	style := table.StyleDefault
	style.Options = table.OptionsNoBordersAndSeparators
	style.Box.PaddingLeft = ""
	style.Box.PaddingRight = "  "
	style.Format.Header = text.FormatUpper
	t.SetStyle(style)
	t.SuppressTrailingSpaces()

	shown := spoken(len(columns), rows)
	var header table.Row
	var configs []table.ColumnConfig
	for i, c := range columns {
		if !shown[i] {
			continue
		}
		align := text.AlignLeft
		if c.Right {
			align = text.AlignRight
		}
		header = append(header, c.Title)
		configs = append(configs, table.ColumnConfig{Number: len(header), Align: align, AlignHeader: align})
	}
	t.AppendHeader(header)
	t.SetColumnConfigs(configs)
	for _, r := range rows {
		var row table.Row
		for i := range columns {
			if shown[i] {
				row = append(row, Clean(cell(r, i)))
			}
		}
		t.AppendRow(row)
	}
	_, err := fmt.Fprintln(w, t.Render())
	return err
}

// spoken says of each column whether any row has something in it.
func spoken(columns int, rows [][]string) []bool {
	shown := make([]bool, columns)
	for i := range shown {
		shown[i] = len(rows) == 0
		for _, r := range rows {
			shown[i] = shown[i] || cell(r, i) != ""
		}
	}
	return shown
}

func cell(row []string, i int) string {
	if i < len(row) {
		return row[i]
	}
	return ""
}

// Field is one line of a description.
type Field struct{ Name, Value string }

// Fields writes names and values in two columns. A field without a name continues the one above; one without a value is left out.
func Fields(w io.Writer, fields []Field) error {
	width := 0
	for _, f := range fields {
		width = max(width, len(f.Name))
	}
	for _, f := range fields {
		if f.Value == "" {
			continue
		}
		name := f.Name
		if name != "" {
			name += ":"
		}
		line := fmt.Sprintf("%-*s  %s", width+1, name, Clean(f.Value))
		if _, err := fmt.Fprintln(w, strings.TrimRight(line, " ")); err != nil {
			return err
		}
	}
	return nil
}
