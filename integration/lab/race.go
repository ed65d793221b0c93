//go:build race

package lab

// Racing is whether the race detector watches, which makes what computes take five times as long: volumes are smaller then, and `make test` runs those
// tests again without it.
const Racing = true
