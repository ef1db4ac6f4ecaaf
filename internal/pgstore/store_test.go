//go:build unix

package pgstore

import (
	"testing"

	"github.com/fareboxhq/farebox/internal/storetest"
)

// TestSuite runs what every store must pass.
func TestSuite(t *testing.T) { storetest.Run(t, harness) }
