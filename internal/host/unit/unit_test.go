package unit

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	systemd "github.com/coreos/go-systemd/v22/unit"
	"github.com/google/go-cmp/cmp"

	"etcd-steward/internal/host/tree"
)

func TestParse(t *testing.T) {
	text := "\ufeff; comment\n[Unit]\nDescription = spaces  \nno assignment\n=no name\nlost=\n[Service]\n ExecStart=/bin/a \\\n# not this\n ; nor this\n\t--b \\\r\n --c\\\\\nA=1\\\n\\\n2\n[bad\nB=x=y\n[Install]\nEnd=\\"
	want := []Entry{
		{"Unit", "Description", "spaces", "", 3},
		{"Unit", "lost", "", "", 6},
		{"Service", "ExecStart", `/bin/a  --b  --c\\`, "", 8},
		{"Service", "A", "1  2", "", 13},
		{"Service", "B", "x=y", "", 17},
		{"Install", "End", "", "", 19},
	}
	if diff := cmp.Diff(want, Parse([]byte(text))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := Parse([]byte("outside=1\n")); got != nil {
		t.Errorf("outside of a section: %v", got)
	}
}

// TestParseAgrees: on what go-systemd's parser accepts and where nothing is continued, both read the same.
func TestParseAgrees(t *testing.T) {
	text := "[Unit]\nDescription=a b\n#x\nAfter=network.target\n\n[Service]\nExecStart=/bin/a 'b c' --d=\"e\"\nExecStart=\nEnvironment=A=b\n[Install]\nWantedBy=multi-user.target\n"
	theirs, err := systemd.DeserializeOptions(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	ours := Parse([]byte(text))
	if len(ours) != len(theirs) || len(ours) == 0 {
		t.Fatalf("%d entries, %d of theirs", len(ours), len(theirs))
	}
	for i, o := range theirs {
		if e := ours[i]; e.Section != o.Section || e.Name != o.Name || e.Value != o.Value {
			t.Errorf("got %+v, want %+v", e, o)
		}
	}
}

func TestLists(t *testing.T) {
	entries := Parse([]byte("[Service]\nE=1\nE=2\nE=\nE=3\n[Unit]\nE=4\n[Service]\nE=5\nU=a\nU=b\n"))
	var got []string
	for _, e := range List(entries, "Service", "E") {
		got = append(got, e.Value)
	}
	if !slices.Equal(got, []string{"3", "5"}) || Last(entries, "Service", "U") != "b" {
		t.Errorf("got %v and %s", got, Last(entries, "Service", "U"))
	}
}

func texts(words []Word) []string {
	var all []string
	for _, w := range words {
		all = append(all, w.Text)
	}
	return all
}

func TestWords(t *testing.T) {
	for in, want := range map[string][]string{
		`a  b`:                  {"a", "b"},
		`"a b" 'c "d"' e"f g"h`: {"a b", `c "d"`, "ef gh"},
		`"" ''`:                 {"", ""},
		`a\ b \x41\101\u00e9`:   {`a\`, "b", "AAé"},
		`\s\t\\ "\"" '\''`:      {" \t\\", `"`, `'`},
		`\q \x4 \x00 \`:         {`\q`, `\x4`, `\x00`, `\`},
		"":                      nil,
	} {
		words, err := Words(in)
		if diff := cmp.Diff(want, texts(words)); diff != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", in, err, diff)
		}
		for _, w := range words {
			if again, err := Words(in[w.Start:w.End]); err != nil || len(again) != 1 || again[0].Text != w.Text {
				t.Errorf("%s: [%d:%d] is not the word %q", in, w.Start, w.End, w.Text)
			}
		}
	}
	for _, bad := range []string{`"a`, `'`, `a "b`} {
		if _, err := Words(bad); err == nil {
			t.Errorf("%s is accepted", bad)
		}
	}
}

func TestArguments(t *testing.T) {
	env := map[string]string{"ONE": "1", "MANY": "a 'b c'", "EMPTY": ""}
	for in, want := range map[string][]string{
		`$MANY x$ONE ${MANY} p${ONE}q`: {"a", "b c", "x$ONE", "a 'b c'", "p1q"},
		`$EMPTY ${EMPTY} $NONE`:        {""},
		`$$ONE $${ONE} $ a$$b ${ONE`:   {"$ONE", "${ONE}", "a$b", "${ONE"},
		`%n %N %p %% 5%`:               {"etcd@a.service", "etcd@a", "etcd", "%", "5%"},
		`%i %I %H %l`:                  {"a", "a", "m1.example", "m1"},
	} {
		words, err := Words(in)
		if err != nil {
			t.Fatal(err)
		}
		args, err := Arguments(words, env, NewSpecifiers("etcd@a.service", "m1.example"), true)
		var got []string
		for _, a := range args {
			got = append(got, a.Text)
		}
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", in, err, diff)
		}
	}
	words, _ := Words("$ONE %B")
	if _, err := Arguments(words, env, NewSpecifiers("a.service", ""), true); err == nil {
		t.Error("a specifier that is not known here was passed over")
	}
}

func TestEnvFile(t *testing.T) {
	text := "# c\n; d\nA=1\n B = two words  \nC=\"quo\\\"ted $HOME \\n\" # no comment\nD='single \\' more\nE=con\\\ntinued\nF=\nexport G=1\n9=x\nH=a#b;c\nA=last\nI=\"over\nlines\"\nJ=\\$x\\ \n"
	want := []string{
		"A=1", "B=two words", "C=quo\"ted $HOME \\n# no comment", `D=single \more`, "E=continued", "F=", "H=a#b;c", "A=last", "I=over\nlines", "J=$x ",
	}
	var got []string
	for _, a := range EnvFile([]byte(text)) {
		got = append(got, a.Name+"="+a.Value)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	got = nil
	for _, a := range PlainEnvFile([]byte("#A=1\n B=\"x y\" \nexport C=1\nD=a=b\n")) {
		got = append(got, a.Name+"="+a.Value)
	}
	if want := []string{`B="x y" `, "D=a=b"}; !slices.Equal(got, want) {
		t.Errorf("a container's: got %q, want %q", got, want)
	}
}

func TestLoad(t *testing.T) {
	root := t.TempDir()
	for name, text := range map[string]string{
		"usr/lib/systemd/system/a-b.service":                     "[Service]\nExecStart=/lib\n",
		"etc/systemd/system/a-b.service.d/20.conf":               "[Service]\nX=20\n",
		"usr/lib/systemd/system/a-b.service.d/20.conf":           "[Service]\nX=weaker\n",
		"run/systemd/system/a-b.service.d/10.conf":               "[Service]\nX=10\n",
		"etc/systemd/system/a-.service.d/30.conf":                "[Service]\nX=30\n",
		"etc/systemd/system/service.d/05.conf":                   "[Service]\nX=5\n",
		"etc/systemd/system/a-b.service.d/40.conf.steward-x":     "[Service]\nX=kept\n",
		"usr/lib/systemd/system/a-b.service.d/50.conf":           "[Service]\nX=masked\n",
		"etc/systemd/system/a-b.service.d/50.conf":               "",
		"etc/systemd/system/empty.service":                       "",
		"lib/systemd/system/empty.service":                       "[Service]\nExecStart=/x\n",
		"lib/systemd/system/t@.service":                          "[Service]\nExecStart=/t\n",
		"etc/systemd/system/multi-user.target.wants/t@1.service": "",
	} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tr := tree.Tree(root)
	s, err := Load(tr, "a-b.service")
	var got []string
	for _, e := range s.Entries {
		got = append(got, e.Value)
	}
	if want := []string{"/lib", "5", "10", "20", "30"}; err != nil || !slices.Equal(got, want) || s.Masked {
		t.Errorf("got %v, %v, masked %v, want %v", got, err, s.Masked, want)
	}
	if s, err := Load(tr, "empty.service"); err != nil || !s.Masked || s.Path != "/lib/systemd/system/empty.service" {
		t.Errorf("masked by an empty file: %+v, %v", s, err)
	}
	if s, err := Load(tr, "t@1.service"); err != nil || s.Path != "/lib/systemd/system/t@.service" {
		t.Errorf("an instance: %+v, %v", s, err)
	}
	if _, err := Load(tr, "none.service"); !tree.Missing(err) {
		t.Errorf("none: %v", err)
	}
	if want := []string{"a-b.service", "empty.service", "t@1.service"}; !slices.Equal(Services(tr), want) {
		t.Errorf("services: got %v, want %v", Services(tr), want)
	}
}

// FuzzUnit: whatever stands in a unit, every word is where it is said to be, and a word that is quoted is read back.
func FuzzUnit(f *testing.F) {
	f.Add("[Service]\nExecStart=/bin/a \\\n 'b c' $D ${E} %n\nEnvironment=\"A=b c\" B=\\x41\n")
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > MaxFile {
			return
		}
		sp := NewSpecifiers("a.service", "h")
		for _, e := range Parse([]byte(text)) {
			if e.Line < 1 || e.Section == "" && e.Name == "" {
				t.Fatalf("entry %+v", e)
			}
			words, err := Words(e.Value)
			if err != nil {
				continue
			}
			for _, w := range words {
				if w.Start >= w.End || w.End > len(e.Value) {
					t.Fatalf("%q: word %+v", e.Value, w)
				}
				for _, command := range []bool{true, false} {
					again, err := Words(Quote(w.Text, command))
					if strings.ContainsRune(w.Text, 0) {
						continue
					}
					if err != nil || len(again) != 1 {
						t.Fatalf("%q quoted is %q: %v", w.Text, Quote(w.Text, command), err)
					}
					back, err := sp.Expand(again[0].Text)
					if command {
						back, _ = braces(back, nil)
					}
					if err != nil || back != w.Text {
						t.Fatalf("%q quoted is read back as %q, %v", w.Text, back, err)
					}
				}
			}
			_, _ = Arguments(words, map[string]string{"D": "x y"}, sp, true)
		}
	})
}

// FuzzEnvFile: every assignment is where it is said to be, and what is written is read back.
func FuzzEnvFile(f *testing.F) {
	f.Add("A=1\n#b\nC=\"x\\\"y\" 'z'\nD=a\\\nb\n", "va lue\"$`")
	f.Add("A=\"", "")
	f.Fuzz(func(t *testing.T, text, value string) {
		if len(text) > MaxFile {
			return
		}
		for _, parse := range []func([]byte) []Assignment{EnvFile, PlainEnvFile} {
			end := 0
			for _, a := range parse([]byte(text)) {
				if a.Start < end || a.End > len(text) || !strings.HasPrefix(text[a.Start:a.End], a.Name) {
					t.Fatalf("%q: %+v", text, a)
				}
				end = a.End
			}
		}
		if strings.ContainsAny(value, "\r\x00") || strings.ContainsRune(value, '\n') {
			return
		}
		line, both := EnvLine("A", value)
		if got := EnvFile([]byte(line + "\n")); len(got) != 1 || got[0].Value != value {
			t.Fatalf("%q is written as %s and read as %+v", value, line, got)
		}
		if got := PlainEnvFile([]byte(line + "\n")); both && (len(got) != 1 || got[0].Value != value) {
			t.Fatalf("%q is written as %s and read as %+v by a container runtime", value, line, got)
		}
	})
}
