package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"etcd-steward/backup/repo"
	"etcd-steward/backup/store"
)

// documentKinds are the kinds of sealed documents by the beginnings of their keys (docs/FORMAT.md). Manifests are read with their backups.
var documentKinds = []struct{ prefix, kind string }{
	{"repository.json", "repository"},
	{"successors/", "successor"},
	{"plans/", "prune"},
	{"coordination/pruned/", "pruned"},
	{verifiedChanges, "verified-ranges"},
	{"coordination/verified/", "verification"},
	{"coordination/recorded/", "recorded"},
	{"coordination/", ""}, // leases, the documents of plans, and whatever comes: sealed as well, of any kind
}

// verifiedChanges is where the marks of verified ranges are: one per timeline.
const verifiedChanges = "coordination/verified/changes/"

// probePrefix is what the start-up probe of a store writes and overwrites: noise, not a document.
const probePrefix = "coordination/probe"

// maxDocument bounds what is read of one document; repo refuses longer ones.
const maxDocument = 4<<20 + 1

// documents reads the small documents of the repository and checks their seals: with All every one, otherwise without the marks of backups
// and plans, of which there may be as many as there are backups.
func (o *VerifyOptions) documents(ctx context.Context) (int, []Damage, error) {
	keys, err := documentKeys(ctx, o.Repo, o.All)
	if err != nil {
		return 0, nil, err
	}
	var mu sync.Mutex
	var damaged []Damage
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(workers)
	for _, key := range keys {
		g.Go(func() error {
			problem, err := checkDocument(gctx, o.Repo, key)
			if problem != "" {
				mu.Lock()
				damaged = append(damaged, Damage{Key: key, Problem: problem})
				mu.Unlock()
			}
			return err
		})
	}
	err = g.Wait()
	slices.SortFunc(damaged, func(a, b Damage) int { return strings.Compare(a.Key, b.Key) })
	return len(keys), damaged, err
}

// documentKeys lists the documents; marks says whether also those that every backup and every prune leaves.
func documentKeys(ctx context.Context, r *repo.Repo, marks bool) ([]string, error) {
	var keys []string
	for _, prefix := range []string{"repository.json", "successors/", "plans/", "coordination/"} {
		for info, err := range r.Store().List(ctx, prefix, "") {
			if err != nil {
				return nil, fmt.Errorf("list %s: %w", prefix, err)
			}
			mark := strings.HasPrefix(info.Key, "coordination/pruned/") || strings.HasPrefix(info.Key, "coordination/verified/") && !strings.HasPrefix(info.Key, verifiedChanges)
			if strings.HasPrefix(info.Key, probePrefix) || mark && !marks {
				continue
			}
			keys = append(keys, info.Key)
		}
	}
	return keys, nil
}

func checkDocument(ctx context.Context, r *repo.Repo, key string) (problem string, err error) {
	doc, err := readDocument(ctx, r.Store(), key)
	if errors.Is(err, store.NotFound) && strings.HasPrefix(key, "coordination/") {
		return "", nil // released or removed since it was listed
	}
	if err != nil {
		if problem, about := aboutObject(ctx, err); about {
			return problem, nil
		}
		return "", err
	}
	return checkSealed(key, doc), nil
}

// checkSealed is what is wrong with a document, or "".
func checkSealed(key string, doc []byte) string {
	got := sealedKind(doc)
	want := documentKind(key)
	if want == "" {
		want = got
	}
	var fields map[string]json.RawMessage
	if err := repo.Unseal(want, math.MaxInt32, doc, &fields); err != nil {
		return err.Error()
	}
	return ""
}

func readDocument(ctx context.Context, st store.Store, key string) ([]byte, error) {
	rc, err := st.Get(ctx, key, 0, -1)
	if err != nil {
		return nil, err
	}
	doc, err := io.ReadAll(io.LimitReader(rc, maxDocument))
	return doc, errors.Join(err, rc.Close())
}

func documentKind(key string) string {
	for _, d := range documentKinds {
		if strings.HasPrefix(key, d.prefix) {
			return d.kind
		}
	}
	return ""
}

// sealedKind is the kind that a document says it is; Unseal decides whether that can be believed.
func sealedKind(doc []byte) string {
	var head struct {
		Format string `json:"format"`
	}
	_ = json.Unmarshal(doc, &head) // what is no JSON has no kind, and does not unseal
	parts := strings.Split(head.Format, "/")
	if len(parts) != 3 {
		return ""
	}
	return parts[1]
}
