package integration

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/integration/harness"

	"github.com/fareboxhq/farebox/internal/clock"
)

var tens = flag.Int("tens", 10, "how many rounds TestExactlyTen plays")

const (
	tenCallers = 64
	tenCalls   = 10                    // number of calls that the balance covers
	tenDelay   = 30 * time.Millisecond // upper bound of the run time of a slow tool
)

// TestExactlyTen checks promise 3 of docs/promises.md. 64 callers with several keys of
// one account call at the same time, with a balance for ten calls. Ten get a result, 54
// are refused because the balance is too low, and the server runs ten calls. The tools
// answer immediately, answer slowly, or wait until ten calls are running. They answer
// in JSON and in event streams.
func TestExactlyTen(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	w := startWorker(t)
	g := binaries.StartGateway(t, harness.Site(w.url, "server worker", "provider acme", "price * 0.01"))
	_, first := g.NewAgent(t, "agent", "")
	game := &tenGame{
		gateway: g, worker: w, client: &http.Client{Timeout: harness.Patience, Transport: &http.Transport{MaxIdleConnsPerHost: tenCallers}},
		keys:    []string{first.Secret, g.NewKey(t, "agent").Secret, g.NewKey(t, "agent").Secret},
		charges: map[string]bool{}, forms: map[string]int{},
	}
	t.Cleanup(game.client.CloseIdleConnections)
	modes := []func(context.Context, int64){
		func(context.Context, int64) {},
		takeTime(seed),
		nil, // stands for rendezvous, because each round needs a new one
	}
	began := clock.Now()
	for round := range *tens {
		w.work = modes[round%len(modes)]
		if w.work == nil {
			w.work = rendezvous()
		}
		game.play(t, round)
	}
	t.Logf("%d rounds, %v, %s a round", *tens, game.forms, clock.Since(began)/time.Duration(max(1, *tens)))
	charges := g.Charges(t, "agent")
	for _, c := range charges {
		if !game.charges[c.ID] || c.State != "captured" {
			t.Errorf("charge %+v; want it captured, and its result received", c)
		}
	}
	if want := *tens * tenCalls; len(charges) != want || len(game.charges) != want {
		t.Errorf("%d charges, %d results; want %d", len(charges), len(game.charges), want)
	}
	for _, form := range []string{"application/json", "text/event-stream"} {
		if game.forms[form] == 0 {
			t.Errorf("no result came as %s", form)
		}
	}
	g.VerifyLedger(t)
}

// takeTime returns a function for worker.work that takes a random time in each run.
func takeTime(seed uint64) func(context.Context, int64) {
	return func(ctx context.Context, run int64) {
		random := rand.New(rand.NewPCG(seed, uint64(run)))
		select {
		case <-time.After(time.Duration(random.Int64N(int64(tenDelay)))):
		case <-ctx.Done():
		}
	}
}

// rendezvous returns a function for worker.work. The function returns as soon as ten
// calls are running. The reservations of all ten calls are therefore open at the
// same time.
func rendezvous() func(context.Context, int64) {
	var here atomic.Int64
	all := make(chan struct{})
	return func(ctx context.Context, _ int64) {
		if here.Add(1) == tenCalls {
			close(all)
		}
		select {
		case <-all:
		case <-ctx.Done():
		}
	}
}

// tenGame is the state shared by all rounds.
type tenGame struct {
	gateway *harness.Gateway
	worker  *worker
	client  *http.Client
	keys    []string

	mu      sync.Mutex
	charges map[string]bool // the ids of the charges in all results
	forms   map[string]int  // number of results by content type
}

// play gives the account credits for ten calls and has every caller make one
// call.
func (game *tenGame) play(t *testing.T, round int) {
	t.Helper()
	g := game.gateway
	g.CLI(t, nil, "credit", "agent", "0.10", "--reason", "a round")
	before := game.worker.runs.Load()
	var callers sync.WaitGroup
	var paid, poor atomic.Int64
	begin := make(chan struct{})
	for caller := range tenCallers {
		callers.Go(func() {
			<-begin
			ok, err := game.call(t.Context(), caller+round)
			switch {
			case err != nil:
				t.Errorf("round %d: %v", round, err)
			case ok:
				paid.Add(1)
			default:
				poor.Add(1)
			}
		})
	}
	close(begin)
	callers.Wait()
	if paid.Load() != tenCalls || poor.Load() != tenCallers-tenCalls {
		t.Errorf("round %d: %d results and %d refusals; want %d and %d", round, paid.Load(), poor.Load(), tenCalls, tenCallers-tenCalls)
	}
	if ran := game.worker.runs.Load() - before; ran != tenCalls {
		t.Errorf("round %d: the server ran %d calls; want %d", round, ran, tenCalls)
	}
	if a := g.Account(t, "agent"); a.Balance != 0 || a.Reserved != 0 {
		t.Errorf("round %d: balance %s, reserved %s; want nothing", round, a.Balance, a.Reserved)
	}
}

// call makes one call. It returns true if the answer is a result, and false if the call
// was refused because the balance is too low. Any other outcome is an error.
func (game *tenGame) call(ctx context.Context, n int) (ok bool, err error) {
	url := game.gateway.Endpoint() + strings.TrimPrefix([]string{workerStreams, workerJSON}[n%2], "/mcp")
	body := harness.ToolCall(n, pick(workerTools, n), `{}`)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return false, err
	}
	answer, err := game.gateway.Send(game.client, pick(game.keys, n), req)
	if err != nil {
		return false, err
	}
	if answer.Code() == "INSUFFICIENT_BALANCE" && answer.Result != nil && answer.Result.IsError {
		if strings.Contains(answer.Body, workerResult) {
			return false, fmt.Errorf("a refusal has the result in it: %s", answer.Body)
		}
		return false, nil
	}
	if answer.Result == nil || answer.Result.IsError || answer.Result.Meta.Charge == nil {
		return false, fmt.Errorf("call %d: %d %s", n, answer.Status, answer.Body)
	}
	form, _, _ := strings.Cut(answer.Header.Get("Content-Type"), ";")
	game.mu.Lock()
	defer game.mu.Unlock()
	id := answer.Result.Meta.Charge.ID
	if game.charges[id] {
		return false, fmt.Errorf("two results of charge %s", id)
	}
	game.charges[id] = true
	game.forms[form]++
	return true, nil
}
