package host

import (
	"fmt"
	"strings"
)

// toggles are etcd's flags that need no value: "--client-cert-auth" is "--client-cert-auth=true", and never takes the word behind it.
var toggles = map[string]bool{
	"auto-tls": true, "client-cert-auth": true, "discovery-insecure-skip-tls-verify": true, "discovery-insecure-transport": true,
	"enable-distributed-tracing": true, "enable-grpc-gateway": true, "enable-log-rotation": true, "enable-pprof": true, "force-new-cluster": true,
	"initial-election-tick-advance": true, "memory-mlock": true, "peer-auto-tls": true, "peer-client-cert-auth": true, "peer-skip-client-san-verification": true,
	"pre-vote": true, "socket-reuse-address": true, "socket-reuse-port": true, "strict-reconfig-check": true, "unsafe-no-fsync": true, "version": true,
	// Of 3.5 and 3.6.
	"debug": true, "enable-v2": true, "experimental-compact-hash-check-enabled": true, "experimental-enable-distributed-tracing": true,
	"experimental-enable-lease-checkpoint": true, "experimental-enable-lease-checkpoint-persist": true, "experimental-initial-corrupt-check": true,
	"experimental-memory-mlock": true, "experimental-stop-grpc-service-on-defrag": true, "experimental-txn-mode-write-with-shared-buffer": true,
	"experimental-enable-v2v3": false, "experimental-peer-skip-client-san-verification": true,
}

// numbers are etcd's flags that its YAML file wants without quotes.
var numbers = map[string]bool{
	"auth-token-ttl": true, "backend-batch-limit": true, "bcrypt-cost": true, "bootstrap-defrag-threshold-megabytes": true, "compaction-batch-limit": true,
	"distributed-tracing-sampling-rate": true, "election-timeout": true, "heartbeat-interval": true, "max-concurrent-streams": true, "max-learners": true,
	"max-request-bytes": true, "max-snapshots": true, "max-txn-ops": true, "max-wals": true, "quota-backend-bytes": true, "self-signed-cert-validity": true,
	"snapshot-catchup-entries": true, "snapshot-count": true,
}

// defaults are etcd's own values for settings that somebody asks for here.
var defaults = map[string]string{
	"name": "default", "listen-peer-urls": "http://localhost:2380", "listen-client-urls": "http://localhost:2379", "initial-cluster-state": "new",
	"initial-cluster-token": "etcd-cluster", "initial-advertise-peer-urls": "http://localhost:2380", "advertise-client-urls": "http://localhost:2379",
	"client-cert-auth": "false", "peer-client-cert-auth": "false", "strict-reconfig-check": "true", "quota-backend-bytes": "0",
}

// variable is the environment variable that etcd reads for a flag.
func variable(flag string) string {
	return "ETCD_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// flagOf is the flag that a variable stands for, or "".
func flagOf(name string) string {
	rest, ok := strings.CutPrefix(name, "ETCD_")
	if !ok || rest == "" || name == "ETCD_UNSUPPORTED_ARCH" {
		return ""
	}
	return strings.ToLower(strings.ReplaceAll(rest, "_", "-"))
}

// parseFlags reads flags as Go's flag package does: up to the first word that is none. toggle says which take no value from the next word.
func parseFlags(args []argument, toggle func(name, next string) bool) Settings {
	flags, _ := flagsAndRest(args, toggle)
	return flags
}

func flagsAndRest(args []argument, toggle func(name, next string) bool) (flags Settings, rest []argument) {
	flags = Settings{}
	for i := 0; i < len(args); i++ {
		text := args[i].text
		name := strings.TrimPrefix(strings.TrimPrefix(text, "-"), "-")
		if text == name || name == "" || name[0] == '-' || name[0] == '=' {
			return flags, args[i:]
		}
		s := Setting{Source: args[i].source, place: args[i].place}
		s.place.index = i
		name, value, found := strings.Cut(name, "=")
		next := ""
		if i+1 < len(args) {
			next = args[i+1].text
		}
		switch {
		case found:
			s.Value = value
		case toggle(name, next):
			s.Value = "true"
		case i+1 < len(args):
			i++
			s.Value = next
			s.place.next, s.place.nextWord = i, args[i].place.word
			switch kind := args[i].place.kind; {
			case kind == inEnvFile || kind == inPlainFile || kind == inUnit:
				s.place, s.Source = args[i].place, args[i].source
			case kind != s.place.kind || s.place.part != nil:
				s.place.part, s.place.kind = nil, inVariable // one half here and one there
			}
		}
		_, again := flags[name]
		s.place.repeated = again
		flags[name] = s
	}
	return flags, nil
}

// settle is what etcd makes of what it is given: a config file alone, else a flag, else a variable that is not empty. The names of config's file are as
// the process sees them.
func settle(g given, config func(path string) (Settings, error)) (settings, ignored Settings, err error) {
	// A flag of a newer etcd that is not known here takes no other flag for its value either.
	flags, rest := flagsAndRest(g.args, func(name, next string) bool { return toggles[name] || strings.HasPrefix(next, "--") })
	if len(rest) > 0 {
		return flags, nil, fmt.Errorf("etcd takes no argument %q", rest[0].text)
	}
	all := Settings{}
	for name, s := range g.env {
		if flag := flagOf(name); flag != "" && s.Value != "" {
			all[flag] = s
		}
	}
	for name, s := range flags {
		all[name] = s
	}
	c, ok := all["config-file"]
	if !ok || c.Value == "" {
		return all, nil, nil
	}
	delete(all, "config-file")
	settings, err = config(c.Value)
	return settings, all, err
}
