//go:build unix

package pgstore

import (
	"testing"

	"github.com/fareboxhq/farebox/internal/engine"
	"github.com/fareboxhq/farebox/internal/storetest"
)

// A gateway can run on it.
var _ engine.Store = (*Store)(nil)

// The store passes the suite of all stores.
func TestSuite(t *testing.T) { storetest.Run(t, harness) }
