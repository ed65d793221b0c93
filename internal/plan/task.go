package plan

import (
	"context"
	"encoding/json"
	"fmt"
)

// Action is how the steps of one sort are done and undone.
type Action struct {
	// Do does the step. It is asked again when an earlier run may have begun it, and must then find out what is already so. What it returns is written on the
	// board as JSON (at most 4 KiB), where later steps of any party read it: no secrets. It must return soon after ctx ends.
	Do func(ctx context.Context, t *Task) (result any, err error)
	// Undo brings back what was before Do, also when Do did only a part or nothing of it, or when it was undone already. nil: there is nothing to undo.
	Undo func(ctx context.Context, t *Task) error
	// Late says, by what this machine is now, why an optional step that was left of a plan may not be done although others were opened since; nil: it never may.
	Late func(ctx context.Context, t *Task) error
}

// Actions are the actions of a kind of plan by the names that its steps know them by.
type Actions map[string]Action

// Task is one step that is being done or undone.
type Task struct {
	Plan *Plan
	Step Step
	// Again: the step had been begun before, by a run that did not say that it was done.
	Again bool

	say     func(string)
	results map[string]json.RawMessage // of the steps before it, and its own while it is undone
}

// Args decodes the step's arguments. Unknown fields are an error.
func (t *Task) Args(v any) error {
	if err := strictly(t.Step.Args, v); err != nil {
		return fmt.Errorf("arguments of step %q: %w", t.Step.Name, err)
	}
	return nil
}

// Result decodes what an earlier step, of any party, returned: one that this step comes after, directly or not. While a step is undone, its own result can be
// read as well; false means that there is none, as of a step that was begun and not done.
func (t *Task) Result(step string, v any) (bool, error) {
	raw, ok := t.results[step]
	if !ok || len(raw) == 0 {
		if step != t.Step.Name && !t.Plan.allBefore(t.Step.Name)[step] {
			return false, fmt.Errorf("step %q does not come after step %q, so it cannot read its result", t.Step.Name, step)
		}
		return false, nil
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return false, fmt.Errorf("result of step %q: %w", step, err)
	}
	return true, nil
}

// Say tells people what is going on, in one line.
func (t *Task) Say(format string, a ...any) {
	if t.say != nil {
		t.say(fmt.Sprintf(format, a...))
	}
}
