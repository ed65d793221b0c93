package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"etcd-steward/backup/repo"
)

// commands are what the scripts can do beside testscript's own.
var commands = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	"exits":     cmdExits,
	"field":     cmdField,
	"equal":     cmdEqual,
	"object":    cmdObject,
	"flip":      cmdFlip,
	"cut":       cmdCut,
	"absent":    cmdAbsent,
	"only":      cmdOnly,
	"reseal":    cmdReseal,
	"aged":      cmdAged,
	"tmpfs":     cmdTmpfs,
	"blackhole": cmdBlackhole,
	"stuckput":  cmdStuckPut,
	"interrupt": cmdInterrupt,
	"ended":     cmdEnded,
	"record":    cmdRecord,
	"moment":    cmdMoment,
}

// exits CODE PROGRAM [ARGS...]: the program ends with this exit code.
func cmdExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM [ARGS...]")
	}
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		code = exit.ExitCode()
	case err != nil:
		ts.Fatalf("%v", err)
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("exit code %d, want %s", code, args[0])
	}
}

// field VARIABLE PATH: from the JSON document on the last command's standard output, as in backups.0.id. It must be the only document.
func cmdField(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: field VARIABLE PATH")
	}
	dec := json.NewDecoder(strings.NewReader(ts.ReadFile("stdout")))
	dec.UseNumber()
	var v any
	ts.Check(dec.Decode(&v))
	if dec.More() {
		ts.Fatalf("standard output holds more than one JSON document")
	}
	for step := range strings.SplitSeq(args[1], ".") {
		switch x := v.(type) {
		case map[string]any:
			v = x[step]
		case []any:
			i, err := strconv.Atoi(step)
			ts.Check(err)
			if i >= len(x) {
				ts.Fatalf("%s: only %d elements", args[1], len(x))
			}
			v = x[i]
		default:
			ts.Fatalf("%s: nothing at %s", args[1], step)
		}
	}
	text, ok := v.(string)
	if !ok {
		b, err := json.Marshal(v)
		ts.Check(err)
		text = string(b)
	}
	ts.Setenv(args[0], text)
}

// equal A B: the two texts are the same.
func cmdEqual(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 || (args[0] == args[1]) == neg {
		ts.Fatalf("equal %q", args)
	}
}

// object VARIABLE GLOB: the only file that matches.
func cmdObject(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: object VARIABLE GLOB")
	}
	found, err := filepath.Glob(ts.MkAbs(args[1]))
	ts.Check(err)
	if len(found) != 1 {
		ts.Fatalf("%s matches %d files %v, want 1", args[1], len(found), found)
	}
	ts.Setenv(args[0], found[0])
}

// flip FILE: turns one bit in its middle.
func cmdFlip(ts *testscript.TestScript, _ bool, args []string) {
	path := ts.MkAbs(args[0])
	b, err := os.ReadFile(path)
	ts.Check(err)
	b[len(b)/2] ^= 0x10
	ts.Check(os.WriteFile(path, b, 0o600))
}

// cut FILE: takes its last 100 bytes away.
func cmdCut(ts *testscript.TestScript, _ bool, args []string) {
	path := ts.MkAbs(args[0])
	st, err := os.Stat(path)
	ts.Check(err)
	ts.Check(os.Truncate(path, max(0, st.Size()-100)))
}

// absent TEXT FOLDER...: no file below holds it. [!] some file does.
func cmdAbsent(ts *testscript.TestScript, neg bool, args []string) {
	for _, dir := range args[1:] {
		var with []string
		ts.Check(filepath.WalkDir(ts.MkAbs(dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			b, err := os.ReadFile(path)
			if bytes.Contains(b, []byte(args[0])) {
				with = append(with, path)
			}
			return err
		}))
		if (len(with) == 0) == neg {
			ts.Fatalf("%q in %s is in %v", args[0], dir, with)
		}
	}
}

// only FOLDER [NAME...]: these are all files and folders in it.
func cmdOnly(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: only FOLDER [NAME...]")
	}
	entries, err := os.ReadDir(ts.MkAbs(args[0]))
	ts.Check(err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	want := slices.Sorted(slices.Values(args[1:]))
	if !slices.Equal(names, want) {
		ts.Fatalf("%s holds %v, want %v", args[0], names, want)
	}
}

// reseal FILE KIND VERSION: gives a sealed document another format version, with a checksum that fits.
func cmdReseal(ts *testscript.TestScript, _ bool, args []string) {
	path := ts.MkAbs(args[0])
	doc, err := os.ReadFile(path)
	ts.Check(err)
	var fields map[string]json.RawMessage
	ts.Check(repo.Unseal(args[1], 1, doc, &fields))
	version, err := strconv.Atoi(args[2])
	ts.Check(err)
	doc, err = repo.Seal(args[1], version, fields)
	ts.Check(err)
	ts.Check(os.WriteFile(path, doc, 0o600))
}

// aged VARIABLE REPOSITORY ID AGE: makes another backup of the same data, as if it had been taken that long ago.
func cmdAged(ts *testscript.TestScript, _ bool, args []string) {
	age, err := time.ParseDuration(args[3])
	ts.Check(err)
	found, err := filepath.Glob(filepath.Join(args[1], "*", "snapshots", "*", "*"+args[2]+".json"))
	ts.Check(err)
	doc, err := os.ReadFile(found[0])
	ts.Check(err)
	m, err := repo.DecodeManifest(doc)
	ts.Check(err)
	data, err := os.ReadFile(filepath.Join(args[1], m.Object.Key))
	ts.Check(err)
	m.ID = repo.NewSnapshotID(time.Now().Add(-age))
	m.Object.Key = repo.DataKey(m.Timeline, m.Database.Revision, m.ID, m.Object.Encrypted())
	doc, err = repo.EncodeManifest(m)
	ts.Check(err)
	ts.Check(os.MkdirAll(filepath.Dir(filepath.Join(args[1], m.Object.Key)), 0o700))
	ts.Check(os.WriteFile(filepath.Join(args[1], m.Object.Key), data, 0o600))
	ts.Check(os.WriteFile(filepath.Join(args[1], repo.ManifestKey(m.Timeline, m.Database.Revision, m.ID)), doc, 0o600))
	ts.Setenv(args[0], string(m.ID))
}

// tmpfs FOLDER SIZE: a small disk of its own; only root can.
func cmdTmpfs(ts *testscript.TestScript, _ bool, args []string) {
	dir := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(dir, 0o700))
	ts.Check(unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+args[1]))
	ts.Defer(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
}
