package main

import (
	"testing"
	"time"

	"etcd-steward/backup/repo"
)

// TestProvenBy: a hash of an early revision says nothing about the segments behind it, and the words do not either.
func TestProvenBy(t *testing.T) {
	p := &repo.MemberProof{Revision: 1, HashKV: 7, MemberID: "000000000000000a", Time: time.Date(2026, 11, 20, 6, 0, 0, 0, time.UTC)}
	for rev, want := range map[repo.Revision]string{
		1: "proven: at revision 1 it has the hash that member 000000000000000a gave at 2026-11-20T06:00:00Z",
		31: "proven to revision 1, where it has the hash that member 000000000000000a gave at 2026-11-20T06:00:00Z; revisions 2 to 31 are behind it: " +
			"proven by checksums only",
	} {
		if got := provenBy(p, rev); got != want {
			t.Errorf("revision %d: %s, want %s", rev, got, want)
		}
	}
	if got := provenBy(nil, 31); got != "proven by checksums only: the change log holds no member's hash to compare with" {
		t.Error(got)
	}
}
