package probe

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"etcd-steward/integration/lab"
	"etcd-steward/internal/fail"
)

// enableAuth makes root and a user who may read, and turns authentication on.
func enableAuth(t *testing.T, cli *clientv3.Client) {
	t.Helper()
	ctx := t.Context()
	for _, step := range []func() error{
		func() error { _, err := cli.UserAdd(ctx, "root", "secret-of-root"); return err },
		func() error { _, err := cli.UserGrantRole(ctx, "root", "root"); return err },
		func() error { _, err := cli.UserAdd(ctx, "reader", "secret-of-reader"); return err },
		func() error { _, err := cli.AuthEnable(ctx); return err },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestAuth: with authentication, root sees all, by password and by certificate; others see what etcd lets them see, and why it is not all; and the certificate
// goes on working without a quorum, where no password can be checked.
func TestAuth(t *testing.T) {
	slow(t)
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			c := start(t, lab.EtcdOptions{Version: version, Members: 3, TLS: true, UnsafeNoFsync: true})
			enableAuth(t, c.Client(t))
			as := func(cert, user, password string) Access {
				pair := c.CA.Issue(t, cert, time.Now().Add(time.Hour))
				return Access{Endpoints: c.Endpoints(), TLS: lab.ClientTLS(t, c.CA, pair), Username: user, Password: password}
			}
			whole := func(a *Answer) error {
				if a.Err != nil || a.AuthRefused || !a.Quorum || len(a.Members) != 3 || a.Hash == nil {
					return errors.New("not all is seen")
				}
				return nil
			}
			refused := func(words string) func(a *Answer) error {
				return func(a *Answer) error {
					if !a.AuthRefused || a.AuthErr == nil || !strings.Contains(a.AuthErr.Error(), words) || fail.HintOf(a.AuthErr) == "" || a.Hash != nil {
						return fmt.Errorf("want a refusal that says %q", words)
					}
					return nil
				}
			}
			check := func(who string, a Access, members int, want func(a *Answer) error) {
				t.Helper()
				lab.Eventually(t, 20*time.Second, who, func() error {
					v := look(t, 5*time.Second, a, Options{Hash: true})
					for i := range members {
						if err := want(&v.Answers[i]); err != nil {
							return fmt.Errorf("%w: %s", err, text(v))
						}
					}
					return nil
				})
			}
			check("root with a password", as("nobody", "root", "secret-of-root"), 3, whole)
			check("root by certificate", as("root", "", ""), 3, whole)
			check("a wrong password", as("nobody", "root", "wrong-password"), 3, refused("password of user root is wrong"))
			check("nobody", as("nobody", "", ""), 3, refused("is no user"))
			check("a reader", as("nobody", "reader", "secret-of-reader"), 3, refused("may not do that"))
			dial(t, as("nobody", "root", "secret-of-root"))
			c.Kill(1)
			c.Kill(2)
			check("root by certificate, without a quorum", as("root", "", ""), 1, func(a *Answer) error {
				if a.Err != nil || a.AuthRefused || a.Quorum || a.Leader != 0 || len(a.Members) != 3 || a.Hash == nil {
					return errors.New("not all is seen")
				}
				return nil
			})
			check("root with a password, without a quorum", as("nobody", "root", "secret-of-root"), 1, refused("needs a quorum"))
		})
	}
}

// dial: a connection to one member by its ID, whatever endpoints are known; it logs in, is bounded, and its errors can be compared.
func dial(t *testing.T, a Access) {
	t.Helper()
	v := look(t, 5*time.Second, a, Options{})
	for _, m := range v.Agreed().Members {
		c, err := Dial(t.Context(), a, v, m.ID)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if c.MemberID != m.ID {
			t.Errorf("member %x instead of %x", c.MemberID, m.ID)
		}
		if _, err := Call(t.Context(), c, 5*time.Second, c.Maintenance().HashKV, &pb.HashKVRequest{}); err != nil {
			t.Errorf("what only root may do: %v", err)
		}
		_, err = Call(t.Context(), c, 5*time.Second, c.Members().MemberPromote, &pb.MemberPromoteRequest{ID: m.ID})
		if !errors.Is(err, rpctypes.ErrMemberNotLearner) {
			t.Errorf("promote a voter: %v", err)
		}
	}
	if _, err := DialURL(t.Context(), a, a.Endpoints[0], 4711); err == nil || !strings.Contains(err.Error(), "leads to member") {
		t.Errorf("another member: %v", err)
	}
	// The wrong member's URL in the view, as that of a load balancer: it is not taken.
	for i := range v.Answers {
		v.Answers[i].MemberID = v.Agreed().Members[0].ID
	}
	wrong := 0
	for i := range v.Answers {
		v.Answers[i].Endpoint = a.Endpoints[i%3]
		c, err := DialURL(t.Context(), a, v.Answers[i].Endpoint, v.Answers[i].MemberID)
		if err != nil {
			wrong++
			continue
		}
		c.Close()
	}
	if wrong != 2 {
		t.Errorf("%d of three endpoints are another member's", wrong)
	}
}

// TestCallBounded: a member that hangs does not hang us, nor does one that is gone; and both say why.
func TestCallBounded(t *testing.T) {
	slow(t)
	c := lab.StartEtcd(t, lab.EtcdOptions{UnsafeNoFsync: true})
	a := Access{Endpoints: c.Endpoints(), Timeout: time.Second}
	conn, err := DialURL(t.Context(), a, c.Endpoint(0), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	resume := c.Pause(t, 0)
	var begun time.Time
	lab.Eventually(t, 5*time.Second, "the signal arrives", func() error {
		begun = time.Now()
		if _, err = Call(t.Context(), conn, 300*time.Millisecond, conn.Members().MemberPromote, &pb.MemberPromoteRequest{ID: 1}); errors.Is(err, rpctypes.ErrMemberNotFound) {
			return err
		}
		return nil
	})
	if took := time.Since(begun); !errors.Is(err, context.DeadlineExceeded) || fail.HintOf(err) == "" || took > 3*time.Second {
		t.Errorf("a member that hangs: %v after %v", err, took)
	}
	resume()
	c.Kill(0)
	begun = time.Now()
	_, err = Call(t.Context(), conn, 5*time.Second, conn.Members().MemberPromote, &pb.MemberPromoteRequest{ID: 1})
	if took := time.Since(begun); err == nil || !strings.Contains(err.Error(), "refused") || fail.HintOf(err) == "" || took > 4*time.Second {
		t.Errorf("a member that is gone: %v after %v", err, took)
	}
}
