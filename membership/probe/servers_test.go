package probe

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"etcd-steward/integration/lab"
	"etcd-steward/internal/host"
)

// TestServerFiles: the peers' certificate of this machine's etcd is found when it is a member of the cluster that was seen, and only then.
func TestServerFiles(t *testing.T) {
	root := t.TempDir()
	ca := lab.NewCA(t)
	soon := time.Now().Add(12 * time.Hour)
	peer, err := os.ReadFile(ca.Issue(t, "peer", soon).Cert)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{
		"etc/systemd/system/etcd.service": []byte("[Service]\nExecStart=/usr/bin/etcd --name=m1 --initial-advertise-peer-urls=https://10.0.0.1:2380 --peer-cert-file=/pki/peer.pem --cert-file=/pki/gone.pem\n"),
		"pki/peer.pem":                    peer,
	} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m := host.Detect(root)
	for url, want := range map[string]int{"https://10.0.0.1:2380": 1, "https://10.0.0.2:2380": 0} {
		v := &View{Answers: []Answer{{ClusterID: 7, MemberID: 1, Members: []Member{{ID: 1, Name: "m1", PeerURLs: []string{url}}}}}}
		got := v.ServerFiles(m)
		if len(got) != want {
			t.Fatalf("as a member at %s: got %+v, want %d", url, got, want)
		}
		if want > 0 && (got[0].Path != "/pki/peer.pem" || got[0].Certificates[0].NotAfter.Unix() != soon.Unix()) {
			t.Errorf("got %+v", got[0])
		}
	}
}
