package membership

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"etcd-steward/internal/endpoint"
	"etcd-steward/internal/fail"
	"etcd-steward/internal/host"
	"etcd-steward/internal/plan"
	"etcd-steward/membership/probe"
	"etcd-steward/membership/quorum"
)

// Site is where a party's part of a plan is executed: how the cluster is reached from there, and the machine itself.
type Site struct {
	// Access reaches the cluster. The members that a plan knows are asked beside its endpoints.
	Access probe.Access
	// Backup takes a backup now and verifies it; it returns its ID.
	Backup func(ctx context.Context, say func(format string, a ...any)) (string, error)
	// Host is the machine; nil where only the cluster is acted on.
	Host *Host
	Pace Pace
}

// Host is the machine on which a member is, or is to be.
type Host struct {
	Machine *host.Machine
	Control *host.Control
	// Etcd is the name of the etcd that is meant, where there are several; "" is the only one.
	Etcd string
	// SetAside allows to rename data that is there already and not known to be the removed member's.
	SetAside bool
	// Image is what a static pod runs that is made here; "" where there is a manifest already, or etcd is a unit.
	Image string
}

// Pace is how long things are waited for. Zero values are those of the procedures; tests have less time.
type Pace struct {
	Poll       time.Duration // between two looks: 1 s
	Hold       time.Duration // for how long a learner must have caught up: 10 s
	NoProgress time.Duration // after which a learner is evicted: 5 min
	Promote    time.Duration // for how long a promotion is tried: 10 min
	Retry      time.Duration // for how long a removal is tried that etcd refuses: 5 min
	Add        time.Duration // for how long an addition is: etcd wants its members to have been connected for 5 s: 30 s
	Dead       time.Duration // since when a member must have been dead: 1 min
	Watch      time.Duration // for how long it is looked at in any case: 10 s
	Calm       time.Duration // for how long a leader must lead that was elected since the plan was made: 1 min
	Settle     time.Duration // for how long a leader must lead: 5 s
	Start      time.Duration // for how long a start is waited for: 2 min
}

func (p Pace) filled() Pace {
	for _, d := range []struct {
		value *time.Duration
		is    time.Duration
	}{
		{&p.Poll, time.Second},
		{&p.Hold, 10 * time.Second},
		{&p.NoProgress, 5 * time.Minute},
		{&p.Promote, 10 * time.Minute},
		{&p.Retry, 5 * time.Minute},
		{&p.Add, 30 * time.Second},
		{&p.Dead, time.Minute},
		{&p.Watch, 10 * time.Second},
		{&p.Calm, calm},
		{&p.Settle, 5 * time.Second},
		{&p.Start, 2 * time.Minute},
	} {
		if *d.value == 0 {
			*d.value = d.is
		}
	}
	return p
}

// Actions are what a site can do of the plans that this package makes.
func (s *Site) Actions() plan.Actions {
	return plan.Actions{
		doBackup:      {Do: s.backup},
		doConfirm:     {Do: s.confirmDead},
		doMoveLeader:  {Do: s.moveLeaderAway},
		doRemove:      {Do: s.calmly(s.remove)},
		doGone:        {Do: s.gone},
		doAdd:         {Do: s.calmly(s.add), Undo: s.evict},
		doCatchUp:     {Do: s.catchUp},
		doPromote:     {Do: s.calmly(s.promote)},
		doUpdate:      {Do: s.calmly(s.update), Undo: s.updateBack},
		doVerify:      {Do: s.verify},
		doRepoint:     {Do: s.repoint, Undo: s.repointBack},
		doStopOld:     {Do: s.stopOld, Undo: s.startOld},
		doCheck:       {Do: s.check},
		doConfigure:   {Do: s.configure, Undo: s.newOnly(s.unconfigure)},
		doStart:       {Do: s.start, Undo: s.newOnly(s.unstart)},
		doStarted:     {Do: s.started},
		doReaddress:   {Do: s.readdress, Undo: s.readdressBack},
		doStopRemoved: {Do: s.stopRemoved, Undo: s.startRemoved, Late: s.stillRemoved},
		doSetAside:    {Do: s.setAside, Undo: s.bringBack, Late: s.stillRemoved},
	}
}

// endpoints are where questions are asked: the plan's members and those given.
func (s *Site) endpoints(b Basis) []string {
	var all []string
	for _, u := range append(b.endpoints(), s.Access.Endpoints...) {
		if !slices.Contains(all, u) {
			all = append(all, u)
		}
	}
	return all
}

// see reads the cluster of a plan, whatever became of it.
func (s *Site) see(ctx context.Context, p *plan.Plan) (*Cluster, Basis, error) {
	b, err := BasisOf(*p)
	if err != nil {
		return nil, b, err
	}
	c, err := s.at(ctx, s.endpoints(b))
	return c, b, err
}

// look reads the cluster of a plan. It refuses when it is not the one that the plan was made from, but for what the plan changed itself.
func (s *Site) look(ctx context.Context, p *plan.Plan) (*Cluster, Basis, error) {
	c, b, err := s.see(ctx, p)
	if err != nil {
		return nil, b, err
	}
	return c, b, b.Outdated(c.ID, c.specs())
}

