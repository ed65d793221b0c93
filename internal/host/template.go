package host

import (
	"errors"
	"net"
	"net/url"
	"path"
	"slices"
	"strings"
	"unicode"
)

// Template is how an etcd of another machine is set up, as far as a new member should be set up alike: neither names nor addresses nor secrets, but limits, the files'
// places, and what a static pod runs. It travels with a plan, so whoever writes where plans lie could write it: nothing but what shared names is taken from it.
type Template struct {
	Kind Kind `json:"kind"`
	// Host and Member are that machine's and that member's names: names of files hold them.
	Host   string `json:"host,omitempty"`
	Member string `json:"member,omitempty"`
	// Image is what a static pod runs.
	Image string `json:"image,omitempty"`
	// Settings are by the names of flags; paths are those of the machine, not of a container.
	Settings map[string]string `json:"settings,omitempty"`
}

// Bounds of a template.
const (
	maxShared = 128
	maxValue  = 1 << 10
)

// shared are the flags that members of one cluster have in common.
var shared = map[string]bool{
	"auth-token": true, "auth-token-ttl": true, "auto-compaction-mode": true, "auto-compaction-retention": true, "auto-tls": true, "backend-batch-interval": true,
	"backend-batch-limit": true, "backend-bbolt-freelist-type": true, "bcrypt-cost": true, "bootstrap-defrag-threshold-megabytes": true, "cipher-suites": true,
	"client-cert-auth": true, "client-cert-allowed-hostname": true, "compact-hash-check-enabled": true, "compact-hash-check-time": true, "compaction-batch-limit": true,
	"compaction-sleep-interval": true, "corrupt-check-time": true, "cors": true, "downgrade-check-time": true, "election-timeout": true, "enable-grpc-gateway": true,
	"enable-pprof": true, "enable-v2": true, "feature-gates": true, "grpc-keepalive-interval": true, "grpc-keepalive-min-time": true, "grpc-keepalive-timeout": true,
	"heartbeat-interval": true, "host-whitelist": true, "initial-cluster-token": true, "initial-election-tick-advance": true, "log-format": true, "log-level": true,
	"logger": true, "max-concurrent-streams": true, "max-learners": true, "max-request-bytes": true, "max-snapshots": true, "max-txn-ops": true, "max-wals": true,
	"memory-mlock": true, "metrics": true, "peer-auto-tls": true, "peer-cert-allowed-cn": true, "peer-cert-allowed-hostname": true, "peer-client-cert-auth": true,
	"peer-skip-client-san-verification": true, "pre-vote": true, "quota-backend-bytes": true, "snapshot-catchup-entries": true, "snapshot-count": true,
	"strict-reconfig-check": true, "tls-max-version": true, "tls-min-version": true, "warning-apply-duration": true, "warning-unary-request-duration": true,
	"watch-progress-notify-interval": true,
}

// Flags of which a template holds the value, and a new member gets one of its own.
var (
	listenFlags = []string{"listen-peer-urls", "listen-client-urls", "listen-metrics-urls"}
	folderFlags = []string{"data-dir", "wal-dir"}
	pkiFlags    = []string{"trusted-ca-file", "cert-file", "key-file", "peer-trusted-ca-file", "peer-cert-file", "peer-key-file"}
)

func isShared(flag string) bool {
	if rest, ok := strings.CutPrefix(flag, "experimental-"); ok {
		return shared[rest] || rest == "initial-corrupt-check" || rest == "enable-lease-checkpoint" || rest == "enable-lease-checkpoint-persist"
	}
	return shared[flag]
}

// Template is what a new member of the same cluster should have in common with this machine's.
func (m *Machine) Template(e *Etcd) *Template {
	t := &Template{
		Kind: e.Kind, Host: (&finder{Tree: m.tree(), m: m}).hostName(), Member: e.Value("name"), Settings: map[string]string{},
	}
	if e.Kind == StaticPod && checkImage(e.Image) == nil {
		t.Image = e.Image
	}
	for flag, s := range e.Settings {
		value := s.Value
		if slices.Contains(folderFlags, flag) || slices.Contains(pkiFlags, flag) {
			outside, err := e.HostPath(value)
			if err != nil {
				continue
			}
			value = outside
		} else if !isShared(flag) && !slices.Contains(listenFlags, flag) {
			continue
		}
		if value != "" && len(value) <= maxValue && len(t.Settings) < maxShared {
			t.Settings[flag] = value
		}
	}
	return t
}

// value is a template's, of which there may be none.
func (t *Template) value(flag string) string {
	if t == nil || len(t.Settings) > maxShared || len(t.Settings[flag]) > maxValue {
		return ""
	}
	return t.Settings[flag]
}

// Listen is where a new member with that address listens, when it does so as the template's: at all addresses or loopback as that one, and at its own address instead of that one's.
func (t *Template) Listen(flag, address string) []string {
	var all []string
	for _, raw := range splitList(t.value(flag)) {
		u, err := url.Parse(raw)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Port() == "" {
			return nil
		}
		ip := net.ParseIP(u.Hostname())
		if u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback() && !ip.IsUnspecified()) {
			u.Host = net.JoinHostPort(address, u.Port())
		}
		if own := u.Scheme + "://" + u.Host; !slices.Contains(all, own) {
			all = append(all, own)
		}
	}
	return all
}

// rename puts the names of this machine and its member where a path has those of the template's.
func (t *Template) rename(file, host, member string) string {
	dir, base := path.Split(file)
	for _, names := range [][2]string{{t.Host, host}, {t.Member, member}} {
		if names[0] == "" || names[1] == "" || names[0] == "etcd" || names[0] == "default" {
			continue
		}
		if now := replaceWord(base, names[0], names[1]); now != base {
			return dir + now
		}
	}
	return file
}

// replaceWord replaces a word that stands between other characters than letters and digits.
func replaceWord(text, word, by string) string {
	part := func(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }
	for from := 0; from < len(text); {
		i := strings.Index(text[from:], word)
		if i < 0 {
			return text
		}
		i += from
		before, after := text[:i], text[i+len(word):]
		if (before == "" || !part(rune(before[len(before)-1]))) && (after == "" || !part(rune(after[0]))) {
			return before + by + after
		}
		from = i + 1
	}
	return text
}

// checkImage wants the reference of an image, and nothing that means something else to whoever reads the manifest.
func checkImage(image string) error {
	if image == "" || len(image) > 512 || strings.Trim(image, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789./:@_-") != "" || strings.HasPrefix(image, "-") {
		return errors.New("it is no reference of an image")
	}
	return nil
}
