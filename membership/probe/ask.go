package probe

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"

	"etcd-steward/internal/endpoint"
	"etcd-steward/internal/fail"
)

// Bounds of what is kept of what a member says: it may be anybody, and everything is compared with everything. etcd itself says far less.
const (
	maxMembers = 64
	maxURLs    = 16   // of one member, each way
	maxErrors  = 64   // alarms included
	maxWords   = 1024 // bytes of an error or a URL
	maxName    = 256  // bytes of a name or a version
)

func cut(s string, most int) string { return s[:min(len(s), most)] }

// cutAll is at most n of a list, each of at most maxWords.
func cutAll(all []string, n int) (out []string) {
	for _, s := range all[:min(len(all), n)] {
		out = append(out, cut(s, maxWords))
	}
	return out
}

// asked is one endpoint that is being asked. It keeps its connection for the hashes.
type asked struct {
	Answer
	looker *looker
	e      endpoint.Endpoint
	conn   *grpc.ClientConn

	newest int64 // revision that it is known to have

	login    sync.Once
	token    string
	tokenErr error
}

// ask finds out all but the hash, by three ways side by side: gRPC, a handshake by hand that shows certificates and why there is no connection, and HTTP.
func (s *asked) ask(ctx context.Context) {
	a := s.looker.access
	ctx, cancel := context.WithTimeout(ctx, a.Bound())
	defer cancel()
	var err, cause error
	if s.conn, err = a.Dial(s.e); err != nil {
		s.Err = err
		return
	}
	var web web
	var wg sync.WaitGroup
	wg.Go(func() { s.Certificates, cause = a.Handshake(ctx, s.e) })
	wg.Go(func() { web = readWeb(ctx, a, s.e, s.looker.options.Metrics) })
	err = s.describe(ctx)
	if err == nil {
		s.deepen(ctx)
	}
	wg.Wait()
	s.take(web)
	switch {
	case err == nil:
	case endpoint.NeedsUser(err) || errors.Is(err, rpctypes.ErrAuthFailed):
		s.refused(ctx, err)
		s.Err = s.AuthErr
	default:
		// Our own bound is no news: what matters is that the other side was silent.
		s.Err = a.Explain(context.WithoutCancel(ctx), s.e, err, cause)
	}
}

// describe asks for the member's status: first without a user, since etcd needs a quorum to check a password, and older versions want none for it.
func (s *asked) describe(ctx context.Context) error {
	begun := time.Now()
	st, err := pb.NewMaintenanceClient(s.conn).Status(ctx, &pb.StatusRequest{})
	if err = endpoint.Error(err); endpoint.NeedsUser(err) {
		if err := s.authenticate(ctx); err != nil {
			return err
		}
		begun = time.Now()
		st, err = pb.NewMaintenanceClient(s.conn).Status(endpoint.WithToken(ctx, s.token), &pb.StatusRequest{})
		err = endpoint.Error(err)
	}
	if err != nil {
		return err
	}
	h := st.GetHeader()
	s.newest = h.GetRevision()
	s.RTT, s.ClusterID, s.MemberID, s.Revision = time.Since(begun), h.GetClusterId(), h.GetMemberId(), h.GetRevision()
	s.Version, s.StorageVersion, s.Leader, s.Learner = cut(st.GetVersion(), maxName), cut(st.GetStorageVersion(), maxName), st.GetLeader(), st.GetIsLearner()
	s.Term, s.Index, s.Applied = st.GetRaftTerm(), st.GetRaftIndex(), st.GetRaftAppliedIndex()
	s.DBSize, s.DBInUse, s.Quota = st.GetDbSize(), st.GetDbSizeInUse(), max(st.GetDbSizeQuota(), 0)
	if d := st.GetDowngradeInfo(); d.GetEnabled() {
		s.Downgrade = cut(d.GetTargetVersion(), maxName)
	}
	alarms, rest := endpoint.Alarms(cutAll(st.GetErrors(), maxErrors))
	for _, al := range alarms {
		s.Alarms = append(s.Alarms, Alarm(al))
	}
	s.Errors = rest
	return nil
}

