package config

import (
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"etcd-steward/backup/repo"
	"etcd-steward/backup/repo/envelope"
	"etcd-steward/internal/config/schedule"
)

// check finds values that are wrong in themselves or at odds with each other. Every problem points at a line that somebody wrote.
func (c *Config) check() Problems {
	var ps Problems
	c.checkStore(&ps)
	c.checkS3(&ps)
	c.checkEncryption(&ps)
	c.checkNames(&ps)
	for i := range c.Clusters {
		c.checkConnection(&ps, i)
		c.checkSnapshot(&ps, i)
		c.checkChanges(&ps, i)
		c.checkHealth(&ps, i)
		c.checkRetention(&ps, i)
		c.checkVerify(&ps, i)
	}
	if _, port, err := net.SplitHostPort(c.Listen); err != nil || port == "" {
		ps.add(c.origin("listen"), "listen: %q is no address: want host:port", c.Listen)
	}
	c.oneOf(&ps, "log.level", c.Log.Level, "debug", "info", "warn", "error")
	c.oneOf(&ps, "log.format", c.Log.Format, "text", "json")
	for _, f := range c.fileFields() {
		if f.path != "" && !filepath.IsAbs(f.path) && c.origin(f.field).Kind == FromFile {
			ps.add(c.origin(f.field), "%s: %q must be an absolute path: a service has no folder of its own", f.field, f.path)
		}
	}
	return ps
}

// oneOf checks a word against those that are allowed.
func (c *Config) oneOf(ps *Problems, field, got string, want ...string) {
	if !slices.Contains(want, got) {
		ps.add(c.origin(field), "%s: %q is none of %s", field, got, strings.Join(want, ", "))
	}
}

// fileFields are all fields that name a file or a folder.
func (c *Config) fileFields() []secretFile {
	all := append(c.secretFiles(), secretFile{field: "s3.ca_file", path: c.S3.CAFile},
		secretFile{field: "encryption.recipients_file", path: c.Encryption.RecipientsFile})
	for i, cl := range c.Clusters {
		at := index("clusters", i)
		all = append(all, secretFile{field: at + ".tls.ca", path: cl.TLS.CA}, secretFile{field: at + ".tls.cert", path: cl.TLS.Cert},
			secretFile{field: at + ".snapshot.spool", path: cl.Snapshot.Spool})
	}
	return all
}

func (c *Config) checkStore(ps *Problems) {
	if c.Store == "" {
		return // checkDaemon and StoreConfig ask for it
	}
	at := c.origin("store")
	u, err := url.Parse(c.Store)
	switch {
	case err != nil || u.User != nil:
		ps.add(at, "store: want s3://bucket/prefix or file:///absolute/path, without credentials")
	case u.Scheme == "s3" && u.Host != "":
	case u.Scheme == "file" && u.Host == "" && filepath.IsAbs(u.Path):
		for _, f := range []string{"object_lock.mode", "object_lock.days"} {
			if c.given("s3." + f) {
				ps.add(c.origin("s3."+f), "s3.%s: a file:// store has no Object Lock", f)
				return
			}
		}
		if c.given("s3") {
			ps.add(c.origin("s3"), "s3: the store is %s, which has no use for it", c.Store)
		}
	default:
		ps.add(at, "store: %q: want s3://bucket/prefix or file:///absolute/path", c.Store)
	}
}

func (c *Config) checkS3(ps *Problems) {
	s := c.S3
	if s.Endpoint != "" {
		u, err := url.Parse(s.Endpoint)
		if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil {
			ps.add(c.origin("s3.endpoint"), "s3.endpoint: want a URL such as https://s3.example.org, without credentials")
		} else if u.Scheme == "http" && s.CAFile != "" {
			ps.add(c.origin("s3.ca_file"), "s3.ca_file: the endpoint is plain http, which checks no certificate")
		}
	}
	if (s.AccessKeyIDFile == "") != (s.SecretAccessKeyFile == "") {
		ps.add(c.firstGiven("s3.access_key_id_file", "s3.secret_access_key_file"),
			"s3: access_key_id_file and secret_access_key_file go together")
	}
	if s.SessionTokenFile != "" && s.AccessKeyIDFile == "" {
		ps.add(c.origin("s3.session_token_file"), "s3.session_token_file: needs access_key_id_file and secret_access_key_file")
	}
	if s.Profile != "" && c.given("s3.access_key_id_file") {
		ps.add(c.origin("s3.profile"), "s3.profile: keys are given by access_key_id_file already")
	}
	lock := s.ObjectLock
	if c.given("s3.object_lock.mode") {
		c.oneOf(ps, "s3.object_lock.mode", lock.Mode, "governance", "compliance")
	}
	switch {
	case lock.Mode != "" && lock.Days <= 0:
		ps.add(c.firstGiven("s3.object_lock.days", "s3.object_lock.mode"), "s3.object_lock: days must be 1 or more")
	case lock.Days != 0 && lock.Mode == "":
		ps.add(c.origin("s3.object_lock.days"), "s3.object_lock: days without mode locks nothing")
	case lock.Days > 36500:
		ps.add(c.origin("s3.object_lock.days"), "s3.object_lock: %d days are more than a century", lock.Days)
	}
}

