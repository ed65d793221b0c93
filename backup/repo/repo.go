package repo

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"etcd-steward/backup/store"
	"etcd-steward/internal/fail"
)

// Format versions of the documents in a repository. Repository's is the version of the whole layout: a program that does not
// know it keeps its hands off.
const (
	repositoryFormat   = 1
	successorFormat    = 1
	manifestFormat     = 1
	verificationFormat = 1
	planFormat         = 1
)

// Repo is one cluster's repository in a store. It is safe for concurrent use.
type Repo struct {
	store   store.Store // keys relative to the repository
	cluster string

	mu       sync.Mutex
	identity *Identity // nil: there is none yet, or it was not read
	unread   bool      // the identity was not looked for
}

// Open reads a repository's identity. It returns a Repo also when there is none yet (Identity then says so), and
// refuses (fail.Unsafe) a repository of a newer format or one whose identity is damaged.
func Open(ctx context.Context, st store.Store, cluster string) (*Repo, error) {
	if err := ValidateClusterName(cluster); err != nil {
		return nil, fail.New(fail.Usage, err, "name it with --cluster, or clusters[].name in the configuration")
	}
	r := &Repo{store: scoped{st: st, prefix: cluster + "/"}, cluster: cluster}
	id, err := r.readIdentity(ctx)
	if err != nil {
		return nil, err
	}
	r.identity = id
	return r, nil
}

// OpenLater opens a repository whose store may be away: its identity is read when a cluster is admitted, and only then is anything refused.
func OpenLater(st store.Store, cluster string) (*Repo, error) {
	if err := ValidateClusterName(cluster); err != nil {
		return nil, fail.New(fail.Usage, err, "name it with --cluster, or clusters[].name in the configuration")
	}
	return &Repo{store: scoped{st: st, prefix: cluster + "/"}, cluster: cluster, unread: true}, nil
}

// OpenReadOnly opens a repository without looking at its identity: for the day on which that is damaged, or was written by a newer program, and a backup
// must be read all the same. Every write through it is refused.
func OpenReadOnly(st store.Store, cluster string) (*Repo, error) {
	if err := ValidateClusterName(cluster); err != nil {
		return nil, fail.New(fail.Usage, err, "name it with --cluster, or clusters[].name in the configuration")
	}
	return &Repo{store: readOnly{scoped{st: st, prefix: cluster + "/"}}, cluster: cluster}, nil
}

// Clusters names the clusters that have a repository in this store, in byte order. It asks one listing per cluster, not per object.
func Clusters(ctx context.Context, st store.Store) ([]string, error) {
	var names []string
	for after := ""; ; {
		name, err := nextFolder(ctx, st, after)
		if err != nil {
			return nil, fmt.Errorf("list the clusters in %s: %w", st, err)
		}
		if name == "" {
			return names, nil
		}
		// The first name behind every "name/...": '0' follows '/'.
		after = name + "0"
		if ValidateClusterName(name) != nil {
			continue
		}
		switch _, err := st.Head(ctx, name+"/"+identityKey); {
		case err == nil:
			names = append(names, name)
		case !errors.Is(err, store.NotFound):
			return nil, fmt.Errorf("look for the repository of %s: %w", name, err)
		}
	}
}

func nextFolder(ctx context.Context, st store.Store, after string) (string, error) {
	for info, err := range st.List(ctx, "", after) {
		if err != nil {
			return "", err
		}
		if name, _, ok := strings.Cut(info.Key, "/"); ok {
			return name, nil
		}
	}
	return "", nil
}

// Store is the store as seen from the repository: its keys are relative to it, as those in manifests, catalogs and leases are.
func (r *Repo) Store() store.Store { return r.store }

// Cluster is the name under which the cluster's backups are kept.
func (r *Repo) Cluster() string { return r.cluster }

// Identity is whose backups these are; false before the first one.
func (r *Repo) Identity() (Identity, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.identity == nil {
		return Identity{}, false
	}
	return *r.identity, true
}

func (r *Repo) readIdentity(ctx context.Context) (*Identity, error) {
	doc, err := r.read(ctx, identityKey)
	if errors.Is(err, store.NotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open repository %q in %s: %w", r.cluster, r.store, err)
	}
	var id Identity
	err = Unseal("repository", repositoryFormat, doc, &id)
	if err == nil && id.Cluster != r.cluster {
		err = fmt.Errorf("it says that it holds cluster %q: the folder was renamed or copied", id.Cluster)
	}
	if err == nil {
		return &id, nil
	}
	err = fmt.Errorf("repository %q in %s: %s: %w", r.cluster, r.store, identityKey, err)
	if errors.Is(err, ErrNewerFormat) {
		return nil, fail.Refused(err, "use the newer program that wrote it; docs/FORMAT.md says how to restore by hand")
	}
	return nil, fail.Refused(err, "nothing is written to a repository that is not certainly this cluster's; restore "+identityKey+
		" from the bucket's versions or a copy, or begin another repository with --cluster NAME")
}

// read returns a document's bytes; documents are bounded.
func (r *Repo) read(ctx context.Context, key string) ([]byte, error) {
	rc, err := r.store.Get(ctx, key, 0, -1)
	if err != nil {
		return nil, err
	}
	doc, err := io.ReadAll(io.LimitReader(rc, maxDocument+1))
	return doc, errors.Join(err, rc.Close())
}

// write puts a document; doc's hash goes with it.
func (r *Repo) write(ctx context.Context, key string, doc []byte, opts store.PutOptions) (store.Info, error) {
	return r.store.Put(ctx, key, store.Source{
		Reader: bytes.NewReader(doc), Size: int64(len(doc)), SHA256: sha256.Sum256(doc),
	}, opts)
}
