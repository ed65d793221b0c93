package changestest

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"
)

// Seed is STEWARD_SEED, or a random one. It is printed, so that a failure can be repeated as far as timing allows.
func Seed(t testing.TB) uint64 {
	t.Helper()
	seed, err := strconv.ParseUint(os.Getenv("STEWARD_SEED"), 10, 64)
	if err != nil {
		seed = rand.Uint64() //nolint:gosec // no secret
	}
	t.Logf("STEWARD_SEED=%d", seed)
	return seed
}

// Soak is how long a storm lasts: STEWARD_SOAK, such as 10m, or standard.
func Soak(t testing.TB, standard time.Duration) time.Duration {
	t.Helper()
	text := os.Getenv("STEWARD_SOAK")
	if text == "" {
		return standard
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		t.Fatalf("STEWARD_SOAK=%s is no duration such as 10m", text)
	}
	return d
}
