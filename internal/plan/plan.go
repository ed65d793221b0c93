// Package plan is the one engine for everything that happens in steps on several hosts: membership, TLS, restores of whole control planes.
//
// A plan is data: made once by a pure function from what was observed, shown to a person, stored where all hosts can read it, and executed on each host by
// a command that names it. It promises that a step is begun only when everything that it waits for is done; that what was begun and what was done is on
// this host's disk and on the board before the next thing happens; that the same command after a crash at any instant goes on where it was; that a plan can
// be rolled back until its first step marked Final was begun, and that a plan whose content was changed since it was made is not executed.
// It does not promise that a step happens once: actions are idempotent, and are asked again after a crash.
package plan

import (
	"encoding/json"
	"time"
)

// Plan is what is going to be done, by whom, in which order. Its ID names its content.
type Plan struct {
	// ID is the kind, a dash, and the beginning of the SHA-256 over the rest: who types it has seen, or was given by somebody who saw, exactly this plan.
	ID      string    `json:"id"`
	Kind    string    `json:"kind"`    // of lower-case words with dashes: member-add
	Title   string    `json:"title"`   // one sentence for people
	Cluster string    `json:"cluster"` // etcd's cluster ID in hex: a plan of another cluster is refused
	Made    time.Time `json:"made"`
	MadeBy  string    `json:"made_by"` // host name, for people
	// Basis is what the plan was made from. Whoever made it can tell by it whether it is outdated.
	Basis    json.RawMessage `json:"basis,omitempty"`
	Warnings []string        `json:"warnings,omitempty"`
	Steps    []Step          `json:"steps"`
}

// Step is one thing that one party does.
type Step struct {
	Name string `json:"name"` // unique in the plan: add-learner
	// Party does it. It is a role, not a machine: the first machine that executes a party's part claims it, and no other may then.
	Party  string          `json:"party"`
	Action string          `json:"action"` // what the executor knows it by
	Args   json.RawMessage `json:"args,omitempty"`
	Text   string          `json:"text"` // what it does, for people: "add m4 as a learner"
	// After are the steps, of any party, that must be done before it begins, besides all earlier ones of its own party.
	After []string `json:"after,omitempty"`
	// State is what the cluster is after it, for people: "3 voters, 3 up, quorum 2, 1 may fail".
	State string `json:"state,omitempty"`
	// Final: from its beginning on the plan can only go forward.
	Final bool `json:"final,omitempty"`
	// Optional: the plan is complete without it, since nobody may be there to do it: the clean-up on a dead host.
	Optional bool `json:"optional,omitempty"`
}
