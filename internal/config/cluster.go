package config

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"etcd-steward/backup/repo/retention"
	"etcd-steward/backup/snapshot"
	"etcd-steward/internal/config/schedule"
	"etcd-steward/internal/fail"
)

// Etcd is how the cluster's etcd is reached. It reads the TLS files and the password's file.
func (cl *Cluster) Etcd() (snapshot.Cluster, error) {
	if cl.ambiguous != nil {
		return snapshot.Cluster{}, cl.ambiguous
	}
	c, at := cl.config, cl.at
	out := snapshot.Cluster{
		Endpoints: cl.Endpoints, Username: cl.Username, Password: string(cl.password),
		Local: cl.Snapshot.Member == "local", DialTimeout: time.Duration(cl.DialTimeout),
	}
	if cl.PasswordFile != "" && cl.Username != "" {
		text, err := c.readSecret(at+".password_file", cl.PasswordFile)
		if err != nil {
			return snapshot.Cluster{}, err
		}
		out.Password = string(text)
	}
	if !strings.HasPrefix(cl.Endpoints[0], "https://") {
		return out, nil
	}
	var err error
	if out.TLS, err = c.clientTLS(cl.TLS, at+".tls"); err != nil {
		return snapshot.Cluster{}, err
	}
	return out, nil
}

// clientTLS makes the client's side of TLS. The pair is read now, so that a wrong one is found now, and again at every handshake.
func (c *Config) clientTLS(t TLS, at string) (*tls.Config, error) {
	out := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName}
	if t.CA != "" {
		pem, err := os.ReadFile(t.CA)
		if err != nil {
			return nil, c.fileError(at+".ca", err)
		}
		out.RootCAs = x509.NewCertPool()
		if !out.RootCAs.AppendCertsFromPEM(pem) {
			return nil, c.fileError(at+".ca", fmt.Errorf("%s holds no certificate in PEM", t.CA))
		}
	}
	if t.Cert == "" {
		return out, nil
	}
	if err := c.checkSecret(secretFile{field: at + ".key", path: t.Key, bad: othersAll, anyOwner: true}); err != nil {
		return nil, err
	}
	if _, err := tls.LoadX509KeyPair(t.Cert, t.Key); err != nil {
		return nil, c.fileError(at+".cert", err)
	}
	out.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(t.Cert, t.Key)
		if err != nil {
			return nil, fmt.Errorf("client certificate: %w", err)
		}
		return &pair, nil
	}
	return out, nil
}

func (c *Config) fileError(field string, err error) error {
	hint := ""
	if errors.Is(err, os.ErrPermission) {
		hint = "run as root, or hand the file to the service with LoadCredential= (see stewardd.service)"
	}
	return fail.New(fail.Usage, fmt.Errorf("%s: %s: %w", c.origin(field), field, err), hint)
}

// Records says whether the daemon records the cluster's changes: with the schedule of snapshots switched off, it is one that prunes or verifies what others
// back up.
func (cl *Cluster) Records() bool {
	return cl.Changes.Enabled && cl.Snapshot.Schedule != schedule.Never
}

// ChangesDir is the cluster's folder for what was recorded and is not in the store yet. It must outlive a restart, so it is below systemd's StateDirectory=
// and not where snapshots are spooled.
func (cl *Cluster) ChangesDir() string {
	base := "/var/lib/steward"
	if dir, ok := cl.config.lookup("STATE_DIRECTORY"); ok && dir != "" {
		base = strings.Split(dir, ":")[0]
	}
	return filepath.Join(base, "changes", cl.Name)
}

// Policy is the cluster's retention.
func (cl *Cluster) Policy() retention.Policy {
	r := cl.Retention
	return retention.Policy{
		Last: r.Last, Hourly: r.Hourly, Daily: r.Daily, Weekly: r.Weekly, Monthly: r.Monthly, Within: time.Duration(r.Within),
		AnyMoment: time.Duration(r.AnyMoment),
	}
}

// Location is the time zone of the cluster's schedules and of retention's days.
func (cl *Cluster) Location() *time.Location {
	loc, err := time.LoadLocation(cl.Snapshot.Timezone)
	if err != nil {
		panic("unreachable: a time zone that was checked: " + err.Error())
	}
	return loc
}

// Schedules are when a cluster's jobs are due.
type Schedules struct{ Snapshot, Compact, Prune, Verify, Deep schedule.Schedule }

// Schedules are the cluster's schedules, parsed.
func (cl *Cluster) Schedules() Schedules {
	parse := func(text string) schedule.Schedule {
		s, err := schedule.Parse(text, cl.Location())
		if err != nil {
			panic("unreachable: a schedule that was checked: " + err.Error())
		}
		return s
	}
	return Schedules{
		Snapshot: parse(cl.Snapshot.Schedule), Compact: parse(cl.Snapshot.Compact), Prune: parse(cl.Prune.Schedule),
		Verify: parse(cl.Verify.Schedule), Deep: parse(cl.Verify.Deep),
	}
}
