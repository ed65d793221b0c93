package plan

import (
	"fmt"

	"etcd-steward/internal/fail"
)

// Everything is written here before it is written on the board, so this machine's journal is at most one mark ahead. A board that is further behind is not the
// one that this machine wrote to: an old copy of it, or one from which something was deleted.
func reconcile(here, board Mark) error {
	ok := true
	switch here {
	case DoneOK, Undoing:
		ok = board != ""
	case Undone:
		ok = board == Undoing || board == Undone
	}
	if ok {
		return nil
	}
	if board == "" {
		return fmt.Errorf("is %s by this machine's journal, and was never begun by the store", here)
	}
	return fmt.Errorf("is %s by this machine's journal, and %s by the store", here, board)
}

// reconcile compares this machine's journal with the board.
func (w *work) reconcile(st *State) error {
	for _, step := range w.plan.Of(w.party) {
		if err := reconcile(w.journal.Mark(step.Name), st.mark(step.Name)); err != nil {
			return fail.Refused(fmt.Errorf("step %q of plan %s %w: the store is not as this machine left it", step.Name, w.plan.ID, err),
				fmt.Sprintf("look at what is on the hosts, then: steward plan close %s --force REASON", w.plan.ID))
		}
	}
	return nil
}
