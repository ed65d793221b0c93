package changestest

import (
	"os"
	"testing"
	"time"
)

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
