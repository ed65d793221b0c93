package main

import (
	"fmt"
	"io"
	"time"

	"etcd-steward/backup"
	"etcd-steward/backup/repo"
	"etcd-steward/internal/term"
)

// verifyTable is one row for each object or log that was checked, and what is wrong with some of them below it.
func verifyTable(w io.Writer, rep *backup.Report, now time.Time) error {
	var rows [][]string
	var below problems
	for _, v := range rep.Backups {
		restore := ""
		if v.RestoreSeconds > 0 {
			restore = term.Seconds(v.RestoreSeconds)
		}
		rows = append(rows, []string{
			string(v.ID), term.Age(now.Sub(v.Time)), fmt.Sprint(v.Revision), v.Level, resultWord(v.Result), term.Bytes(v.Bytes), term.Seconds(v.Seconds), restore,
		})
		below.add(string(v.ID), v.Problem)
	}
	for _, v := range rep.Changes {
		proofs := ""
		if v.Proofs > 0 {
			proofs = fmt.Sprint(v.Proofs)
		}
		rows = append(rows, []string{
			"changes " + v.Timeline.String(), "", fmt.Sprintf("%d-%d", v.First, v.Last), v.Checked(), resultWord(v.Result), term.Bytes(v.Bytes), term.Seconds(v.Seconds), "", proofs,
		})
		for _, f := range v.Findings {
			what := f.Key
			if what == "" {
				what = "changes " + v.Timeline.String()
			}
			below.add(what, f.Problem)
		}
	}
	for _, m := range rep.Missing {
		rows = append(rows, []string{string(m.ID), term.Age(now.Sub(m.Time)), fmt.Sprint(m.Revision), repo.LevelBytes, "LOST"})
		below.add(string(m.ID), "its data is missing")
	}
	for _, d := range rep.DamagedDocuments {
		rows = append(rows, []string{d.Key, "", "", repo.LevelBytes, "BAD"})
		below.add(d.Key, d.Problem)
	}
	if err := term.Table(w, term.Columns("id", ">age", ">revision", "checked", "result", ">read", ">took", ">restore took", ">hashes equal"), rows); err != nil {
		return err
	}
	return below.write(w)
}

// resultWord is a result as the table says it: what is bad must not be overlooked.
func resultWord(result string) string {
	if result == backup.ResultBad {
		return "BAD"
	}
	return result
}

// findings is how many things are wrong.
func findings(rep *backup.Report) int {
	n := len(rep.Missing) + len(rep.DamagedDocuments)
	for _, v := range rep.Backups {
		if !v.OK {
			n++
		}
	}
	for _, v := range rep.Changes {
		n += len(v.Findings)
	}
	return n
}

// notesMax is how many notes of one log are shown; -o json has them all.
const notesMax = 5

func verifyNotes(c *call, rep *backup.Report) {
	for _, v := range rep.Backups {
		if v.Note != "" {
			c.note("%s: %s", v.ID, v.Note)
		}
	}
	for _, v := range rep.Changes {
		for i, n := range v.Notes {
			if i == notesMax {
				c.note("changes %s: and %s", v.Timeline, term.Counted(len(v.Notes)-i, "more note", "more notes"))
				break
			}
			c.note("changes %s: %s", v.Timeline, n)
		}
	}
}
