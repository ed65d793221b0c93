package record

import (
	"slices"
	"time"

	"etcd-steward/backup/changes"
	"etcd-steward/backup/repo"
)

// notes are what a segment says beside its events; they go into the next one that is closed.
type notes struct {
	leases   []changes.Lease // found since the last segment
	complete bool            // leases are all that there are
	at       repo.Revision   // recorded when they were asked for
	asked    time.Time
	proofs   []changes.Proof
	auth     *changes.Auth
}

// proofsMax bounds the proofs that wait while nothing changes.
const proofsMax = 16

func (n *notes) addProof(p changes.Proof) {
	n.proofs = append(n.proofs, p)[max(0, len(n.proofs)+1-proofsMax):]
}

// addLeases takes leases that were asked for when `at` was recorded; all says that there are no others.
func (n *notes) addLeases(found []changes.Lease, all bool, at repo.Revision, asked time.Time) {
	if all {
		n.leases, n.complete, n.at, n.asked = found, true, at, asked
		return
	}
	if len(n.leases) == 0 {
		n.at, n.asked = at, asked
	}
	n.leases = append(n.leases, found...)
	if len(n.leases) > leasesKnown {
		n.leases, n.complete = n.leases[len(n.leases)-leasesKnown:], false
	}
}

// write puts the notes into a segment that ends at last.
func (n *notes) write(enc *changes.Encoder, last repo.Revision) error {
	complete := n.complete
	for chunk := range slices.Chunk(n.leases, changes.MaxLeases) {
		if err := enc.Leases(changes.Leases{Revision: min(n.at, last), Time: n.asked, Complete: complete, Leases: chunk}); err != nil {
			return err
		}
		complete = false
	}
	if complete { // there are none
		if err := enc.Leases(changes.Leases{Revision: min(n.at, last), Time: n.asked, Complete: true}); err != nil {
			return err
		}
	}
	for _, p := range n.proofs {
		if p.Revision > last {
			continue
		}
		if err := enc.Proof(p); err != nil {
			return err
		}
	}
	if n.auth != nil {
		return enc.Auth(*n.auth)
	}
	return nil
}

// written forgets what a segment has.
func (n *notes) written() { *n = notes{} }
