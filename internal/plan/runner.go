package plan

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"etcd-steward/internal/fail"
)

// The defaults of a Runner.
const (
	pollLeast = 500 * time.Millisecond
	pollMost  = 5 * time.Second
	// defaultPatience is shorter than a lock lives without being renewed: a store that stays away is told of as such, and not as a lost lock.
	defaultPatience = 45 * time.Second
	// recordTimeout bounds what is still written after the work's context has ended.
	recordTimeout = 15 * time.Second
)

// Runner executes the parts of plans that are this machine's.
type Runner struct {
	Board   Board
	Lock    Lock
	Dir     string // where plans and journals are kept on this machine: a folder per plan
	Machine Machine
	Actions Actions
	// Cluster is the ID of the cluster that is here, in hex; a plan for another one is refused. "" when it is not known: then the actions must find out.
	Cluster string
	// Say is given lines for people; nil: nobody listens.
	Say func(line string)
	// TakeOver moves the party to this machine from one that is gone for good.
	TakeOver bool
	leaves   string // why this party's part is left as it is; "": it is done or undone

	// Patience is how long a board that is away is waited for; 0 means 45 seconds.
	Patience time.Duration
	// Poll is how long a barrier waits before it looks again, at first; it grows to ten times that. 0 means half a second.
	Poll time.Duration
	// Hook is called before and after everything that is journaled, and every action: "before board begin X". nil but in tests.
	Hook func(point string)
}

func (r *Runner) say(format string, a ...any) {
	if r.Say != nil {
		r.Say(fmt.Sprintf(format, a...))
	}
}

// around calls the hook before and after f.
func (r *Runner) around(point string, f func() error) error {
	if r.Hook != nil {
		r.Hook("before " + point)
	}
	err := f()
	if r.Hook != nil {
		r.Hook("after " + point)
	}
	return err
}

// now is the time that is written: to the second, in UTC.
func now() time.Time { return time.Now().UTC().Truncate(time.Second) }

// Run executes a party's steps from where they stand, and returns when they are done. The same call after a crash, a timeout or an error goes on. It waits for
// steps of other parties; a step that failed there, a rollback or the end of ctx ends the wait with an error that says so. An exit code of 4 means that
// what it names was refused; steps before it may be done.
func (r *Runner) Run(ctx context.Context, p *Plan, party string) error {
	return r.work(ctx, p, party, func(ctx context.Context, w *work) error {
		st, err := r.claim(ctx, w)
		if err != nil {
			return err
		}
		if err := w.reconcile(st); err != nil {
			return err
		}
		for _, step := range p.Of(party) {
			if st.mark(step.Name) == DoneOK {
				continue
			}
			if st, err = w.do(ctx, step); err != nil {
				return err
			}
		}
		return nil
	})
}

// claim makes the party this machine's, if the plan is open and nothing speaks against it.
func (r *Runner) claim(ctx context.Context, w *work) (*State, error) {
	p := w.plan
	if err := r.opened(ctx, p, w.party); err != nil {
		return nil, err
	}
	if err := w.forget(ctx); err != nil {
		return nil, err
	}
	return w.moved(ctx, "claim", func(s *State) error {
		if err := s.runnable(p, w.party); err != nil {
			return err
		}
		return s.claim(p, w.party, r.Machine, r.TakeOver, now())
	})
}

// forget notes, before a party becomes this machine's, that what this machine's journal says of earlier is not the last word: another was at it meanwhile.
func (w *work) forget(ctx context.Context) error {
	var have *PartyState
	err := w.patiently(ctx, func() error {
		st, _, err := readState(ctx, w.Board, w.plan)
		if err == nil {
			have = st.Parties[w.party]
		}
		return err
	})
	if err != nil || have != nil && have.Machine == w.Machine {
		return err
	}
	return w.log(claimedLine, "", nil, "")
}

// work is one run of a party: the lock is held and the journal open.
type work struct {
	*Runner
	plan    *Plan
	party   string
	journal *Journal
}

// work checks what can be checked without the board, keeps others out, and calls f. A run that ends before its part is done leaves a note on the board.
func (r *Runner) work(ctx context.Context, p *Plan, party string, f func(context.Context, *work) error) error {
	if err := r.admit(p, party); err != nil {
		return err
	}
	j, err := OpenJournal(r.Dir, p, party)
	if err != nil {
		return err
	}
	defer j.Close()
	held, release, err := r.hold(ctx, p.ID+"/"+party)
	if err != nil {
		return err
	}
	defer release()
	w := &work{Runner: r, plan: p, party: party, journal: j}
	err = f(held, w)
	if err != nil && errors.Is(context.Cause(held), ErrLockLost) && ctx.Err() == nil {
		err = fail.New(fail.Failed, fmt.Errorf("party %s of plan %s stopped: %w: %w", party, p.ID, ErrLockLost, err), "see who executes it now: steward plan status "+p.ID)
	}
	if err != nil && fail.ExitCode(err) != fail.Unsafe {
		w.note(ctx, err)
	}
	return err
}

