package clock

import (
	"testing"
	"time"
)

// TestParseDuration checks that ParseDuration accepts days in addition to the units of
// time.ParseDuration.
func TestParseDuration(t *testing.T) {
	const day = 24 * time.Hour
	for text, want := range map[string]time.Duration{
		"90d": 90 * day, "1d12h": 36 * time.Hour, "0.5d": 12 * time.Hour, ".5d": 12 * time.Hour, "-2d": -2 * day, "36h": 36 * time.Hour, "0": 0,
	} {
		if got, err := ParseDuration(text); err != nil || got != want {
			t.Errorf("%s: %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "d", "7", "7 d", "7days", "never", "1e3d", "200000d", "9" + string(make([]byte, 400)) + "d"} {
		if got, err := ParseDuration(text); err == nil {
			t.Errorf("%q: %v, want an error", text, got)
		}
	}
}
