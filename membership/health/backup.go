package health

import (
	"fmt"
	"time"
)

// Backup is what is known of the cluster's backups, as whoever asks for a judgement found it out.
type Backup struct {
	// Configured: a store is named. Without one, all else is empty.
	Configured bool
	Store      string
	Err        error // why the store, or the repository in it, could not be read; the rest is empty then
	Hint       string

	Newest         time.Time // when the newest good backup was begun; zero: there is none
	NewestID       string
	NewestRevision int64
	MaxAge         time.Duration // how old it may be; 0: the threshold

	// Recording: a change log is kept. Through is until when every change is in the store, and Lag how far that may be behind; 0: the threshold.
	Recording       bool
	Through         time.Time
	ThroughRevision int64
	Lag             time.Duration
	Gaps            []Gap // newest first

	// Verified is the newest verification of any backup; zero: none was ever verified.
	Verified         time.Time
	VerifiedOK       bool
	VerifiedID       string
	VerifiedRevision int64
	VerifyProblem    string
	VerifiedMaxAge   time.Duration // 0: the threshold
}

// Gap is a range of revisions that cannot be restored.
type Gap struct {
	Text string
	// Open: no backup is newer, so what happens now cannot be restored either.
	Open bool
}

// backups judges what could be restored.
func (j *judge) backups() {
	b := j.Backup
	switch {
	case b == nil:
		return
	case !b.Configured:
		j.add(Info, BackupUnknown, 0, Finding{Text: "no store is configured, so nothing is known of backups", Next: "steward health --store s3://bucket/prefix, or set it in /etc/steward/steward.yaml"})
		return
	case b.Err != nil:
		next := b.Hint
		if next == "" {
			next = "steward backup list"
		}
		j.add(Warning, BackupStore, 0, Finding{Text: "the backups cannot be looked at", Evidence: b.Err.Error(), Next: next})
		return
	}
	j.newest(b)
	j.recorded(b)
	j.verified(b)
}

func (j *judge) newest(b *Backup) {
	if b.Newest.IsZero() {
		j.add(Critical, BackupNone, 0, Finding{Text: "there is no backup to restore from", Evidence: b.Store, Next: "steward backup create"})
		return
	}
	limit := b.MaxAge
	if limit <= 0 {
		limit = j.limit.BackupAge
	}
	age := j.Now.Sub(b.Newest)
	if age <= limit {
		return
	}
	severity := Warning
	if age > 4*limit {
		severity = Critical
	}
	j.add(severity, BackupOld, 0, Finding{
		Text: "the newest backup is " + span(age) + " old", Evidence: fmt.Sprintf("%s at revision %d; at most %s is expected", b.NewestID, b.NewestRevision, span(limit)),
		Next: "steward backup create; and see why stewardd takes none: journalctl -u stewardd",
	})
}

func (j *judge) recorded(b *Backup) {
	if !b.Recording {
		return
	}
	limit := b.Lag
	if limit <= 0 {
		limit = j.limit.RecordLag
	}
	if lag := j.Now.Sub(b.Through); b.Through.IsZero() || lag > limit {
		evidence := "nothing is recorded yet"
		if !b.Through.IsZero() {
			evidence = fmt.Sprintf("every change until %s (revision %d) is in the store, %s ago", b.Through.UTC().Format(time.RFC3339), b.ThroughRevision, span(lag))
		}
		j.add(Warning, RecordLag, 0, Finding{Text: "changes are not being recorded: what happens now could be lost", Evidence: evidence, Next: "on the masters: systemctl status stewardd"})
	}
	j.gaps(b)
}

// gaps judges the newest gap: one that a later backup ends is past, and nothing can be done.
func (j *judge) gaps(b *Backup) {
	if len(b.Gaps) == 0 {
		return
	}
	if g := b.Gaps[0]; g.Open {
		j.add(Warning, RecordGap, 0, Finding{Text: "what happens now cannot be restored: the change log has a gap, and no backup is newer", Evidence: g.Text, Next: "steward backup create"})
		return
	}
	j.add(Info, RecordGap, 0, Finding{Text: "some moments between backups cannot be restored", Evidence: b.Gaps[0].Text, Next: "steward backup list"})
}

func (j *judge) verified(b *Backup) {
	limit := b.VerifiedMaxAge
	if limit <= 0 {
		limit = j.limit.VerifiedAge
	}
	switch {
	case b.Newest.IsZero():
	case b.Verified.IsZero():
		j.add(Warning, VerifyOld, 0, Finding{Text: "no backup was ever verified", Evidence: b.Store, Next: "steward backup verify"})
	case !b.VerifiedOK:
		j.add(Critical, VerifyFailed, 0, Finding{Text: "the backup that was last verified is damaged", Evidence: b.VerifiedID + ": " + b.VerifyProblem, Next: "steward backup create, then: steward backup verify --all"})
	case j.Now.Sub(b.Verified) > limit:
		j.add(Warning, VerifyOld, 0, Finding{
			Text: "the last verification is " + span(j.Now.Sub(b.Verified)) + " old", Evidence: fmt.Sprintf("%s at revision %d", b.VerifiedID, b.VerifiedRevision), Next: "steward backup verify",
		})
	}
}
