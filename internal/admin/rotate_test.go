package admin

import (
	"errors"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/keys"
)

// TestRotationSeesTheRate checks that a successor does not get a rate that the old
// key lost during the rotation.
func TestRotationSeesTheRate(t *testing.T) {
	s := &Service{now: clock.Now}
	fast := keys.Key{ID: "key_1", Kind: keys.Agent, Limits: &keys.Limits{Rate: keys.Rate{Requests: 100, Per: time.Second, Burst: 100}}}
	slow := fast
	slow.Limits = &keys.Limits{Rate: keys.Rate{Requests: 1, Per: time.Second, Burst: 1}}
	if err := s.retire(&slow, &fast, &keys.Key{ID: "key_2"}, 0); !errors.Is(err, errChanged) {
		t.Errorf("the key was slowed down meanwhile: %v", err)
	}
	same := fast
	if err := s.retire(&same, &fast, &keys.Key{ID: "key_2"}, 0); err != nil {
		t.Errorf("nothing was changed: %v", err)
	}
}
