package plan

import (
	"context"
	"errors"
	"strings"
)

// Board is where the hosts of a plan see each other: small JSON objects, each with a name, in a place that all of them reach. An implementation is safe for
// concurrent use, and retries by itself what is safe to retry.
type Board interface {
	// Create writes a document that is not there yet. It returns false, and changes nothing, if there is one. After a lost answer it may return false although
	// it was this call that wrote.
	Create(ctx context.Context, name string, doc []byte) (bool, error)
	// Read returns a document and the version to give to Swap; no version ("") and no error if there is none. A document that is not what was written is an error.
	Read(ctx context.Context, name string) (doc []byte, version string, err error)
	// Swap replaces the document if it still has that version. It returns false, and changes nothing, if it has not; the same holds of lost answers as for Create.
	Swap(ctx context.Context, name, version string, doc []byte) (bool, error)
	// List names the documents, in any order. It may lack what was written a moment ago.
	List(ctx context.Context) ([]string, error)
	// Away is whether an error means that the board cannot be reached just now, so that it is worth to try again.
	Away(err error) bool
}

// The documents on the board.
const (
	openName  = "open.json"
	planLeaf  = "plan.json"
	stateLeaf = "state.json"
)

func planName(id string) string  { return id + "/" + planLeaf }
func stateName(id string) string { return id + "/" + stateLeaf }

// DocumentKind is what kind of document is kept under a name: "plan", "plan-state", "plan-open"; "" for a name that is none of the board's.
func DocumentKind(name string) string {
	if name == openName {
		return "plan-open"
	}
	id, leaf, ok := strings.Cut(name, "/")
	switch {
	case !ok || !idForm.MatchString(id):
		return ""
	case leaf == planLeaf:
		return "plan"
	case leaf == stateLeaf:
		return "plan-state"
	}
	return ""
}

// Lock keeps a second run out, on this machine and elsewhere.
type Lock interface {
	// Hold takes the lock of that name and keeps it until release is called, which gives it back. held ends, with a cause that is [ErrLockLost], when it was
	// lost. A lock that is held is a [*HeldError]. One whose holder was this very machine is taken over at once: the caller has made sure, by a file lock,
	// that no other process here works under it.
	Hold(ctx context.Context, name string) (held context.Context, release func(), err error)
}

// ErrLockLost means that another may hold the lock by now: what works under it must stop.
var ErrLockLost = errors.New("the lock was lost")
