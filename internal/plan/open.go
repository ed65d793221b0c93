package plan

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"etcd-steward/internal/fail"
)

// pointer names the newest plan of the cluster: one document, moved on by compare-and-swap, so that of two operators one opens a plan. A plan whose ID it
// never held was never opened, and none of its steps is ever begun.
type pointer struct {
	Plan  string    `json:"plan"`
	Nonce string    `json:"nonce"`
	At    time.Time `json:"at"`
	Host  string    `json:"host"`
	// Abandoned is why a plan was given up whose own documents cannot be read.
	Abandoned string `json:"abandoned,omitempty"`
}

const maxPointer = 64 << 10

func readPointer(ctx context.Context, b Board) (pointer, string, error) {
	doc, version, err := b.Read(ctx, openName)
	if err != nil {
		return pointer{}, "", fmt.Errorf("read which plan is open: %w", err)
	}
	if version == "" {
		return pointer{}, "", nil
	}
	var ptr pointer
	if err = strictly(doc[:min(len(doc), maxPointer)], &ptr); err == nil && !idForm.MatchString(ptr.Plan) {
		err = fmt.Errorf("%.80q is no plan's ID", ptr.Plan)
	}
	if err != nil {
		return pointer{}, "", fmt.Errorf("read which plan is open: %w", err)
	}
	return ptr, version, nil
}

// Open stores a plan and makes it the cluster's open one. While another is unfinished it is refused (fail.Unsafe). Opening the same plan again is no error.
func (r *Runner) Open(ctx context.Context, p *Plan) error {
	if err := p.Validate(); err != nil {
		return err
	}
	if r.Cluster != "" && r.Cluster != p.Cluster {
		return fail.Refused(fmt.Errorf("plan %s is for cluster %s, this is cluster %s", p.ID, p.Cluster, r.Cluster), "")
	}
	alone, err := r.alone()
	if err != nil {
		return err
	}
	defer alone()
	held, release, err := r.hold(ctx, openLock)
	if err != nil {
		return err
	}
	defer release()
	if err := r.around("board plan", func() error { return r.patiently(held, func() error { return r.store(held, p) }) }); err != nil {
		return err
	}
	return r.around("board open", func() error { return r.patiently(held, func() error { return r.point(held, p) }) })
}

// openLock is the lock of whoever opens a plan, and the name of the file that keeps other processes of this machine out.
const openLock = "open"

func (r *Runner) alone() (release func(), err error) {
	if err := makeFolder(r.Dir); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(r.Dir, openLock+".lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open a plan: %w", err)
	}
	if err := lockFile(f); err != nil {
		_ = f.Close()
		return nil, fail.Refused(fmt.Errorf("open a plan: %w", err), "wait for it to end")
	}
	return func() { unlockFile(f) }, nil
}

// store puts the plan on the board, where it is nothing but a document yet.
func (r *Runner) store(ctx context.Context, p *Plan) error {
	doc, err := p.Encode()
	if err != nil {
		return err
	}
	ok, err := r.Board.Create(ctx, planName(p.ID), doc)
	if err != nil || ok {
		return err
	}
	have, err := readPlan(ctx, r.Board, p.ID)
	if err != nil {
		return err
	}
	if there, err := have.Encode(); err != nil || !bytes.Equal(there, doc) {
		return fail.Refused(errors.Join(fmt.Errorf("%w: the store has another plan called %s", ErrTampered, p.ID), err), "find out who changed it")
	}
	return nil
}

// point makes it the open one.
func (r *Runner) point(ctx context.Context, p *Plan) error {
	for range swapTries {
		ptr, version, err := readPointer(ctx, r.Board)
		if err != nil {
			return err
		}
		if ptr.Plan == p.ID {
			return nil
		}
		if err := unfinished(ctx, r.Board, ptr); err != nil {
			return err
		}
		doc, err := json.Marshal(pointer{Plan: p.ID, Nonce: rand.Text(), At: now(), Host: r.Machine.Host})
		if err != nil {
			return err
		}
		var ok bool
		if version == "" {
			ok, err = r.Board.Create(ctx, openName, doc)
		} else {
			ok, err = r.Board.Swap(ctx, openName, version, doc)
		}
		if err != nil || ok {
			return err
		}
	}
	return fmt.Errorf("open plan %s: %d others were faster, one after the other", p.ID, swapTries)
}

