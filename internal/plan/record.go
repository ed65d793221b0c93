package plan

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	mrand "math/rand/v2"
	"reflect"
	"strings"
	"time"

	"etcd-steward/internal/fail"
)

const (
	// swapTries is how often a state that others move on is read and written again.
	swapTries = 30
	swapPause = 100 * time.Millisecond
)

// log writes a line of the journal on this machine.
func (w *work) log(what Mark, step string, result json.RawMessage, why string) error {
	return w.around(strings.TrimSpace(fmt.Sprintf("local %s %s", verb(what), step)), func() error {
		return w.journal.Append(Line{What: what, Step: step, Result: result, Error: cut(why, maxError/4)})
	})
}

// verb is how a mark is called in the names of hooks.
func verb(m Mark) string {
	if m == Begun {
		return "begin"
	}
	return string(m)
}

// moved is move under the hook's name for the board.
func (w *work) moved(ctx context.Context, what string, f func(*State) error) (*State, error) {
	return w.move(ctx, "board "+what, f)
}

func (w *work) move(ctx context.Context, what string, f func(*State) error) (st *State, err error) {
	err = w.around(what, func() error {
		st, err = w.update(ctx, w.plan, true, f)
		return err
	})
	return st, err
}

// update moves the state of a plan on. When the board is away and patient says so, it is waited for.
func (r *Runner) update(ctx context.Context, p *Plan, patient bool, f func(*State) error) (*State, error) {
	var st *State
	try := func() (err error) {
		st, err = r.swap(ctx, p, f)
		return err
	}
	if !patient {
		return st, try()
	}
	return st, r.patiently(ctx, try)
}

// swap reads, moves and writes, until nobody was faster.
func (r *Runner) swap(ctx context.Context, p *Plan, f func(*State) error) (*State, error) {
	for try := range swapTries {
		st, version, err := readState(ctx, r.Board, p)
		if err != nil {
			return nil, err
		}
		before := st.clone()
		if err := f(st); err != nil {
			return before, err
		}
		if version != "" && reflect.DeepEqual(st, before) {
			return st, nil
		}
		st.Nonce, st.Changed = rand.Text(), now()
		doc, err := st.Encode(p)
		if err != nil {
			return before, fmt.Errorf("write the state of plan %s: %w", p.ID, err)
		}
		var ok bool
		if version == "" {
			ok, err = r.Board.Create(ctx, stateName(p.ID), doc)
		} else {
			ok, err = r.Board.Swap(ctx, stateName(p.ID), version, doc)
		}
		if err != nil {
			return before, fmt.Errorf("write the state of plan %s: %w", p.ID, err)
		}
		if ok {
			return st, nil
		}
		if err := pause(ctx, mrand.N(swapPause)*time.Duration(1+min(try, 10))); err != nil { //nolint:gosec // chance, not secrecy
			return before, err
		}
	}
	return nil, fmt.Errorf("write the state of plan %s: %d others were faster, one after the other", p.ID, swapTries)
}

// clone is a deep copy.
func (s *State) clone() *State {
	body, err := json.Marshal(s)
	var c State
	if err == nil {
		err = json.Unmarshal(body, &c)
	}
	if err != nil {
		panic("unreachable: a state that was decoded cannot be encoded: " + err.Error())
	}
	if c.Parties == nil {
		c.Parties = map[string]*PartyState{}
	}
	if c.Steps == nil {
		c.Steps = map[string]*StepState{}
	}
	return &c
}

// readState is the state of a plan; a new one and no version when there is none.
func readState(ctx context.Context, b Board, p *Plan) (*State, string, error) {
	doc, version, err := b.Read(ctx, stateName(p.ID))
	if err != nil {
		return nil, "", unreadable(ctx, b, fmt.Errorf("read the state of plan %s: %w", p.ID, err))
	}
	if version == "" {
		return newState(p, now()), "", nil
	}
	st, err := DecodeState(p, doc)
	if err != nil {
		return nil, "", &unreadableError{err}
	}
	return st, version, nil
}

// patiently repeats f while the board is away, for a while.
func (r *Runner) patiently(ctx context.Context, f func() error) error {
	patience := r.Patience
	if patience == 0 {
		patience = defaultPatience
	}
	wait := max(r.Poll, pollLeast/5)
	for until, said := time.Now().Add(patience), false; ; {
		err := f()
		switch {
		case err == nil || !r.Board.Away(err) || ctx.Err() != nil:
			return err
		case time.Now().Add(wait).After(until):
			return fail.New(fail.Failed, fmt.Errorf("the store is away, for longer than %v: %w", patience, err),
				"nothing is lost: the same command goes on when the store is back")
		case !said:
			r.say("the store does not answer; trying again for %v: %v", patience, err)
			said = true
		}
		if err := pause(ctx, wait); err != nil {
			return err
		}
		wait = min(wait*2, pollMost)
	}
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// boundedResult is whether a result may be written.
func boundedResult(raw json.RawMessage) error {
	var indented bytes.Buffer
	if err := json.Indent(&indented, raw, "      ", "  "); err != nil {
		return fmt.Errorf("what it returned is no JSON: %w", err)
	}
	if len(raw) > maxResult || indented.Len() > maxResultIndented {
		return fmt.Errorf("what it returned has %d bytes, more than the %d that a result may have", len(raw), maxResult)
	}
	return nil
}

func list(words []string) string { return strings.Join(words, ", ") }
