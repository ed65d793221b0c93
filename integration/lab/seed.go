package lab

import (
	"hash/fnv"
	"math/rand/v2"
	"os"
	"strconv"
)

// Seed is what the random choices of a test come from: STEWARD_SEED; in CI, for which one history per test is enough, always the same; elsewhere a new one
// for each run. It is printed, so that a failure can be repeated as far as timing allows.
func Seed(t interface {
	T
	Name() string
},
) uint64 {
	t.Helper()
	seed, err := strconv.ParseUint(os.Getenv("STEWARD_SEED"), 10, 64)
	switch {
	case err == nil:
	case os.Getenv("CI") != "":
		h := fnv.New64a()
		_, _ = h.Write([]byte(t.Name()))
		seed = h.Sum64()
	default:
		seed = rand.Uint64() //nolint:gosec // no secret
	}
	t.Logf("STEWARD_SEED=%d", seed)
	return seed
}
