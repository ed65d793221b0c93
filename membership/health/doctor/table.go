package doctor

import "slices"

// Signatures are all that are known. Which texts etcd's binaries of each minor hold is tested, and most are tested against what a real etcd wrote.
var Signatures = slices.Concat(identity, data, quorumLost, changes, transport, machine, requests, slowness)

// started are lines that an etcd writes when it serves: what kept one from starting is over then.
var started = []string{"ready to serve client requests", "published local member to cluster through raft"}

// or makes alternatives of single texts.
func or(texts ...string) [][]string {
	var out [][]string
	for _, t := range texts {
		out = append(out, []string{t})
	}
	return out
}
