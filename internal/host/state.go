package host

import (
	"etcd-steward/internal/host/tree"
	"etcd-steward/internal/host/unit"
)

// unitState is what was read of a unit, for whoever changes it.
type unitState struct {
	service *unit.Service
	command unit.Command
	env     map[string]unit.Variable
	files   []unit.EnvironmentFile
	// workingDir is where relative paths begin.
	workingDir string
	// envFiles are those that a container runtime reads for the unit.
	plainFiles []string
	// fixed: the flags stand in a script or a shell's words, where none can be added by appending an argument.
	fixed bool
}

// placeKind is the kind of place in which a setting stands.
type placeKind int

const (
	unplaced    placeKind = iota
	inEnvFile             // a variable in a file that systemd reads
	inPlainFile           // a variable in a file that a container runtime reads
	inUnit                // Environment= of the unit or a drop-in
	inCommand             // a word of ExecStart=
	inVariable            // a flag in a variable that is a part of ExecStart=
	inScript              // in a script, a shell's words, or an option of a container runtime
	inYAML                // etcd's YAML file
	inPodArgs             // command: or args: of a static pod
	inPodEnv              // env: of a static pod
	inPodScript           // in what a static pod's shell runs
)

// place is where exactly a setting is said, for whoever changes it.
type place struct {
	kind placeKind
	name string    // of the variable
	word unit.Word // on ExecStart=
	// part is where in the variable's value the flag stands, for inVariable; nil when the variable is only a part of a word.
	part *unit.Word
	// inner is where the variable itself stands.
	inner placeKind
	// index is the number of the argument, and next that of its value when it is an argument of its own ("--name value"); else next is 0.
	index, next int
	// nextWord is the value's word on ExecStart=.
	nextWord unit.Word
	// repeated: it stands elsewhere in the same command as well, and the last one counts.
	repeated bool
}

// podPlace is where in a manifest a container is.
type podPlace struct {
	container int
	namespace string
}

// argument is one word of a process's command line, and where it comes from.
type argument struct {
	text   string
	source string
	place  place
}

// given is all that a process is told.
type given struct {
	args []argument
	env  Settings // by the names of the variables
}

// finder collects what Detect finds.
type finder struct {
	tree.Tree
	m        *Machine
	hostname string
}

func (f *finder) problem(path string, err error) {
	for _, p := range f.m.Problems {
		if p.Path == path && p.Err.Error() == err.Error() {
			return
		}
	}
	f.m.Problems = append(f.m.Problems, Problem{Path: path, Err: err})
}