// firstGiven is the origin of the first of the fields that somebody gave.
func (c *Config) firstGiven(fields ...string) Origin {
	for _, f := range fields {
		if c.given(f) {
			return c.origin(f)
		}
	}
	return c.origin(fields[0])
}

func (c *Config) checkEncryption(ps *Problems) {
	e := c.Encryption
	if e.None && (len(e.Recipients) > 0 || e.RecipientsFile != "") {
		ps.add(c.origin("encryption.none"), "encryption: none: true and recipients contradict each other")
	}
	if _, err := envelope.ParseRecipients(e.Recipients); err != nil {
		// The text never repeats a secret key, which somebody may have put here.
		ps.add(c.origin("encryption.recipients"), "encryption.recipients: %v", err)
	}
}

// checkNames: every cluster has a name of its own, which can be a folder's.
func (c *Config) checkNames(ps *Problems) {
	seen := map[string]bool{}
	for i, cl := range c.Clusters {
		field := index("clusters", i) + ".name"
		switch err := repo.ValidateClusterName(cl.Name); {
		case cl.Name == "":
			ps.add(c.origin(field), "clusters: there are %d, so each needs a name", len(c.Clusters))
		case err != nil:
			ps.add(c.origin(field), "%v", err)
		case seen[cl.Name]:
			ps.add(c.origin(field), "clusters: two are called %q", cl.Name)
		}
		seen[cl.Name] = true
	}
}

func (c *Config) checkConnection(ps *Problems, i int) {
	cl, at := c.Clusters[i], index("clusters", i)
	secure := 0
	for _, e := range cl.Endpoints {
		u, err := url.Parse(e)
		if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || strings.Trim(u.Path, "/") != "" || u.User != nil {
			ps.add(c.origin(at+".endpoints"), "%s.endpoints: %q: want a URL such as https://127.0.0.1:2379", at, e)
			return
		}
		if u.Scheme == "https" {
			secure++
		}
	}
	switch {
	case cl.ambiguous != nil:
	case len(cl.Endpoints) == 0:
		ps.add(c.origin(at), "cluster %q has no endpoints: they are detected only when there is one cluster", cl.Name)
	case secure != 0 && secure != len(cl.Endpoints):
		ps.add(c.origin(at+".endpoints"), "%s.endpoints: some are https and some are http", at)
	case secure == 0 && cl.TLS != (TLS{}):
		ps.add(c.firstGiven(at+".tls", at+".tls.ca", at+".tls.cert", at+".tls.key"), "%s.tls: the endpoints are plain http", at)
	}
	if (cl.TLS.Cert == "") != (cl.TLS.Key == "") {
		ps.add(c.firstGiven(at+".tls.cert", at+".tls.key"), "%s.tls: cert and key go together", at)
	}
	switch {
	case cl.Username != "" && cl.PasswordFile == "" && cl.password == "":
		ps.add(c.origin(at+".username"), "%s.username: needs password_file", at)
	case cl.Username == "" && cl.PasswordFile != "" && c.given(at+".password_file"):
		ps.add(c.origin(at+".password_file"), "%s.password_file: needs username", at)
	}
	c.upTo(ps, at+".dial_timeout", cl.DialTimeout, 5*time.Minute)
}

// shortest is the least of every duration: less is a number whose unit was forgotten.
const shortest = time.Second

// upTo checks a duration against what can be meant.
func (c *Config) upTo(ps *Problems, field string, d Duration, high time.Duration) {
	if time.Duration(d) < shortest || time.Duration(d) > high {
		ps.add(c.origin(field), "%s: %s is not between %s and %s", field, d, Duration(shortest), Duration(high))
	}
}

