package probe

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"slices"
	"sync"
	"time"

	"etcd-steward/internal/endpoint"
	"etcd-steward/internal/fail"
)

// Access says how to reach a cluster.
type Access struct {
	// Endpoints are client URLs (http, https), or host:port: those use TLS when TLS is set.
	Endpoints []string
	TLS       *tls.Config
	// Username and Password for clusters with authentication; a client certificate's common name serves as well.
	Username, Password string
	// Timeout bounds all that is asked of one endpoint, hashes aside; 0 means 2 s.
	Timeout time.Duration
}

const defaultTimeout = 2 * time.Second

func (a Access) endpoint() endpoint.Access {
	if a.Timeout <= 0 {
		a.Timeout = defaultTimeout
	}
	return endpoint.Access{TLS: a.TLS, Username: a.Username, Password: a.Password, Timeout: a.Timeout}
}

// Options say what is asked beside each member's status and list. The zero value asks for nothing more.
type Options struct {
	// Hash asks every voter for its HashKV at one revision, which costs each of them a read of its whole database: about a second for 2 GB.
	Hash bool
	// HashTimeout bounds that; 0 means 30 s. What ctx allows is the limit in any case. A member goes on computing when we no longer wait.
	HashTimeout time.Duration
	// Metrics reads /metrics of every member.
	Metrics bool
	// GivenOnly leaves out the members that others name.
	GivenOnly bool
}

// maxEndpoints bounds how many client URLs are asked: etcd itself is not meant for more than seven voters.
const maxEndpoints = 64

// Look asks the given endpoints, and the client URLs that members name as soon as they name them, all at once. An endpoint that swallows every packet
// costs the access's timeout and nothing more, however many there are.
//
// It fails only when it was called wrongly, or ctx was cancelled. A cluster of which nothing answers is a view, too.
func Look(ctx context.Context, a Access, o Options) (*View, error) {
	given, err := a.parse()
	if err != nil {
		return nil, err
	}
	v := &View{At: time.Now(), Shown: ClientCertificates(a.TLS), Hashed: o.Hash}
	l := &looker{access: a.endpoint(), options: o, done: make(chan *asked), tried: map[string]*asked{}}
	for _, e := range given {
		l.secure = l.secure || e.Secure
	}
	defer l.close()
	for _, e := range given {
		l.start(ctx, e, 0)
	}
	l.collect(ctx)
	if l.rivals() {
		select {
		case <-time.After(handover):
		case <-ctx.Done():
		}
	}
	l.again(ctx)
	if o.Hash {
		l.hashes(ctx)
	}
	if err := context.Cause(ctx); err != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return nil, err
	}
	for _, s := range l.all {
		v.Answers = append(v.Answers, s.Answer)
	}
	return v, nil
}

// parse reads the given endpoints; each is asked once.
func (a Access) parse() ([]endpoint.Endpoint, error) {
	if len(a.Endpoints) == 0 {
		return nil, fail.New(fail.Usage, errors.New("no endpoint of etcd is given"), "give --endpoints https://127.0.0.1:2379")
	}
	var all []endpoint.Endpoint
	for _, s := range a.Endpoints {
		e, err := a.endpoint().Parse(s)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(all, e) {
			all = append(all, e)
		}
	}
	if len(all) > maxEndpoints {
		return nil, fail.New(fail.Usage, errors.New("more than 64 endpoints are given"), "give one or two of each member's; the others are found by themselves")
	}
	return all, nil
}

// looker is one look.
type looker struct {
	access  endpoint.Access
	options Options
	secure  bool // a given endpoint is https: then the password goes over nothing else
	done    chan *asked
	tried   map[string]*asked
	all     []*asked
	pending int
}

// start begins to ask e.
func (l *looker) start(ctx context.Context, e endpoint.Endpoint, named uint64) {
	s := &asked{looker: l, e: e, Answer: Answer{Endpoint: e.URL, Given: named == 0, Named: named}}
	l.tried[e.URL] = s
	l.all = append(l.all, s)
	l.pending++
	go func() {
		s.ask(ctx)
		l.done <- s
	}()
}

// collect waits for all answers, and asks the endpoints that each names.
func (l *looker) collect(ctx context.Context) {
	for ; l.pending > 0; l.pending-- {
		s := <-l.done
		for _, m := range s.Members {
			for _, u := range m.ClientURLs {
				e, err := l.access.Parse(u)
				if err != nil {
					continue // unix sockets, and what is none of ours to correct
				}
				if known := l.tried[e.URL]; known != nil {
					known.Named = cmp.Or(known.Named, m.ID)
				} else if !l.options.GivenOnly && len(l.all) < maxEndpoints {
					l.start(ctx, e, m.ID)
				}
			}
		}
	}
	// Those that were given come first, as they were given; the others by member, so that two views are in the same order.
	slices.SortStableFunc(l.all, func(a, b *asked) int {
		switch {
		case a.Given && b.Given:
			return 0
		case a.Given != b.Given:
			return map[bool]int{true: -1, false: 1}[a.Given]
		}
		return cmp.Or(cmp.Compare(a.Named, b.Named), cmp.Compare(a.Endpoint, b.Endpoint))
	})
}

// handover is how long a new leader may take until it tells its own term: it has to make an entry durable, and have it confirmed.
const handover = 500 * time.Millisecond

// rivals says whether two members of one cluster follow two leaders in one term. For a moment after each change of leader it looks so; whoever judges the
// second answers must be able to tell.
func (l *looker) rivals() bool {
	type place struct{ cluster, term uint64 }
	leaders := map[place]uint64{}
	for _, s := range l.all {
		if s.Err != nil || s.Leader == 0 {
			continue
		}
		p := place{s.ClusterID, s.Term}
		if other := leaders[p]; other != 0 && other != s.Leader {
			return true
		}
		leaders[p] = s.Leader
	}
	return false
}

// againWithin bounds the second question, which a member that answered the first has no reason to be slow with.
const againWithin = time.Second

// again asks all that answer a second time.
func (l *looker) again(ctx context.Context) {
	var wg sync.WaitGroup
	for _, s := range l.all {
		if s.Err == nil {
			wg.Go(func() { s.again(ctx, min(againWithin, l.access.Bound())) })
		}
	}
	wg.Wait()
}

func (l *looker) close() {
	for _, s := range l.all {
		if s.conn != nil {
			_ = s.conn.Close()
		}
	}
}
