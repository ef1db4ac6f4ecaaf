package client_test

import (
	"testing"

	"github.com/fareboxhq/farebox/internal/oauth/client"
	"github.com/fareboxhq/farebox/internal/oauth/clienttest"
)

// TestMemory: the store of these tests behaves as the real ones do.
func TestMemory(t *testing.T) { clienttest.Run(t, client.NewMemory()) }
