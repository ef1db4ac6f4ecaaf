package integration

import (
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/fareboxhq/farebox/integration/harness"
	"github.com/fareboxhq/farebox/internal/ledger"
)

const (
	killCallers = 200 // calls in flight at once
	killRounds  = 8   // calls that each caller makes, unless the gateway is gone
)

// TestKill: promises 1, 2, 4 and 5 across a crash. The gateway is killed in the
// middle of 200 concurrent paid calls, and started again on what is on disk.
// Then every result that a client received has exactly one capture; captures
// without a received result are at most one for each call that was in flight;
// no credits are held; and the books balance. It is killed early, in the
// middle, and late.
func TestKill(t *testing.T) {
	upstream := binaries.StartWeather(t, "-stateless")
	g := binaries.StartGateway(t, harness.Site(upstream, "server weather", "provider acme", "price get_forecast 0.01"))
	for round, after := range []int{1, 200, 500} {
		name := "agent" + strconv.Itoa(round)
		_, key := g.NewAgent(t, name, "20.00")
		received, lost := callUntilKilled(t, g, key.Secret, after)
		g.Start(t)
		t.Logf("killed after %d results: %d received, %d in flight", after, len(received), lost)
		if len(received) < after || lost == 0 {
			t.Fatalf("the kill hit nothing: %d results received, %d calls in flight", len(received), lost)
		}
		checkCaptures(t, g, name, received, lost)

		// It serves on, and the same key is good.
		if answer := post(t, g, key.Secret, harness.ToolCall(1, "get_forecast", `{"city":"Oslo"}`)); answer.Result == nil || answer.Result.IsError {
			t.Errorf("after the restart: %s", answer.Body)
		}
	}
	g.VerifyLedger(t)
}

// callUntilKilled lets the callers call, and kills the gateway once so many
// results have arrived. It returns the charges of the results that did arrive
// whole, and the number of calls that were begun and got none.
func callUntilKilled(t *testing.T, g *harness.Gateway, secret string, after int) (received []string, lost int) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: killCallers}}
	defer client.CloseIdleConnections()
	var (
		mu       sync.Mutex
		results  atomic.Int64
		callers  sync.WaitGroup
		enough   = make(chan struct{})
		begin    = make(chan struct{})
		oneFails = func(id int) bool {
			answer, err := g.Post(t.Context(), client, secret, harness.ToolCall(id, "get_forecast", `{"city":"Oslo"}`))
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				lost++
				return true
			}
			if answer.Result == nil || answer.Result.IsError || answer.Result.Meta.Charge == nil {
				t.Errorf("call %d: %s", id, answer.Body)
				return true
			}
			received = append(received, answer.Result.Meta.Charge.ID)
			if results.Add(1) == int64(after) {
				close(enough)
			}
			return false
		}
	)
	for caller := range killCallers {
		callers.Go(func() {
			<-begin
			for n := range killRounds {
				if oneFails(1 + caller*killRounds + n) {
					return
				}
			}
		})
	}
	ended := make(chan struct{})
	go func() { callers.Wait(); close(ended) }()
	close(begin)
	select {
	case <-enough:
	case <-ended:
	}
	g.Kill()
	<-ended
	return received, lost
}

// checkCaptures holds what the books say against what clients received.
func checkCaptures(t *testing.T, g *harness.Gateway, account string, received []string, lost int) {
	t.Helper()
	const price = ledger.Unit / 100
	captures := map[string]int{}
	charges := g.Charges(t, account)
	for _, c := range charges {
		captures[c.ID]++
		if c.State != "captured" || c.Amount != price {
			t.Errorf("charge %+v; want it captured at %s", c, price)
		}
	}
	for _, id := range received {
		if captures[id] != 1 {
			t.Errorf("charge %s of a received result: %d captures", id, captures[id])
		}
		captures[id] = 0 // a second result with this charge is an error, too
	}
	if unreceived := len(charges) - len(received); unreceived > lost {
		t.Errorf("%d captures without a received result; only %d calls were in flight", unreceived, lost)
	}
	a := g.Account(t, account)
	if want := 20*ledger.Unit - price*ledger.Amount(len(charges)); a.Balance != want || a.Reserved != 0 {
		t.Errorf("balance %s, reserved %s; want %s, 0.00", a.Balance, a.Reserved, want)
	}
}
