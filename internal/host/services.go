package host

import "context"

// Verb is what systemd is asked to do with a unit.
type Verb string

// The verbs. VerbBegin starts without waiting until the unit is up: an etcd with Type=notify is up only when its cluster has a leader.
const (
	VerbStart   Verb = "start"
	VerbBegin   Verb = "begin to start"
	VerbStop    Verb = "stop"
	VerbRestart Verb = "restart"
)

// Services is the part of systemd that this package needs. Every call is idempotent and ends with its context.
type Services interface {
	// Do starts, stops or restarts a unit and waits for systemd's job. A unit that fails to start is an error with what systemd says. To stop one that does not
	// exist is none.
	Do(ctx context.Context, verb Verb, unit string) error
	// Enable makes the unit start with the machine, or not.
	Enable(ctx context.Context, unit string, on bool) error
	// Unmask takes a mask away; that there is none is no error.
	Unmask(ctx context.Context, unit string) error
	// Reload makes systemd read its files again.
	Reload(ctx context.Context) error
	// State is what systemd says of a unit. That it does not exist is no error: State.Load says so.
	State(ctx context.Context, unit string) (State, error)
}

// State is what systemd says of a unit.
type State struct {
	Load   string // loaded, masked, not-found
	Active string // active, activating, inactive, failed
	Sub    string // running, auto-restart
	File   string // enabled, disabled, masked
	Result string // success, exit-code, timeout
	PID    int    // of the main process, in systemd's own namespace; 0 when there is none
}

// Running says whether the unit has, or is about to have, a process.
func (s State) Running() bool {
	return s.Active == "active" || s.Active == "activating" || s.Active == "reloading" || s.Active == "deactivating"
}
