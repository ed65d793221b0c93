package membership

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"etcd-steward/internal/host"
)

// authority signs certificates for one address each.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "peers"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert, key}
}

func (a *authority) issue(t *testing.T, ip string, from, to time.Time, uses ...x509.ExtKeyUsage) tls.Certificate {
	t.Helper()
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "m"}, NotBefore: from, NotAfter: to, ExtKeyUsage: uses, IPAddresses: []net.IP{net.ParseIP(ip)}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: a.key}
}

// TestPeerCertificate: a peer is a server and a client, at its own address, now, and of the members' authority.
func TestPeerCertificate(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	pool := x509.NewCertPool()
	pool.AddCert(ours.cert)
	now := time.Now()
	early, late := now.Add(-time.Hour), now.Add(time.Hour)
	both := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	for name, tc := range map[string]struct {
		pair tls.Certificate
		want string
	}{
		"good":              {ours.issue(t, "10.0.0.4", early, late, both...), ""},
		"any use":           {ours.issue(t, "10.0.0.4", early, late), ""},
		"expired":           {ours.issue(t, "10.0.0.4", early, now.Add(-time.Minute), both...), "it expired at"},
		"not yet":           {ours.issue(t, "10.0.0.4", now.Add(time.Minute), late, both...), "valid only from"},
		"another address":   {ours.issue(t, "10.0.0.5", early, late, both...), "it is not for 10.0.0.4"},
		"a server's":        {ours.issue(t, "10.0.0.4", early, late, both[0]), "not for a client's use"},
		"a client's":        {ours.issue(t, "10.0.0.4", early, late, both[1]), "not for a server's use"},
		"another authority": {theirs.issue(t, "10.0.0.4", early, late, both...), "unknown authority"},
	} {
		err := fit(tc.pair, pool, "https://10.0.0.4:2380", now)
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
}

// TestSettings: what a configuration must say to join, and what it keeps.
func TestSettings(t *testing.T) {
	b := Basis{Members: []Spec{{ID: 1, Name: "m1", PeerURLs: []string{"https://10.0.0.1:2380"}, ClientURLs: []string{"https://10.0.0.1:2379"}}}}
	n := Newcomer{Name: "m4", PeerURL: "https://10.0.0.4:2380"}
	added := Added{ID: 4, InitialCluster: "m1=https://10.0.0.1:2380,m4=https://10.0.0.4:2380"}
	fresh, err := settingsFor(n, added, b, nil)
	if err != nil {
		t.Fatal(err)
	}
	for flag, want := range map[string]string{
		"name": "m4", "initial-cluster": added.InitialCluster, "initial-cluster-state": "existing", "initial-advertise-peer-urls": n.PeerURL, "listen-peer-urls": n.PeerURL,
		"advertise-client-urls": "https://10.0.0.4:2379", "listen-client-urls": "https://10.0.0.4:2379,https://127.0.0.1:2379",
	} {
		if fresh[flag] != want {
			t.Errorf("%s is %q, want %q", flag, fresh[flag], want)
		}
	}
	e := &host.Etcd{Settings: host.Settings{
		"listen-peer-urls": {Value: "https://0.0.0.0:2380"}, "listen-client-urls": {Value: "https://0.0.0.0:4001"}, "advertise-client-urls": {Value: "https://10.0.0.4:4001"},
		"force-new-cluster": {Value: "true"},
	}}
	kept, err := settingsFor(n, added, b, e)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := kept["listen-peer-urls"]; ok || kept["advertise-client-urls"] != "https://10.0.0.4:4001" || kept["listen-client-urls"] != "" {
		t.Errorf("what served already was changed: %v", kept)
	}
	if v, ok := kept["force-new-cluster"]; !ok || v != "" {
		t.Errorf("force-new-cluster stays: %v", kept)
	}
	six, err := settingsFor(Newcomer{Name: "m6", PeerURL: "https://[fd00::6]:2380"}, added, b, nil)
	if err != nil || six["advertise-client-urls"] != "https://[fd00::6]:2379" || six["listen-peer-urls"] != "https://[fd00::6]:2380" {
		t.Errorf("IPv6: %v, %v", six, err)
	}
	members := []Spec{{ID: 1, Name: "m1", PeerURLs: []string{"u1", "u2"}}, {ID: 2, PeerURLs: []string{"u3"}}, {ID: 4, PeerURLs: []string{"u4"}}}
	if got, want := initialCluster(members, 4, "m4"), "m1=u1,m1=u2,unstarted-0000000000000002=u3,m4=u4"; got != want {
		t.Errorf("initial cluster %s, want %s", got, want)
	}
}

// TestRepointed: which members an API server asks when one goes.
func TestRepointed(t *testing.T) {
	old := Spec{ClientURLs: []string{"https://10.0.0.3:2379"}}
	others := []string{"https://10.0.0.1:2379", "https://10.0.0.2:2379"}
	for name, tc := range map[string]struct {
		urls, instead []string
		own           bool
		want          string
		changed       bool
	}{
		"it is one of three":                {append([]string{"https://10.0.0.3:2379"}, others...), others, false, strings.Join(others, ","), true},
		"it is not named":                   {others, others, false, strings.Join(others, ","), false},
		"it was the only one":               {[]string{"https://10.0.0.3:2379"}, others, false, strings.Join(others, ","), true},
		"loopback on its own machine":       {[]string{"https://127.0.0.1:2379"}, others, true, strings.Join(others, ","), true},
		"loopback elsewhere":                {[]string{"https://127.0.0.1:2379"}, others, false, "https://127.0.0.1:2379", false},
		"a successor":                       {[]string{"https://10.0.0.1:2379", "https://10.0.0.3:2379"}, []string{"https://10.0.0.9:2379"}, false, "https://10.0.0.1:2379,https://10.0.0.9:2379", true},
		"a successor at the same address":   {[]string{"https://10.0.0.3:2379"}, []string{"https://10.0.0.3:2379"}, false, "https://10.0.0.3:2379", false},
		"nobody to ask instead: left alone": {[]string{"https://10.0.0.3:2379"}, nil, false, "", false},
	} {
		got, changed := repointed(tc.urls, old, tc.own, tc.instead)
		if joined(got) != tc.want || changed != tc.changed {
			t.Errorf("%s: %v, %v, want %s, %v", name, got, changed, tc.want, tc.changed)
		}
	}
}
