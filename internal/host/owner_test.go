package host

import (
	"strings"
	"testing"

	"etcd-steward/internal/fail"
)

// TestOwner: a distribution is recognised by what it alone has, and every operation is refused with its own command.
func TestOwner(t *testing.T) {
	unit := "[Service]\nExecStart=/usr/bin/etcd --name a\n"
	for name, c := range map[string]struct {
		files map[string]string
		want  string
	}{
		"nothing":                  {nil, ""},
		"k3s with its own etcd":    {map[string]string{"var/lib/rancher/k3s/server/db/etcd/config": ""}, "k3s"},
		"a k3s server":             {map[string]string{"etc/systemd/system/k3s.service": "[Service]\nExecStart=/usr/local/bin/k3s server\n"}, "k3s"},
		"k3s beside another etcd":  {map[string]string{"etc/systemd/system/k3s.service": "x", "etc/systemd/system/etcd.service": unit}, ""},
		"k3s's etcd beside one":    {map[string]string{"var/lib/rancher/k3s/server/db/etcd/config": "", "etc/systemd/system/etcd.service": unit}, "k3s"},
		"a k3s agent":              {map[string]string{"etc/systemd/system/k3s-agent.service": "x", "var/lib/rancher/k3s/agent/x": ""}, ""},
		"RKE2 with its static pod": {map[string]string{"var/lib/rancher/rke2/server/tls/etcd/client.crt": "", "var/lib/rancher/rke2/agent/pod-manifests/etcd.yaml": "metadata: {name: etcd}\nspec: {containers: [{command: [etcd]}]}\n"}, "rke2"},
		"OpenShift":                {map[string]string{"etc/kubernetes/static-pod-resources/etcd-certs/x": ""}, "OpenShift"},
		"kOps":                     {map[string]string{"etc/kubernetes/manifests/etcd-manager-main.yaml": "{}"}, "kOps (etcd-manager)"},
		"kOps as it is installed":  {map[string]string{"etc/kubernetes/manifests/etcd-main.manifest": "metadata: {name: etcd-manager-main}\nspec: {containers: [{image: registry.k8s.io/etcdadm/etcd-manager-slim:v3.0.20250704, command: [/bin/sh, -c, exec /etcd-manager]}]}\n"}, "kOps (etcd-manager)"},
		"Talos":                    {map[string]string{"etc/os-release": "ID=talos\n"}, "Talos"},
		"not Talos":                {map[string]string{"etc/os-release": "ID=debian\nVARIANT_ID=talos\n"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			for path, text := range c.files {
				put(t, root, path, text)
			}
			m := Detect(root)
			got := ""
			if m.Owner != nil {
				got = m.Owner.Name
			}
			if got != c.want {
				t.Fatalf("owner: got %q, want %q", got, c.want)
			}
			for _, op := range Operations {
				err := m.Refuse(op)
				if (err != nil) != (c.want != "") {
					t.Errorf("%s: %v", op, err)
				}
				if err != nil && (fail.ExitCode(err) != fail.Unsafe || fail.HintOf(err) == "" || !strings.Contains(err.Error(), c.want)) {
					t.Errorf("%s: %v, hint %q", op, err, fail.HintOf(err))
				}
			}
			if c.want == "" {
				return
			}
			// Whatever would change something asks by itself.
			w := &Workload{Name: "etcd", Kind: Unit, Unit: "etcd.service"}
			ctl := &Control{Machine: m} // without Services: it must not come to them
			for what, err := range map[string]error{
				"start": ctl.Start(t.Context(), w), "stop": ctl.Stop(t.Context(), w), "restart": ctl.Restart(t.Context(), w), "hold": ctl.Hold(t.Context(), w),
				"release": ctl.Release(t.Context(), w), "enable": ctl.Enable(t.Context(), w, true),
			} {
				if fail.ExitCode(err) != fail.Unsafe {
					t.Errorf("%s: got %v", what, err)
				}
			}
		})
	}
}
