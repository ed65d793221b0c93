package main

import (
	"strings"
	"testing"

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
