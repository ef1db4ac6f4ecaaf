//go:build unix

package pgstore

import (
	"testing"

	"github.com/fareboxhq/farebox/internal/engine"
	"github.com/fareboxhq/farebox/internal/storetest"
)

// An engine can run on a Store.
var _ engine.Store = (*Store)(nil)

// TestSuite runs the tests that every kind of store must pass.
func TestSuite(t *testing.T) { storetest.Run(t, harness) }
