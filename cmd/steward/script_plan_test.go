package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/urfave/cli/v2"

	"etcd-steward/backup/repo"
	"etcd-steward/internal/fail"
	"etcd-steward/internal/plan"
)

// testKind is a kind of plan for the scripts: its steps make files in the folder $WORLD, fail while there is a
// file called <step>.sick, and do not end while there is one called <step>.stuck.
const testKind = "test-files"

func init() {
	planKinds[testKind] = func(*call, *plan.Plan) (plan.Actions, error) {
		dir := os.Getenv("WORLD")
		return plan.Actions{"file": {
			Do: func(ctx context.Context, t *plan.Task) (any, error) {
				if _, err := os.Stat(filepath.Join(dir, t.Step.Name+".stuck")); err == nil {
					<-ctx.Done()
					return nil, ctx.Err()
				}
				if _, err := os.Stat(filepath.Join(dir, t.Step.Name+".sick")); err == nil {
					return nil, fmt.Errorf("%s is sick", t.Step.Name)
				}
				return nil, os.WriteFile(filepath.Join(dir, t.Step.Name), nil, 0o600)
			},
			Undo: func(_ context.Context, t *plan.Task) error {
				if err := os.Remove(filepath.Join(dir, t.Step.Name)); !errors.Is(err, os.ErrNotExist) {
					return err
				}
				return nil
			},
		}}, nil
	}
}

// planner is a program for the scripts: `planner [--state-dir DIR] STEP...` opens a plan of steps written as party/name[,final][,optional][<after...] and prints its ID.
func planner() {
	app := newApp(os.Stdin, os.Stdout, os.Stderr)
	app.Commands = []*cli.Command{{Name: "open", Action: action(openTestPlan)}}
	equip("", app.Commands)
	err := app.Run(append([]string{"planner", "open"}, os.Args[1:]...))
	if err != nil {
		os.Exit(int(explain(os.Stderr, err, false)))
	}
}

func openTestPlan(c *call) error {
	p, err := testPlan(c.Args().Slice())
	if err != nil {
		return err
	}
	room, err := c.planRoom()
	if err != nil {
		return err
	}
	r, err := room.runner(c, p, nil)
	if err != nil {
		return err
	}
	if err := r.Open(c.ctx, p); err != nil {
		return err
	}
	return c.answer(p, func(w io.Writer) error {
		_, err := fmt.Fprintln(w, p.ID)
		return err
	})
}

func testPlan(args []string) (*plan.Plan, error) {
	p := plan.Plan{Kind: testKind, Title: "make some files", Cluster: "cdf818194e3a8c32", Made: time.Now(), MadeBy: hostname(), Warnings: []string{"files may be made"}}
	for _, arg := range args {
		arg, after, _ := strings.Cut(arg, "<")
		words := strings.Split(arg, ",")
		party, name, ok := strings.Cut(words[0], "/")
		if !ok {
			return nil, fail.New(fail.Usage, fmt.Errorf("%q is no step", arg), "")
		}
		s := plan.Step{Name: name, Party: party, Action: "file", Text: "make the file " + name, State: name + " is there"}
		for _, word := range words[1:] {
			s.Final, s.Optional = s.Final || word == "final", s.Optional || word == "optional"
		}
		s.After = strings.FieldsFunc(after, func(r rune) bool { return r == '<' })
		p.Steps = append(p.Steps, s)
	}
	return plan.New(p)
}

// rewrite FILE KIND OLD NEW: changes text in a sealed document, as somebody would who knows how seals are made.
func cmdRewrite(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 4 {
		ts.Fatalf("usage: rewrite FILE KIND OLD NEW")
	}
	path := ts.MkAbs(args[0])
	doc, err := os.ReadFile(path)
	ts.Check(err)
	var body json.RawMessage
	ts.Check(repo.Unseal(args[1], 1, doc, &body))
	changed := bytes.Replace(body, []byte(args[2]), []byte(args[3]), 1)
	if bytes.Equal(changed, body) {
		ts.Fatalf("%q is not in %s", args[2], body)
	}
	doc, err = repo.Seal(args[1], 1, json.RawMessage(changed))
	ts.Check(err)
	ts.Check(os.WriteFile(path, doc, 0o600))
}
