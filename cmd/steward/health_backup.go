package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"etcd-steward/backup"
	"etcd-steward/backup/repo"
	"etcd-steward/internal/config/schedule"
	"etcd-steward/internal/term"
	"etcd-steward/membership/health"
)

// backupsLooked is how many of the newest backups are looked at for the last that was verified.
const backupsLooked = 30

// backup is what the store says, as plain data. Whatever fails is told there: a store that is away is a finding, not the end.
func (k *checkup) backup(ctx context.Context) *health.Backup {
	if k.cfg.Store == "" {
		return &health.Backup{}
	}
	b := &health.Backup{Configured: true, Store: k.cfg.Store}
	c := *k.c
	c.ctx, c.stderr = ctx, io.Discard // a note would be drawn over by --watch
	r, err := c.existing(k.cfg)
	var l *backup.Listing
	if err == nil {
		l, err = backup.List(ctx, backup.ListOptions{Repo: r, Last: backupsLooked})
	}
	switch {
	case err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded):
		return k.noAnswer()
	case err != nil:
		b.Err, b.Hint = err, hintFor(err)
		return b
	}
	k.expected(b)
	summarize(b, l)
	return b
}

func (k *checkup) noAnswer() *health.Backup {
	return &health.Backup{
		Configured: true, Store: k.cfg.Store, Err: fmt.Errorf("%s did not answer within the time that there was", k.cfg.Store), Hint: "steward health --timeout 1m; steward backup list",
	}
}

// lastWords is how long a store that notices the end of its time may take to say what it waited for.
const lastWords = 50 * time.Millisecond

// backupWithin is what ask says, but never later than ctx allows: a folder on a network file system whose server is away hangs in the kernel, where no context
// is heard. Such a question is left behind, one at a time; its answer is taken by the next look.
func (k *checkup) backupWithin(ctx context.Context, ask func(context.Context) *health.Backup) *health.Backup {
	if k.asking == nil {
		answer := make(chan *health.Backup, 1)
		go func() { answer <- ask(ctx) }()
		k.asking = answer
	}
	var late <-chan time.Time
	for over := ctx.Done(); ; {
		select {
		case b := <-k.asking:
			k.asking = nil
			return b
		case <-over:
			over, late = nil, time.After(lastWords)
		case <-late:
			return k.noAnswer()
		}
	}
}

// expected is what the configuration demands, when this machine has one.
func (k *checkup) expected(b *health.Backup) {
	if k.cfg.Path() == "" {
		return
	}
	now, due := time.Now(), k.cluster.Schedules()
	b.MaxAge, b.VerifiedMaxAge = 2*interval(due.Snapshot, now), 2*interval(due.Verify, now)
	b.Recording = k.cluster.Records()
}

func interval(s schedule.Schedule, now time.Time) time.Duration {
	if s.Next(now).IsZero() {
		return 0 // never: then the default holds, since others may do it
	}
	return s.MaxInterval(now)
}

// summarize takes out of a listing what health is judged by.
func summarize(b *health.Backup, l *backup.Listing) {
	b.Store = l.Store
	var timeline repo.Timeline
	for _, row := range l.Backups { // the newest first
		if v := row.Verified; v != nil && v.At.After(b.Verified) {
			b.Verified, b.VerifiedOK, b.VerifyProblem, b.VerifiedID, b.VerifiedRevision = v.At, v.OK, v.Problem, string(row.ID), int64(row.Revision)
		}
		if row.Good() && b.Newest.IsZero() && !row.Time.After(time.Now().Add(15*time.Minute)) { // a clock that was wrong must hide nothing
			b.Newest, b.NewestID, b.NewestRevision, timeline = row.Time, string(row.ID), int64(row.Revision), row.Timeline
		}
	}
	if l.AnyMoment == nil {
		return
	}
	for _, r := range l.AnyMoment.Recorded {
		if r.Ended == "" && r.Time.After(b.Through) {
			b.Recording, b.Through, b.ThroughRevision = true, r.Time, int64(r.Through)
		}
	}
	for i := len(l.AnyMoment.Gaps) - 1; i >= 0; i-- {
		g := l.AnyMoment.Gaps[i]
		if g.Timeline != timeline {
			continue
		}
		reason := g.Reason
		if reason == "" {
			reason = "not recorded"
		}
		b.Gaps = append(b.Gaps, health.Gap{Text: fmt.Sprintf("revisions %d to %d: %s", g.From, g.To, reason), Open: int64(g.To) >= b.NewestRevision})
	}
}

// backupReport is the backups' part of the answer.
type backupReport struct {
	Store           string    `json:"store"`
	Newest          time.Time `json:"newest,omitzero"`
	NewestID        string    `json:"newest_id,omitempty"`
	NewestRevision  int64     `json:"newest_revision,omitempty"`
	Recorded        time.Time `json:"recorded_through,omitzero"`
	RecordedTo      int64     `json:"recorded_revision,omitempty"`
	LastVerified    time.Time `json:"verified,omitzero"`
	VerifiedID      string    `json:"verified_id,omitempty"`
	VerifiedTo      int64     `json:"verified_revision,omitempty"`
	VerifiedSuccess bool      `json:"verified_ok"`
}

func newBackupReport(b *health.Backup) *backupReport {
	return &backupReport{
		Store: b.Store, Newest: b.Newest, NewestID: b.NewestID, NewestRevision: b.NewestRevision, Recorded: b.Through, RecordedTo: b.ThroughRevision,
		LastVerified: b.Verified, VerifiedID: b.VerifiedID, VerifiedTo: b.VerifiedRevision, VerifiedSuccess: b.VerifiedOK,
	}
}

// line is one line for people.
func (b *backupReport) line(now time.Time) string {
	if b.Newest.IsZero() {
		return term.Clean("Backups in " + b.Store + ": none.")
	}
	parts := []string{fmt.Sprintf("the newest is %s old (revision %d)", term.Age(now.Sub(b.Newest)), b.NewestRevision)}
	if !b.Recorded.IsZero() {
		parts = append(parts, fmt.Sprintf("recorded through %s ago (revision %d)", term.Age(now.Sub(b.Recorded)), b.RecordedTo))
	}
	if !b.LastVerified.IsZero() {
		parts = append(parts, fmt.Sprintf("verified %s ago (revision %d)", term.Age(now.Sub(b.LastVerified)), b.VerifiedTo))
	}
	return term.Clean("Backups in " + b.Store + ": " + strings.Join(parts, ", ") + ".")
}