func (s *Site) at(ctx context.Context, endpoints []string) (*Cluster, error) {
	a := s.Access
	a.Endpoints = endpoints
	v, err := probe.Look(ctx, a, probe.Options{})
	if err != nil {
		return nil, err
	}
	return Read(v)
}

// may looks at the cluster and simulates what is about to be done, by what is so now.
func (s *Site) may(ctx context.Context, p *plan.Plan, effect quorum.Step) (*Cluster, error) {
	c, _, err := s.look(ctx, p)
	if err != nil {
		return nil, err
	}
	_, err = quorum.Simulate(c.model(), []quorum.Step{effect})
	var r *quorum.Refusal
	if errors.As(err, &r) {
		return c, fail.Refused(fmt.Errorf("not now: %s", r.Rule), r.Safe)
	}
	return c, err
}

func (s *Site) access() endpoint.Access {
	return endpoint.Access{TLS: s.Access.TLS, Username: s.Access.Username, Password: s.Access.Password}
}

// ask asks one endpoint one question, within a bound. The error is etcd's, comparable with rpctypes.
func (s *Site) ask(ctx context.Context, url string, f func(ctx context.Context, conn *grpc.ClientConn) error) error {
	a := s.access()
	e, err := a.Parse(url)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, a.Bound())
	defer cancel()
	conn, err := a.Dial(e)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	token, err := a.Token(ctx, conn)
	if err != nil {
		return err
	}
	return endpoint.Error(f(endpoint.WithToken(ctx, token), conn))
}

// change asks the voters for a change, one after the other, until one has an opinion. That is not the end of it: an answer may be lost, so whoever asks
// looks whether the change is there before he asks again.
func (s *Site) change(ctx context.Context, c *Cluster, f func(ctx context.Context, cli pb.ClusterClient) error) error {
	var last error
	for _, m := range c.Members {
		if m.Learner || m.Answer == nil || !c.Up(m) {
			continue
		}
		err := s.ask(ctx, m.Answer.Endpoint, func(ctx context.Context, conn *grpc.ClientConn) error { return f(ctx, pb.NewClusterClient(conn)) })
		if err == nil {
			return nil
		}
		if last = s.told(ctx, m.Answer.Endpoint, err); decided(err) {
			return last
		}
	}
	if last == nil {
		return fail.New(fail.Failed, errors.New("no voter follows the leader"), "steward health")
	}
	return last
}

// verdict is an error with etcd's own kept for comparison.
type verdict struct {
	error
	etcd error
}

func (v verdict) Unwrap() []error { return []error{v.error, v.etcd} }

// told makes an error of etcd's one for people.
func (s *Site) told(ctx context.Context, url string, err error) error {
	a := s.access()
	e, perr := a.Parse(url)
	if perr != nil {
		return perr
	}
	return verdict{fail.Hint(fmt.Errorf("%s: %w", e.URL, a.Reason(ctx, e, err)), fail.HintOf(a.Reason(ctx, e, err))), err}
}

// decided says whether etcd had an opinion, which it would have elsewhere too.
func decided(err error) bool {
	for _, e := range []error{
		rpctypes.ErrPermissionDenied, rpctypes.ErrUserEmpty, rpctypes.ErrAuthFailed, rpctypes.ErrUnhealthy, rpctypes.ErrMemberNotEnoughStarted, rpctypes.ErrTooManyLearners,
		rpctypes.ErrPeerURLExist, rpctypes.ErrMemberExist, rpctypes.ErrMemberNotFound, rpctypes.ErrMemberLearnerNotReady, rpctypes.ErrMemberNotLearner, rpctypes.ErrMemberBadURLs,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// passing says whether to try again: etcd wants its members connected for some seconds, or lost its leader just now.
func passing(err error) bool {
	return errors.Is(err, rpctypes.ErrUnhealthy) || errors.Is(err, rpctypes.ErrMemberNotEnoughStarted) || errors.Is(err, rpctypes.ErrMemberLearnerNotReady) || !decided(err)
}

// until tries f again and again, until it says that it is done, or fails for good, or the time is over: then with f's last reason. People are told why it waits.
func (s *Site) until(ctx context.Context, say func(string, ...any), within time.Duration, what string, f func() (done bool, why error)) error {
	deadline, told := time.Now().Add(within), time.Time{}
	for {
		done, why := f()
		switch {
		case !done && why != nil && time.Since(told) > sayEvery:
			say("%s: %v", what, why)
			told = time.Now()
		}
		switch {
		case done:
			return why
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case time.Now().After(deadline):
			return fail.Hint(fmt.Errorf("%s: not within %v: %w", what, within, why), fail.HintOf(why))
		}
		if err := pause(ctx, s.Pace.filled().Poll); err != nil {
			return err
		}
	}
}

// sayEvery is how often people are told why something is waited for.
const sayEvery = 10 * time.Second

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}