// admit is whether this runner can execute the plan at all.
func (r *Runner) admit(p *Plan, party string) error {
	if err := p.Validate(); err != nil {
		return err
	}
	if r.Cluster != "" && r.Cluster != p.Cluster {
		return fail.Refused(fmt.Errorf("plan %s is for cluster %s, this is cluster %s", p.ID, p.Cluster, r.Cluster), "see which plans are this cluster's: steward plan list")
	}
	if len(p.Of(party)) == 0 {
		return fail.New(fail.Usage, fmt.Errorf("plan %s has no party %q", p.ID, party), fmt.Sprintf("its parties: %s", list(p.Parties())))
	}
	for _, step := range p.Of(party) {
		if r.Actions[step.Action].Do == nil {
			return fail.New(fail.Usage, fmt.Errorf("step %q of plan %s is a %q, which this version of steward cannot do", step.Name, p.ID, step.Action), "use the version that made the plan")
		}
	}
	return nil
}

// note leaves on the board why this run stopped. It is a help for people, so its failure is none.
func (w *work) note(ctx context.Context, why error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout/3)
	defer cancel()
	_, err := w.update(ctx, w.plan, false, func(s *State) error { return s.stop(w.party, w.Machine, why.Error(), now()) })
	if err != nil {
		w.say("could not leave word of it in the store: %v", err)
	}
}

// do waits until a step may begin, and does it.
func (w *work) do(ctx context.Context, step Step) (*State, error) {
	st, err := w.await(ctx, step, func(s *State) error { return s.readyToBegin(w.plan, step, w.Machine) })
	if err != nil {
		return st, err
	}
	again := st.mark(step.Name) != ""
	if again && w.journal.Mark(step.Name) == DoneOK { // done, and stopped before it could say so
		return w.moved(ctx, "done "+step.Name, func(s *State) error { return s.finish(w.plan, step, w.Machine, w.journal.Result(step.Name), now()) })
	}
	if st.Phase == Done { // it waited, and another plan may have been opened meanwhile
		if err := w.opened(ctx, w.plan, w.party); err != nil {
			return st, err
		}
	}
	if err := w.log(Begun, step.Name, nil, ""); err != nil {
		return st, err
	}
	if st, err = w.moved(ctx, "begin "+step.Name, func(s *State) error { return s.begin(w.plan, step, w.Machine, now()) }); err != nil {
		return st, err
	}
	w.say("%s: %s", step.Name, step.Text)
	var result json.RawMessage
	err = w.around("do "+step.Name, func() error {
		value, err := w.Actions[step.Action].Do(ctx, w.task(step, st, again))
		if err == nil {
			result, err = encodeResult(value)
		}
		return err
	})
	if err != nil {
		return w.failed(ctx, step, err)
	}
	// It is done, whatever has become of ctx meanwhile: that is worth a last try.
	rctx, cancel := record(ctx)
	defer cancel()
	if err := w.log(DoneOK, step.Name, result, ""); err != nil {
		return st, err
	}
	st, err = w.moved(rctx, "done "+step.Name, func(s *State) error { return s.finish(w.plan, step, w.Machine, result, now()) })
	if err == nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return st, err
}

// record is a context to say what has happened already: ctx while it lives, a short one afterwards.
func record(ctx context.Context) (context.Context, context.CancelFunc) {
	if ctx.Err() == nil {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
}

// failed says that a step is not done. One that was interrupted has not failed: it stays begun.
func (w *work) failed(ctx context.Context, step Step, cause error) (*State, error) {
	err := fail.Hint(fmt.Errorf("step %q of plan %s: %w", step.Name, w.plan.ID, cause), orElse(fail.HintOf(cause),
		fmt.Sprintf("go on with: steward plan run %s --party %s, or go back with: steward plan rollback %s --party %s", w.plan.ID, w.party, w.plan.ID, w.party)))
	if ctx.Err() != nil {
		return nil, err
	}
	if lerr := w.log(Failed, step.Name, nil, cause.Error()); lerr != nil {
		return nil, errors.Join(err, lerr)
	}
	_, berr := w.moved(ctx, "failed "+step.Name, func(s *State) error { return s.failed(w.plan, step, w.Machine, cause.Error(), now()) })
	return nil, errors.Join(err, berr)
}

func orElse(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// task is what an action is given.
func (w *work) task(step Step, st *State, again bool) *Task {
	t := &Task{Plan: w.plan, Step: step, Again: again, say: w.Say, results: map[string]json.RawMessage{}}
	for name := range w.plan.allBefore(step.Name) {
		if s := st.Steps[name]; s != nil {
			t.results[name] = s.Result
		}
	}
	if s := st.Steps[step.Name]; s != nil {
		t.results[step.Name] = s.Result
	}
	return t
}

// encodeResult is what an action returned, as it is written on the board.
func encodeResult(v any) (json.RawMessage, error) {
	if v == nil {
		return nil, nil
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode what it returned: %w", err)
	}
	if err := boundedResult(raw); err != nil {
		return nil, err
	}
	return raw, nil
}