// unfinished refuses when the plan that the pointer names is not finished.
func unfinished(ctx context.Context, b Board, ptr pointer) error {
	if ptr.Plan == "" || ptr.Abandoned != "" {
		return nil
	}
	give := fmt.Sprintf("steward plan close %s --force REASON", ptr.Plan)
	p, err := readPlan(ctx, b, ptr.Plan)
	var st *State
	if err == nil {
		st, _, err = readState(ctx, b, p)
	}
	if err != nil {
		if b.Away(err) || ctx.Err() != nil {
			return err
		}
		return fail.Refused(fmt.Errorf("another plan is open, and cannot be read: %w", err), "find out what it has done, then: "+give)
	}
	if st.Phase.Finished() {
		return nil
	}
	return fail.Refused(fmt.Errorf("plan %s (%s) is %s, since %s: one plan at a time", p.ID, p.Title, st.Phase, ptr.At.Format(time.RFC3339)),
		fmt.Sprintf("see it: steward plan status %s; go on: steward plan run %s --party NAME (%s); go back: steward plan rollback %s; give it up: %s",
			p.ID, p.ID, list(p.Parties()), p.ID, give))
}

// opened is whether the plan was opened and, before anything of it is done, whether it is still the newest: what is left of an older one may only be done
// when its action knows that it still fits, and one that is open although another was opened since is an old copy.
func (r *Runner) opened(ctx context.Context, p *Plan, party string) error {
	return r.patiently(ctx, func() error {
		st, version, err := readState(ctx, r.Board, p)
		if err != nil {
			return err
		}
		if version != "" && !st.left(p, party) {
			return nil
		}
		ptr, _, err := readPointer(ctx, r.Board)
		switch {
		case err != nil || ptr.Plan == p.ID && ptr.Abandoned == "":
			return err
		case ptr.Plan == p.ID:
			return fail.Refused(fmt.Errorf("plan %s was given up: %s", p.ID, ptr.Abandoned), "make a new one")
		case version == "":
			return fail.Refused(fmt.Errorf("plan %s was never opened", p.ID), "make it anew; nothing of it was done")
		case st.Phase == Done:
			return r.late(ctx, p, party, st, ptr.Plan)
		case ptr.Plan == "": // the document is gone: then nobody has opened another one
			return nil
		}
		return fail.Refused(fmt.Errorf("plan %s is %s, and plan %s was opened since: the store has an old copy of it", p.ID, st.Phase, ptr.Plan),
			fmt.Sprintf("look at what is on the hosts, then: steward plan close %s --force REASON", p.ID))
	})
}

// late is whether all that a party has left of a plan that is done still fits, after another was opened.
func (r *Runner) late(ctx context.Context, p *Plan, party string, st *State, since string) error {
	for _, step := range p.Of(party) {
		if st.mark(step.Name) == DoneOK {
			continue
		}
		why := errors.New("what is left of the old one may not fit any more")
		if fits := r.Actions[step.Action].Late; fits != nil {
			why = fits(ctx, &Task{Plan: p, Step: step, Again: st.mark(step.Name) != "", say: r.Say})
		}
		if why != nil {
			return fail.Refused(fmt.Errorf("plan %s is done, and plan %s was opened since: %w", p.ID, since, why), cmp.Or(fail.HintOf(why), "see what was left, and look at this host: steward plan status "+p.ID))
		}
	}
	return nil
}

// left is whether a party has anything to do or undo.
func (s *State) left(p *Plan, party string) bool {
	switch s.Phase {
	case Open, RollingBack:
		return party != ""
	case Done:
		return slices.ContainsFunc(p.Of(party), func(step Step) bool { return s.mark(step.Name) != DoneOK })
	}
	return false
}

// Close gives an unfinished plan up, as it is, so that another can be opened. The reason stays on the board.
func (r *Runner) Close(ctx context.Context, id, reason string) error {
	if err := readable(reason); err != nil || strings.TrimSpace(reason) == "" {
		return fail.New(fail.Usage, errors.Join(errors.New("a plan is given up for a reason that can be read later"), err), "--force REASON")
	}
	return r.around("board close", func() error {
		p, err := readPlan(ctx, r.Board, id)
		if err == nil {
			if err = r.opened(ctx, p, ""); err == nil {
				_, err = r.update(ctx, p, true, func(s *State) error { return s.abandon(p, r.Machine, reason, now()) })
			}
			if damaged := new(unreadableError); !errors.As(err, &damaged) {
				return err
			}
		}
		if r.Board.Away(err) || ctx.Err() != nil {
			return err
		}
		r.say("the plan cannot be read (%v): it is marked as given up", err)
		return r.patiently(ctx, func() error { return r.disown(ctx, id, reason, err) })
	})
}

// disown gives a plan up that cannot be read.
func (r *Runner) disown(ctx context.Context, id, reason string, cause error) error {
	ptr, version, err := readPointer(ctx, r.Board)
	if err != nil {
		return err
	}
	if ptr.Plan != id {
		return cause
	}
	ptr.Abandoned, ptr.Nonce, ptr.At, ptr.Host = reason, rand.Text(), now(), r.Machine.Host
	doc, err := json.Marshal(ptr)
	if err != nil {
		return err
	}
	ok, err := r.Board.Swap(ctx, openName, version, doc)
	if err == nil && !ok {
		err = errors.New("someone else was faster")
	}
	return err
}
