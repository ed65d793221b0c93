package repo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"etcd-steward/backup/store"
	"etcd-steward/internal/fail"
)

// Identity is repository.json: whose backups these are. It is created exclusively by the first writer and never changed.
type Identity struct {
	Cluster   string    `json:"cluster"`
	ClusterID ClusterID `json:"cluster_id"` // of the first cluster that was backed up here
	Created   time.Time `json:"created"`
}

// Successor is successors/<cluster ID>.json: this cluster was restored from this repository, so its backups belong here too.
// It is written by a restore, or by a person who knows (Adopt).
type Successor struct {
	ClusterID ClusterID  `json:"cluster_id"`         // of the restored cluster, as predicted from its members and token
	From      SnapshotID `json:"from,omitempty"`     // "" when a person adopted the cluster
	Timeline  Timeline   `json:"timeline,omitzero"`  // the restore point's
	Revision  Revision   `json:"revision,omitempty"` // the restore point's, before any bump
	// NewRevision is where the restored cluster began, after the bump: revisions up to it, and some beyond, have been served.
	NewRevision Revision  `json:"new_revision,omitempty"`
	Restored    time.Time `json:"restored"`
	Host        string    `json:"host"`
}

// Admit says whether a cluster may write its backups here. The first one to ask makes the repository its own. After that it is
// the same cluster, one that has backups here, or one with a successor record; any other is refused (fail.Unsafe), since its
// revisions would be mistaken for this cluster's.
func (r *Repo) Admit(ctx context.Context, id ClusterID, now time.Time) error {
	if id == 0 {
		return fmt.Errorf("admit to repository %q: no cluster ID", r.cluster)
	}
	if err := r.look(ctx); err != nil {
		return err
	}
	known, ok := r.Identity()
	if !ok {
		first, err := r.found(ctx, id, now)
		if err != nil {
			return err
		}
		known = *first
	}
	if known.ClusterID == id {
		return nil
	}
	if _, ok, err := r.successor(ctx, id); err != nil || ok {
		return err
	}
	if ok, err := r.hasBackupOf(ctx, id); err != nil || ok {
		return err
	}
	return fail.Refused(
		fmt.Errorf("repository %q in %s holds backups of cluster %s, this cluster is %s", r.cluster, r.store, known.ClusterID, id),
		"another cluster needs another name (--cluster NAME); if this one was restored from that one, `steward backup create --adopt` says so once")
}

// look reads the identity where OpenLater did not.
func (r *Repo) look(ctx context.Context) error {
	r.mu.Lock()
	unread := r.unread
	r.mu.Unlock()
	if !unread {
		return nil
	}
	id, err := r.readIdentity(ctx)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.identity, r.unread = id, false
	return nil
}

// found creates repository.json, or reads the one of whoever was first. The exclusive create decides; what is in the store
// afterwards is read back, so that also a store that ignores the condition gives both writers the same answer in the end.
func (r *Repo) found(ctx context.Context, id ClusterID, now time.Time) (*Identity, error) {
	doc, err := Seal("repository", repositoryFormat, Identity{Cluster: r.cluster, ClusterID: id, Created: now.UTC()})
	if err != nil {
		return nil, err
	}
	if _, err := r.write(ctx, identityKey, doc, store.PutOptions{IfAbsent: true}); err != nil && !errors.Is(err, store.Exists) {
		return nil, fmt.Errorf("create repository %q: %w", r.cluster, err)
	}
	first, err := r.readIdentity(ctx)
	if err == nil && first == nil {
		err = fmt.Errorf("create repository %q: %s is not there after it was written", r.cluster, identityKey)
	}
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	r.identity = first
	r.mu.Unlock()
	return first, nil
}

// hasBackupOf says whether a manifest of this cluster lies here. Its being there is proof; a listing that lags can only refuse.
func (r *Repo) hasBackupOf(ctx context.Context, id ClusterID) (bool, error) {
	for info, err := range r.store.List(ctx, id.String()+"-", "") {
		if err != nil {
			return false, fmt.Errorf("look for backups of cluster %s: %w", id, err)
		}
		if n, err := parseSnapshotKey(info.Key); err == nil && n.manifest {
			return true, nil
		}
	}
	return false, nil
}

// Adopt records that a cluster belongs here because a person says so: it was restored from this repository by other means than
// steward. For a repository without any backup it is the same as Admit.
func (r *Repo) Adopt(ctx context.Context, id ClusterID, host string, now time.Time) error {
	if err := r.look(ctx); err != nil {
		return err
	}
	known, ok := r.Identity()
	if !ok || known.ClusterID == id {
		return r.Admit(ctx, id, now)
	}
	return r.AddSuccessor(ctx, Successor{ClusterID: id, Restored: now.UTC(), Host: host})
}

// AddSuccessor records a restored cluster. The first record stays: the hosts of one restore may all write it.
func (r *Repo) AddSuccessor(ctx context.Context, s Successor) error {
	if s.ClusterID == 0 {
		return fmt.Errorf("record a successor of %q: no cluster ID", r.cluster)
	}
	doc, err := Seal("successor", successorFormat, s)
	if err != nil {
		return err
	}
	_, err = r.write(ctx, successorKey(s.ClusterID), doc, store.PutOptions{IfAbsent: true})
	if errors.Is(err, store.Exists) {
		_, _, err = r.successor(ctx, s.ClusterID) // a damaged one does not count as recorded
	}
	if err != nil {
		return fmt.Errorf("record cluster %s as a successor: %w", s.ClusterID, err)
	}
	return nil
}

// Successors are the recorded ones, by the time of their restore.
func (r *Repo) Successors(ctx context.Context) ([]Successor, error) {
	var all []Successor
	for info, err := range r.store.List(ctx, successorsPrefix, "") {
		if err != nil {
			return nil, fmt.Errorf("list successors: %w", err)
		}
		id, err := parseSuccessorKey(info.Key)
		if err != nil {
			continue // the catalog counts it as strange
		}
		s, ok, err := r.successor(ctx, id)
		if err != nil {
			return nil, err
		}
		if ok {
			all = append(all, s)
		}
	}
	slices.SortStableFunc(all, func(a, b Successor) int { return a.Restored.Compare(b.Restored) })
	return all, nil
}

func (r *Repo) successor(ctx context.Context, id ClusterID) (s Successor, ok bool, err error) {
	key := successorKey(id)
	doc, err := r.read(ctx, key)
	if errors.Is(err, store.NotFound) {
		return s, false, nil
	}
	if err == nil {
		err = Unseal("successor", successorFormat, doc, &s)
	}
	if err == nil && s.ClusterID != id {
		err = fmt.Errorf("%w: it is about cluster %s", ErrDamaged, s.ClusterID)
	}
	if err != nil {
		return Successor{}, false, fmt.Errorf("read %s: %w", key, err)
	}
	return s, true, nil
}

func successorKey(id ClusterID) string { return successorsPrefix + id.String() + ".json" }

func parseSuccessorKey(key string) (ClusterID, error) {
	id, err := ParseClusterID(strings.TrimSuffix(strings.TrimPrefix(key, successorsPrefix), ".json"))
	if err != nil || successorKey(id) != key {
		return 0, fmt.Errorf("object %q: not a successor's record", key)
	}
	return id, nil
}