// deepen asks for the list of members, and whether there is a quorum. A learner answers neither.
func (s *asked) deepen(ctx context.Context) {
	if s.Learner {
		return
	}
	var wg sync.WaitGroup
	reading := endpoint.WithToken(ctx, s.token)
	wg.Go(func() {
		err := s.withUser(ctx, func(ctx context.Context) error {
			// Not linearizable: it must answer without a quorum, too.
			list, err := pb.NewClusterClient(s.conn).MemberList(ctx, &pb.MemberListRequest{Linearizable: false})
			for _, m := range list.GetMembers()[:min(len(list.GetMembers()), maxMembers)] {
				s.Members = append(s.Members, Member{
					ID: m.GetID(), Name: cut(m.GetName(), maxName), PeerURLs: cutAll(m.GetPeerURLs(), maxURLs), ClientURLs: cutAll(m.GetClientURLs(), maxURLs), Learner: m.GetIsLearner(),
				})
			}
			return err
		})
		s.refused(ctx, err)
	})
	if s.Leader != 0 { // whoever knows no leader would only wait for one
		wg.Go(func() {
			// Whoever may not read the key was told so in agreement with a quorum.
			_, err := pb.NewKVClient(s.conn).Range(reading, &pb.RangeRequest{Key: []byte("etcd-steward/quorum"), CountOnly: true})
			s.Quorum = err == nil || endpoint.NeedsUser(endpoint.Error(err))
		})
	}
	wg.Wait()
}

// same says whether an answer is of the member that answered first. Behind a load balancer or etcd's own proxies it need not be, and what two members say must
// not be taken for what one says.
func (s *asked) same(h *pb.ResponseHeader) bool {
	return h.GetMemberId() == s.MemberID && h.GetClusterId() == s.ClusterID
}

// again asks for the status a second time.
func (s *asked) again(ctx context.Context, within time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	if st, err := pb.NewMaintenanceClient(s.conn).Status(endpoint.WithToken(ctx, s.token), &pb.StatusRequest{}); err == nil && s.same(st.GetHeader()) {
		s.After = Again{Revision: st.GetHeader().GetRevision(), Index: st.GetRaftIndex(), Applied: st.GetRaftAppliedIndex(), Term: st.GetRaftTerm(), Leader: st.GetLeader()}
		s.newest = max(s.newest, s.After.Revision)
	}
}

// withUser asks without a user, and with one when that is wanted.
func (s *asked) withUser(ctx context.Context, f func(ctx context.Context) error) error {
	err := endpoint.Error(f(endpoint.WithToken(ctx, s.token)))
	if !endpoint.NeedsUser(err) || s.token != "" {
		return err
	}
	if loginErr := s.authenticate(ctx); loginErr != nil {
		return loginErr
	}
	if s.token == "" {
		return err
	}
	return endpoint.Error(f(endpoint.WithToken(ctx, s.token)))
}

// authenticate logs in once, when there is a user and a way that does not show the password.
func (s *asked) authenticate(ctx context.Context) error {
	s.login.Do(func() {
		if s.looker.secure && !s.e.Secure {
			s.tokenErr = rpctypes.ErrUserEmpty
			return
		}
		s.token, s.tokenErr = s.looker.access.Token(ctx, s.conn)
		if errors.Is(s.tokenErr, context.DeadlineExceeded) {
			s.tokenErr = errNoLogin
		}
	})
	return s.tokenErr
}

// errNoLogin is an ErrUserEmpty: the member answers, but not us.
var errNoLogin = fmt.Errorf("%w: no answer to the login", rpctypes.ErrUserEmpty)

// refused notes that a question was not answered for want of rights. Other errors are not noted: the list is missing, which is seen.
func (s *asked) refused(ctx context.Context, err error) {
	switch {
	case errors.Is(err, errNoLogin):
		s.AuthErr = fail.Hint(fmt.Errorf("it has authentication, and could not check the password of %s: for that it needs a quorum", s.looker.access.Username),
			"show a client certificate whose common name is a user with the role root: such needs no quorum")
	case endpoint.NeedsUser(err) || errors.Is(err, rpctypes.ErrAuthFailed):
		s.AuthErr = s.looker.access.Explain(ctx, s.e, err, nil)
	default:
		return
	}
	s.AuthRefused = true
}
