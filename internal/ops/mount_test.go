package ops

import (
	"bytes"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/clock"
)

// TestUnexpectedBodies sends a body to an operation that takes no body. The mount drops
// the body from its copy of the request. The test checks that the server still has the
// original body, which it needs to reuse the connection: otherwise the server would log
// an error.
func TestUnexpectedBodies(t *testing.T) {
	var logged bytes.Buffer
	server := httptest.NewUnstartedServer(mountOf(t))
	server.Config.ErrorLog = log.New(&logged, "", 0)
	server.Start()
	for range 3 {
		resp, err := server.Client().Post(server.URL+"/farebox/ledger/verify", "application/json", strings.NewReader(`{"a":1}`))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("status %d", resp.StatusCode)
		}
	}
	server.Close()
	if logged.Len() > 0 {
		t.Errorf("the server logged: %s", logged.String())
	}
}

// mountOf returns the admin endpoint of a new store.
func mountOf(t *testing.T) *Mount {
	t.Helper()
	o := newOffice(t)
	return endpoint(admin.New(o.store, nil, o.settings.Load, clock.Now))
}
