package main

import (
	"bytes"
	"errors"
	"flag"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"etcd-steward/internal/config"
	"etcd-steward/internal/fail"
	"etcd-steward/membership/maintain"
)

// Members whose data differ are looked at before anything else, whatever other alarm is raised.
func TestAlarmHint(t *testing.T) {
	full, corrupt := maintain.Alarm{Kind: "NOSPACE"}, maintain.Alarm{Kind: "CORRUPT"}
	if h := alarmHint([]maintain.Alarm{corrupt, full}); !strings.HasPrefix(h, "steward health") {
		t.Error(h)
	}
	if h := alarmHint([]maintain.Alarm{full}); h != "steward nospace" {
		t.Error(h)
	}
}

// Two operators that defragment one cluster at once could stop two of its members at the same moment: the second is refused, on the same machine, too. A store
// that cannot be used keeps nobody from working.
func TestTwoDefragmentations(t *testing.T) {
	var said bytes.Buffer
	c := &call{Context: cli.NewContext(cli.NewApp(), flag.NewFlagSet("x", flag.ContinueOnError), nil), ctx: t.Context(), stderr: &said}
	t.Setenv("STEWARD_CLUSTER", "main")
	cfg := &config.Config{Store: "file://" + t.TempDir()}
	for range 2 { // the first has given it back
		first, second := false, errors.New("never asked")
		err := c.alone(cfg, func() error {
			first = true
			second = c.alone(cfg, func() error {
				t.Error("two at once")
				return nil
			})
			return nil
		})
		if err != nil || !first || fail.ExitCode(second) != fail.Unsafe || !strings.Contains(second.Error(), "process") {
			t.Fatalf("the first: %v, %v; the second: %v", first, err, second)
		}
	}
	if said.Len() > 0 {
		t.Error(said.String())
	}
	done := false
	if err := c.alone(&config.Config{Store: "file:///there/is/no/such/folder"}, func() error { done = true; return nil }); err != nil || !done {
		t.Errorf("without a store: %v, %v", done, err)
	}
	if !strings.Contains(said.String(), "warning: the store cannot be used") {
		t.Error(said.String())
	}
}
