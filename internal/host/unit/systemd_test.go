package unit

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"etcd-steward/integration/machines"
	"etcd-steward/internal/host/tree"
)

// dump writes what it is told to a file, as the kernel says it.
const dump = `#!/bin/sh
mkdir -p /out
tr '\0' '\1' < /proc/$$/cmdline > /out/$1.args
tr '\0' '\1' < /proc/$$/environ > /out/$1.env
`

// TestAgainstSystemd: random units, drop-ins and environment files are read here as the real systemd reads them. STEWARD_SEED repeats one run.
func TestAgainstSystemd(t *testing.T) {
	seed := time.Now().UnixNano()
	if s, err := strconv.ParseInt(os.Getenv("STEWARD_SEED"), 10, 64); err == nil {
		seed = s
	}
	t.Logf("STEWARD_SEED=%d", seed)
	r := rand.New(rand.NewPCG(uint64(seed), 2))
	m := machines.Start(t, machines.Options{}).Machines[0]
	m.WriteFile(t, "/usr/bin/dump", dump, 0o755, "")
	const units = 120
	var names []string
	for i := range units {
		name := fmt.Sprintf("u%d", i)
		names = append(names, name)
		service := "[Unit]\n" + line(r) + "[Service]\nType=oneshot\n"
		for range r.IntN(3) {
			service += "Environment=" + join(r, assignment) + "\n"
		}
		if r.IntN(2) == 0 {
			service += "EnvironmentFile=-/etc/" + name + ".env\nEnvironmentFile=-/etc/none.env\n"
			m.WriteFile(t, "/etc/"+name+".env", envText(r), 0o600, "")
		}
		if r.IntN(3) == 0 {
			service += "UnsetEnvironment=A B\n"
		}
		service += "ExecStart=" + pick(r, "", "", "-", ":") + "/bin/sh /usr/bin/dump %N " + join(r, word) + "\n"
		m.WriteFile(t, "/etc/systemd/system/"+name+".service", service, 0o644, "")
		if r.IntN(3) == 0 {
			m.WriteFile(t, "/run/systemd/system/"+name+".service.d/a.conf", "[Service]\nEnvironment=\nEnvironment="+join(r, assignment)+"\n", 0o644, "")
		}
		if r.IntN(3) == 0 {
			m.WriteFile(t, "/etc/systemd/system/"+name+".service.d/b.conf", "[Service]\nExecStart=\nExecStart=/bin/sh /usr/bin/dump %N "+join(r, word)+"\n", 0o644, "")
		}
	}
	m.Script(t, "systemctl daemon-reload; systemctl start "+strings.Join(names, " ")+" || true")
	root := tree.Tree(fmt.Sprintf("/proc/%d/root", m.Leader()))
	ran := 0
	for _, name := range names {
		s, err := Load(root, name+".service")
		if err != nil {
			t.Fatal(err)
		}
		sp := NewSpecifiers(s.Name, "m1")
		env, _ := s.Environment(root, sp)
		cmd, cmdErr := s.Command(env, sp)
		args, err := root.Read("/out/" + name + ".args")
		if err != nil {
			if cmdErr == nil {
				t.Errorf("STEWARD_SEED=%d: systemd did not run what is read as %q from:\n%s", seed, cmd.Entry.Value, entries(s))
			}
			continue
		}
		ran++
		var got []string
		for _, a := range cmd.Args {
			got = append(got, a.Text)
		}
		if want := strings.Split(strings.TrimSuffix(string(args), "\x01"), "\x01"); cmdErr != nil || !slices.Equal(got, want) {
			t.Errorf("STEWARD_SEED=%d: %q, %v\n got %q\nwant %q\n%s", seed, cmd.Entry.Value, cmdErr, got, want, entries(s))
		}
		text, err := root.Read("/out/" + name + ".env")
		if err != nil {
			t.Fatal(err)
		}
		seen := map[string]string{}
		for v := range strings.SplitSeq(strings.TrimSuffix(string(text), "\x01"), "\x01") {
			if n, value, _ := strings.Cut(v, "="); len(n) == 1 {
				seen[n] = value
			}
		}
		for _, n := range []string{"A", "B", "C"} {
			if v, ok := env[n]; v.Value != seen[n] || ok != has(seen, n) {
				file, _ := root.Read("/etc/" + name + ".env")
				t.Errorf("STEWARD_SEED=%d: %s: got %q, want %q\n%s%q", seed, n, v.Value, seen[n], entries(s), file)
			}
		}
	}
	if ran < units/3 {
		t.Errorf("STEWARD_SEED=%d: systemd ran only %d of %d units", seed, ran, units)
	}
}

func has(m map[string]string, k string) bool { _, ok := m[k]; return ok }

func entries(s *Service) string {
	var b strings.Builder
	for _, e := range s.Entries {
		fmt.Fprintf(&b, "  %s: %s=%s\n", e.File, e.Name, e.Value)
	}
	return b.String()
}

func pick(r *rand.Rand, s ...string) string { return s[r.IntN(len(s))] }

var pieces = []string{
	"a", "b", "=", "-", "--x=", "\\\\", "\\s", "\\x41", "\\101", "\\n", "\\q", "'b c'", "\"b c\"", "\"it's\"", "'\"'", "$A", "${A}", "${B}", "$$", "$${C}", "$", "%%", "%N", "%H", "\\\n  ", "\\\n# no\n", "ü",
	"%i", ";", ",", "#", "{", "}",
}

func word(r *rand.Rand) string {
	if r.IntN(6) == 0 {
		return pick(r, "$A", "$B", "${C}", "$NONE", "\"$A\"", "''")
	}
	w := "w"
	for range r.IntN(5) {
		w += pick(r, pieces...)
	}
	if r.IntN(40) == 0 {
		w += `"`
	}
	return w
}

func assignment(r *rand.Rand) string {
	w := pick(r, "A", "B", "C", "9") + "="
	if r.IntN(3) == 0 {
		return `"` + w + pick(r, "x y", "", "50%%", "$A", "\\\"q\\\"") + `"`
	}
	for range r.IntN(4) {
		w += pick(r, pieces...)
	}
	return w
}

func join(r *rand.Rand, f func(*rand.Rand) string) string {
	var all []string
	for range 1 + r.IntN(4) {
		all = append(all, f(r))
	}
	return strings.Join(all, pick(r, " ", "  ", "\t"))
}

func line(r *rand.Rand) string {
	return pick(r, "", "Description=x\n", "# c \\\n", "nonsense\n", "Documentation=\\\n\n", "; c\n")
}

func envText(r *rand.Rand) string {
	var b strings.Builder
	for range r.IntN(8) {
		switch r.IntN(6) {
		case 0:
			b.WriteString(pick(r, "# A=c\n", "; x\n", "\n", "export A=1\n", "nonsense\n", "  \t\n"))
		default:
			b.WriteString(pick(r, "", "", " ") + pick(r, "A", "B", "C", "9", "A ") + "=")
			for range r.IntN(5) {
				b.WriteString(pick(r, "a", " ", "'b c'", "\"d $A\"", "\\\"", "\\\n", "\\ ", "#", ";", "$A", "\"\\$ \\q\"", "\t", "=", "'x\ny'", "ü"))
			}
			b.WriteString(pick(r, "\n", "\n", "\r\n"))
		}
	}
	return b.String()
}
