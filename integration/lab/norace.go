//go:build !race

package lab

// Racing is whether the race detector watches: see race.go.
const Racing = false
