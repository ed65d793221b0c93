package backup

import (
	"context"
	"fmt"
	"slices"
	"time"

	"filippo.io/age"

	"etcd-steward/backup/repo"
)

// VerifyOptions say which backups to check, and how thoroughly. Of the change log, what follows each of them up to the next backup is
// checked, and, unless backups are named, what no earlier verification has found good; with All all of it.
type VerifyOptions struct {
	Repo *repo.Repo
	// IDs are the backups to check; Newest is allowed. Without any: the Last newest, or All; without those the newest one.
	IDs  []repo.SnapshotID
	Last int
	All  bool
	// Identities decrypt. Without any, the stored bytes of an encrypted backup are checked and nothing else.
	Identities []age.Identity
	// Scratch is the folder for a decrypted database while it is checked; it holds one at a time.
	Scratch string
	// Boot, when set, starts a scratch etcd on the database and reads it back: a deep verification. It also rebuilds from snapshots along the
	// change log, and compares with the hashes that members gave.
	Boot Boot
	// Host names this machine in the verified marks.
	Host     string
	Progress Progress
	// Now is time.Now, or a test's.
	Now func() time.Time

	limits rollLimits
}

// named says that certain backups were asked for.
func (o *VerifyOptions) named() bool {
	return len(o.IDs) > 0 && !slices.Equal(o.IDs, []repo.SnapshotID{Newest})
}

// Boot restores a snapshot file (with etcd's trailer) into a scratch etcd, reads it back and compares it with the manifest. It returns
// how long it took until etcd answered. It may use the folder beside the file, and leaves nothing there.
type Boot func(ctx context.Context, file string, m *repo.Manifest) (seconds float64, err error)

// Report is the outcome of a verification.
type Report struct {
	Store   string `json:"store"`
	Cluster string `json:"cluster"`
	// OK says that everything that was checked is as it was written.
	OK      bool      `json:"ok"`
	Backups []Verdict `json:"backups"`
	// Changes are the change logs, one for each timeline that has one and was looked at.
	Changes []ChangesVerdict `json:"changes,omitempty"`
	// Documents is how many small documents were read beside the manifests of Backups; DamagedDocuments what is wrong with some.
	Documents        int      `json:"documents"`
	DamagedDocuments []Damage `json:"damaged_documents,omitempty"`
	// Missing are manifests whose data is gone, of all backups. Unfinished are uploads without a manifest, which is no damage.
	Missing    []Loose  `json:"missing_data,omitempty"`
	Unfinished []Loose  `json:"unfinished,omitempty"`
	Strange    []string `json:"strange,omitempty"`
}

// Verdict is the outcome for one backup.
type Verdict struct {
	ID       repo.SnapshotID `json:"id"`
	Time     time.Time       `json:"time"`
	Timeline repo.Timeline   `json:"timeline"`
	Revision repo.Revision   `json:"revision"`
	Level    string          `json:"level"` // repo.LevelBytes and so on: how far the check went
	OK       bool            `json:"ok"`
	// Result is ok, bytes only (nothing was decrypted, since there was no identity) or bad.
	Result  string  `json:"result"`
	Problem string  `json:"problem,omitempty"`
	Bytes   int64   `json:"bytes"` // stored bytes that were read
	Seconds float64 `json:"seconds"`
	// RestoreSeconds is how long a deep verification took until etcd answered.
	RestoreSeconds float64 `json:"restore_seconds,omitempty"`
	// Note says what was not possible, such as to write the verified mark.
	Note string `json:"note,omitempty"`
}

// The results of a verification.
const (
	ResultOK    = "ok"
	ResultBytes = "bytes only"
	ResultBad   = "bad"
)

func result(ok bool, level string) string {
	switch {
	case !ok:
		return ResultBad
	case level == repo.LevelBytes:
		return ResultBytes
	}
	return ResultOK
}

// Damage is a document that is not as it was written.
type Damage struct {
	Key     string `json:"key"`
	Problem string `json:"problem"`
}

// Verify reads every byte of the chosen backups and of their change log, and every small document of the repository. What it finds is in the report; an error
// means that it could not look. Each backup's verdict is written into the repository as its verified mark, where that is allowed.
func Verify(ctx context.Context, o VerifyOptions) (*Report, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	catalog, entries, err := o.choose(ctx)
	if err != nil {
		return nil, err
	}
	rep := &Report{
		Store: o.Repo.Store().String(), Cluster: o.Repo.Cluster(), Backups: []Verdict{},
		Missing: loose(catalog.MissingData()), Unfinished: loose(catalog.Unfinished()), Strange: catalog.Strange,
	}
	if rep.Documents, rep.DamagedDocuments, err = o.documents(ctx); err != nil {
		return nil, err
	}
	for i, e := range entries {
		v, err := o.one(ctx, e, fmt.Sprintf("verify %d/%d", i+1, len(entries)))
		if err != nil {
			return nil, err
		}
		rep.Backups = append(rep.Backups, v)
	}
	if rep.Changes, err = o.changeLogs(ctx, catalog, entries, rep.Backups); err != nil {
		return nil, err
	}
	rep.OK = len(rep.Missing) == 0 && len(rep.DamagedDocuments) == 0 && !slices.ContainsFunc(rep.Backups, func(v Verdict) bool { return !v.OK }) &&
		!slices.ContainsFunc(rep.Changes, func(v ChangesVerdict) bool { return !v.OK })
	return rep, nil
}

// choose lists the repository and picks the backups to check, the newest last.
func (o *VerifyOptions) choose(ctx context.Context) (*repo.Catalog, []repo.Entry, error) {
	ids := o.IDs
	if len(ids) == 0 && !o.All && o.Last == 0 {
		ids = []repo.SnapshotID{Newest}
	}
	catalog, entries, err := findAll(ctx, o.Repo, ids)
	if err != nil || len(ids) > 0 {
		return catalog, entries, err
	}
	entries = catalog.Backups()
	if !o.All {
		entries = entries[max(0, len(entries)-o.Last):]
	}
	return catalog, entries, nil
}

// one checks one backup and leaves its mark.
func (o *VerifyOptions) one(ctx context.Context, e repo.Entry, stage string) (Verdict, error) {
	v := Verdict{ID: e.ID, Time: e.ID.Time(), Timeline: e.Timeline, Revision: e.Revision, Level: repo.LevelBytes}
	begun := time.Now()
	err := o.check(ctx, e, &v, stage)
	v.Seconds = time.Since(begun).Seconds()
	if err != nil {
		problem, about := aboutObject(ctx, err)
		if !about {
			return v, err
		}
		v.Problem = problem
	}
	v.OK = v.Problem == ""
	v.Result = result(v.OK, v.Level)
	o.mark(ctx, &v)
	return v, ctx.Err()
}

// mark records the verdict. That it cannot be recorded changes nothing about it.
func (o *VerifyOptions) mark(ctx context.Context, v *Verdict) {
	err := o.Repo.PutVerification(ctx, repo.Verification{
		ID: v.ID, Level: v.Level, OK: v.OK, Problem: v.Problem, At: o.Now(), Host: o.Host, Seconds: v.Seconds, RestoreSeconds: v.RestoreSeconds,
	})
	if err == nil {
		return
	}
	note := "the verified mark could not be written: " + err.Error()
	if v.Note != "" {
		note = v.Note + "; " + note
	}
	v.Note = note
}
