package main

import (
	"math"
	"os"
	"runtime/debug"

	"etcd-steward/backup"
	"etcd-steward/restore"
)

// streamMemory is above what a stream of any length holds (80 MB, measured), so that the collector has little to do, and below what a master
// can spare beside etcd.
const streamMemory = 110 << 20

// boundMemory keeps garbage from adding to what a stream holds. The rooms below keep that flat; without a bound the heap may
// still double before it is collected.
func boundMemory() {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(streamMemory)
	}
}

// deepBoot is what `verify --deep` is given: backup may not depend on restore. A scratch etcd in this process takes what etcd takes, so the
// bound is lifted.
func deepBoot() backup.Boot {
	debug.SetMemoryLimit(math.MaxInt64)
	return restore.Boot
}
