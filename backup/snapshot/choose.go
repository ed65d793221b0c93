package snapshot

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"etcd-steward/internal/endpoint"
	"etcd-steward/internal/fail"
)

// Choose asks every member that it can find and returns the one to take a snapshot from, and all that were seen with what is wrong with
// each: a follower before the leader, since it has less to do; never a learner, which may lack history, and never a member that etcd
// itself says is corrupt; one that lags only when there is no other. Without a quorum, the one with the newest data, and Quorum is false.
//
// It changes nothing. It takes milliseconds when all members answer, and at most three times DialTimeout.
func Choose(ctx context.Context, c Cluster) (Member, []Member, error) {
	answers, err := c.survey(ctx)
	if err != nil {
		return Member{}, nil, err
	}
	judge(answers)
	if !c.Local {
		rank(answers)
	}
	seen := make([]Member, len(answers))
	for i, a := range answers {
		seen[i] = a.Member
	}
	if !answers[0].fit() {
		return Member{}, seen, c.unfit(answers)
	}
	seen[0].Note = c.why(answers)
	return seen[0], seen, nil
}

// survey asks the given endpoints, and then the members that they name and that have not answered yet.
func (c Cluster) survey(ctx context.Context) ([]answer, error) {
	if len(c.Endpoints) == 0 {
		return nil, fail.New(fail.Usage, errors.New("no endpoint of etcd is given"), "give --endpoints https://127.0.0.1:2379")
	}
	given := c.Endpoints
	if c.Local {
		given = given[:1]
	}
	var endpoints []endpoint.Endpoint
	for _, s := range given {
		e, err := c.access().Parse(s)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(endpoints, e) {
			endpoints = append(endpoints, e)
		}
	}
	answers := c.askAll(ctx, endpoints)
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	if !c.Local {
		answers = append(answers, c.askAll(ctx, c.others(answers))...)
	}
	answers = merge(answers)
	return answers, oneCluster(answers)
}

// others are the client URLs of members that were named but have not answered, one each.
func (c Cluster) others(answers []answer) (endpoints []endpoint.Endpoint) {
	known := map[uint64]bool{}
	tried := map[string]bool{}
	for _, a := range answers {
		tried[a.Endpoint] = true
		if a.err == nil {
			known[a.ID] = true
		}
	}
	for _, a := range answers {
		for _, m := range a.members {
			if known[m.GetID()] {
				continue
			}
			for _, u := range m.GetClientURLs() {
				if e, err := c.access().Parse(u); err == nil && !tried[e.URL] {
					tried[e.URL], known[m.GetID()] = true, true
					endpoints = append(endpoints, e)
					break
				}
			}
		}
	}
	return endpoints
}

// merge leaves one answer per member, the first, which is that of the given endpoint, and names the members.
func merge(answers []answer) (merged []answer) {
	names, byURL := map[uint64]string{}, map[string]string{}
	for _, a := range answers {
		for _, m := range a.members {
			names[m.GetID()] = m.GetName()
			for _, u := range m.GetClientURLs() {
				byURL[u] = m.GetName()
			}
		}
	}
	seen := map[uint64]bool{}
	for _, a := range answers {
		if a.err != nil {
			a.Name = byURL[a.Endpoint]
		} else if a.Name = names[a.ID]; seen[a.ID] {
			continue
		} else {
			seen[a.ID] = true
		}
		merged = append(merged, a)
	}
	return merged
}

// oneCluster refuses endpoints of several clusters.
func oneCluster(answers []answer) error {
	var first *answer
	for i, a := range answers {
		switch {
		case a.err != nil:
		case first == nil:
			first = &answers[i]
		case a.ClusterID != first.ClusterID:
			return fail.New(fail.Usage, fmt.Errorf("%s belongs to cluster %s, but %s to cluster %s", first.Endpoint, first.ClusterID, a.Endpoint, a.ClusterID),
				"give endpoints of one cluster only; a second cluster needs an entry of its own")
		}
	}
	return nil
}