func (c *Config) checkSnapshot(ps *Problems, i int) {
	s, at := c.Clusters[i].Snapshot, index("clusters", i)+".snapshot"
	if _, err := time.LoadLocation(s.Timezone); err != nil {
		ps.add(c.origin(at+".timezone"), "%s.timezone: %q is no time zone such as UTC or Europe/Berlin", at, s.Timezone)
		return // the schedules mean nothing without it
	}
	c.oneOf(ps, at+".member", s.Member, "any", "local")
	c.upTo(ps, at+".stall_timeout", s.StallTimeout, time.Hour)
	if s.Retries < 0 || s.Retries > 1000 {
		ps.add(c.origin(at+".retries"), "%s.retries: %d is not between 0 and 1000", at, s.Retries)
	}
	compact, ok := c.checkSchedule(ps, i, "snapshot.compact", s.Compact)
	if ok && !compact.IsNever() && c.Encryption.IdentityFile == "" && !c.Encryption.None {
		ps.add(c.origin(at+".compact"), "%s.compact: needs encryption.identity_file: what cannot be decrypted cannot be made into a new snapshot", at)
	}
	parsed, ok := c.checkSchedule(ps, i, "snapshot.schedule", s.Schedule)
	if !ok || parsed.IsNever() || !c.given(at+".jitter") {
		return
	}
	if every := parsed.Interval(time.Now()); time.Duration(s.Jitter) >= every {
		ps.add(c.origin(at+".jitter"), "%s.jitter: %s is not shorter than the time between two ticks, %s", at, s.Jitter, Duration(every))
	}
}

func (c *Config) checkSchedule(ps *Problems, i int, field, text string) (schedule.Schedule, bool) {
	loc, err := time.LoadLocation(c.Clusters[i].Snapshot.Timezone)
	if err != nil {
		return schedule.Schedule{}, false
	}
	parsed, err := schedule.Parse(text, loc)
	if err != nil {
		path := join(index("clusters", i), field)
		ps.add(c.origin(path), "%s: %v", path, err)
	}
	return parsed, err == nil
}

func (c *Config) checkRetention(ps *Problems, i int) {
	r, at := c.Clusters[i].Retention, index("clusters", i)+".retention"
	for field, n := range map[string]int{"last": r.Last, "hourly": r.Hourly, "daily": r.Daily, "weekly": r.Weekly, "monthly": r.Monthly} {
		if n < 0 {
			ps.add(c.origin(join(at, field)), "%s.%s: %d is less than 0", at, field, n)
		}
	}
	if r == (Retention{AnyMoment: r.AnyMoment}) {
		ps.add(c.origin(at), "%s: everything is 0: nothing would be kept", at)
	}
	c.checkSchedule(ps, i, "prune.schedule", c.Clusters[i].Prune.Schedule)
}

func (c *Config) checkVerify(ps *Problems, i int) {
	v, at := c.Clusters[i].Verify, index("clusters", i)+".verify"
	c.checkSchedule(ps, i, "verify.schedule", v.Schedule)
	deep, ok := c.checkSchedule(ps, i, "verify.deep", v.Deep)
	if ok && !deep.IsNever() && c.Encryption.IdentityFile == "" && !c.Encryption.None {
		ps.add(c.origin(at+".deep"), "%s.deep: needs encryption.identity_file: a backup that cannot be decrypted cannot be restored", at)
	}
}

// checkDaemon finds what only the daemon cannot do without.
func (c *Config) checkDaemon() Problems {
	var ps Problems
	if c.Store == "" {
		ps.add(c.origin("store"), "store is missing: s3://bucket/prefix or file:///absolute/path")
	}
	work, writes := false, false
	for i, cl := range c.Clusters {
		if cl.ambiguous != nil {
			ps.add(c.origin(index("clusters", i)), "cluster %q: %v: name its etcd's endpoints, or call the cluster as the etcd is called", cl.Name, cl.ambiguous)
		}
		writes = writes || cl.Snapshot.Schedule != schedule.Never || cl.Snapshot.Compact != schedule.Never
		work = work || cl.Prune.Schedule != schedule.Never || cl.Verify.Schedule != schedule.Never || cl.Verify.Deep != schedule.Never
	}
	if !work && !writes {
		ps.add(c.origin("clusters"), "clusters: every schedule is never: there is nothing to do")
	}
	if e := c.Encryption; writes && !e.None && len(e.Recipients) == 0 && e.RecipientsFile == "" {
		ps.add(c.origin("encryption"), "encryption is undecided: give recipients (age1...), or none: true")
	}
	return ps
}
