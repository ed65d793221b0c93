package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"etcd-steward/integration/lab"
	"etcd-steward/integration/machines"
	"etcd-steward/internal/fail"
)

// TestDoctorReadsTheJournal: on a machine whose etcd cannot read its data any more, `steward doctor -u etcd` says so out of systemd's journal, as root and
// with the unit's own crash loop in it; once etcd serves again, it says that this is over.
func TestDoctorReadsTheJournal(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a machine")
	}
	net := machines.Start(t, machines.Options{})
	etcd := machines.Etcd(t, net, machines.EtcdOptions{Settings: map[string]string{"log-level": "info"}})
	m := etcd.Members[0]
	m.Install(t, machines.Program(t, "cmd/steward"), "/usr/local/bin/steward")
	owner := strings.TrimSpace(m.Must(t, "stat", "-c", "%u:%g", m.DataDir))
	m.Script(t, "systemctl stop etcd; chown -R 0:0 "+m.DataDir+"; systemctl start --no-block etcd")
	lab.Eventually(t, 30*time.Second, "the doctor sees it", func() error {
		r := m.Run(t.Context(), "steward", "doctor", "-u", "etcd")
		if r.Code != int(fail.Wanting) || !strings.HasPrefix(r.Stdout, "data-dir-access: ") || !strings.Contains(r.Stdout, "(fatal)") {
			return fmt.Errorf("%+v", r)
		}
		return nil
	})
	m.Script(t, "systemctl stop etcd; chown -R "+owner+" "+m.DataDir+"; systemctl reset-failed etcd; systemctl start etcd")
	lab.Eventually(t, 30*time.Second, "the doctor sees that it is over", func() error {
		r := m.Run(t.Context(), "steward", "doctor", "-u", "etcd")
		if !strings.Contains(r.Stdout, "data-dir-access: etcd may not read or write its files (fatal, over since: etcd went on)") {
			return fmt.Errorf("%+v", r)
		}
		return nil
	})
	if r := m.Run(t.Context(), "steward", "doctor", "-u", "nosuch"); r.Code != int(fail.Failed) || !strings.Contains(r.Stderr, "the journal holds nothing of unit nosuch") {
		t.Errorf("%+v", r)
	}
}
