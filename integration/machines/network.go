package machines

import (
	"fmt"
	"net"
	"os/exec"
	"strings"

	"etcd-steward/integration/lab"
)

// Cut pulls the machine's cable: nobody reaches it and it reaches nobody, but for itself.
func (m *Machine) Cut(t lab.T) {
	t.Helper()
	if err := ip("link set " + m.link() + " down\n"); err != nil {
		t.Fatalf("cut %s off: %v", m.Name, err)
	}
}

// Heal plugs it in again, and takes all black holes away.
func (m *Machine) Heal(t lab.T) {
	t.Helper()
	if err := ip("link set " + m.link() + " up\n"); err != nil {
		t.Fatalf("heal %s: %v", m.Name, err)
	}
	m.nft(t, "add table inet steward_lab\ndelete table inet steward_lab\n")
}

// Blackhole makes the machine drop, without an answer, all packets to and from each target until Heal: an address ("10.213.1.12"), a port of its own or of others
// (":2380"), or both ("10.213.1.12:2380", "[fd5e::12]:2380"). Rules add up.
func (m *Machine) Blackhole(t lab.T, targets ...string) {
	t.Helper()
	rules := "add table inet steward_lab\n"
	for chain, hook := range map[string]string{"in": "input", "out": "output"} {
		rules += fmt.Sprintf("add chain inet steward_lab %s { type filter hook %s priority 0; }\n", chain, hook)
	}
	for _, target := range targets {
		host, port, err := net.SplitHostPort(target)
		if err != nil {
			host, port = strings.Trim(target, "[]"), ""
		}
		family := "ip"
		if strings.Contains(host, ":") {
			family = "ip6"
		}
		in, out := "", ""
		if host != "" {
			in, out = family+" saddr "+host+" ", family+" daddr "+host+" "
		}
		ends := []string{""}
		if port != "" {
			ends = []string{"tcp dport " + port + " ", "tcp sport " + port + " "}
		}
		for _, end := range ends {
			rules += fmt.Sprintf("add rule inet steward_lab in iifname != lo %s%sdrop\nadd rule inet steward_lab out oifname != lo %s%sdrop\n", in, end, out, end)
		}
	}
	m.nft(t, rules)
}

func (m *Machine) nft(t lab.T, rules string) {
	t.Helper()
	cmd := exec.Command("ip", "netns", "exec", m.link(), "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(rules)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("set up packet filters of %s: %v\n%s", m.Name, err, out)
	}
}

// Get fetches a page as a client on the machine would, with the host's curl: for what listens on the machine's loopback.
func (m *Machine) Get(url string) (string, error) {
	out, err := exec.Command("ip", "netns", "exec", m.link(), "curl", "-sS", "--noproxy", "*", "--max-time", "5", url).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("get %s on %s: %w: %s", url, m.Name, err, out)
	}
	return string(out), nil
}
