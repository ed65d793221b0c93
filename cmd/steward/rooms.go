package main

import (
	"path/filepath"

	"etcd-steward/internal/host"
	"etcd-steward/membership/maintain"
)

// roomsHere is the free space of those members whose data this host has. The data tell whose they are: a name may be another's by now. Who may not read
// them sees none.
func roomsHere() maintain.Rooms {
	rooms := maintain.Rooms{}
	m := host.Detect("/")
	for i := range m.Etcds {
		e := &m.Etcds[i]
		who, err := m.Whose(e)
		if err != nil {
			continue // it never started, or nobody here may read it
		}
		dir, err := e.DataDir()
		if err != nil {
			continue
		}
		if free, err := host.FreeBytes(m.Path(filepath.Join(dir, "member", "snap"))); err == nil {
			rooms[who.Member] = int64(min(free, 1<<62)) //nolint:gosec // bounded
		}
	}
	return rooms
}
