package integration

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fareboxhq/farebox/integration/harness"
)

// TestHealthOfFullDisk checks that a gateway with a full disk is unready from the first
// write that fails, and says so without the path. When the disk has room again, the
// gateway becomes ready by itself, even if no call comes in that time.
func TestHealthOfFullDisk(t *testing.T) {
	t.Parallel()
	w := startWorker(t)
	g := unsignalled(t).StartGateway(t, withHealth(harness.Site(w.url, "server worker", "provider acme", "price * 0.01")))
	_, key := g.NewAgent(t, "agent", "1.00")
	awaitHealth(t, g)
	var before unix.Rlimit
	w.work = func(context.Context, int64) { // the disk fills up while the call runs
		if err := unix.Prlimit(g.Process().PID(), unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: fileLimit, Max: unix.RLIM_INFINITY}, &before); err != nil {
			t.Error(err)
		}
	}
	if answer := callOf(t, g, key.Secret); answer.Code() != "CHARGE_FAILED" {
		t.Errorf("a call while the disk fills up: %d %s", answer.Status, answer.Body)
	}
	if a := awaitHealth(t, g, "STORE_DOWN"); strings.Contains(a.body, "disk") || a.status != http.StatusServiceUnavailable {
		t.Errorf("%d %s", a.status, a.body)
	}
	if exit, output := healthCommand(t, g); exit != 5 || !strings.Contains(output, "STORE_DOWN") || !strings.Contains(output, "disk") {
		t.Errorf("farebox health: exit %d, %s", exit, output)
	}
	if err := unix.Prlimit(g.Process().PID(), unix.RLIMIT_FSIZE, &before, nil); err != nil {
		t.Fatal(err)
	}
	awaitHealth(t, g)
	w.work = func(context.Context, int64) {}
	if answer := callOf(t, g, key.Secret); paidFor(answer) == "" {
		t.Errorf("a call afterwards: %d %s", answer.Status, answer.Body)
	}
}
