package changes

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"

	"etcd-steward/integration/lab"
)

// TestByHand runs the commands with which docs/FORMAT.md opens a segment, word for word, and has them notice damage.
func TestByHand(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(lab.Root(), "docs", "FORMAT.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, script, ok := strings.Cut(string(page), "```sh run=segment\n")
	script, _, ok2 := strings.Cut(script, "```")
	if !ok || !ok2 {
		t.Fatal("docs/FORMAT.md has no commands for a segment")
	}
	for _, name := range []string{"bash", "zstd", "sha256sum"} {
		if _, err := exec.LookPath(name); err != nil {
			if os.Getenv("CI") != "" {
				t.Fatal(err)
			}
			t.Skip(err)
		}
	}
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	s := randomSample(newRand(t), 50)
	run := func(name string, sealed []byte) (string, error) {
		dir := t.TempDir()
		for file, b := range map[string][]byte{name: sealed, "identity": []byte(id.String() + "\n")} {
			if err := os.WriteFile(filepath.Join(dir, file), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.Command("bash", "-euo", "pipefail", "-c", script)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "SEGMENT="+name, "IDENTITY=identity", "PATH="+filepath.Dir(lab.Tool(t, "age"))+":"+os.Getenv("PATH"))
		out, err := cmd.CombinedOutput()
		if err != nil {
			return string(out), err
		}
		content, err := os.ReadFile(filepath.Join(dir, "content"))
		if err != nil {
			t.Fatal(err)
		}
		got, err := decodeAll(strings.NewReader(string(content)))
		if err != nil {
			t.Fatal(err)
		}
		same(t, got, s)
		return string(out), nil
	}
	for name, sealed := range map[string][]byte{"s.chg.zst": s.sealed(t), "s.chg.zst.age": s.sealed(t, id.Recipient())} {
		out, err := run(name, sealed)
		if err != nil || !strings.Contains(out, s.header.Timeline.String()) {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
		sealed[len(sealed)/2] ^= 1
		if out, err := run(name, sealed); err == nil {
			t.Fatalf("%s: damage was not noticed\n%s", name, out)
		}
	}
}
