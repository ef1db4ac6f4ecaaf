package integration

import (
	"context"
	"errors"
	"flag"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/integration/harness"
	"github.com/fareboxhq/farebox/internal/ledger"

	"github.com/fareboxhq/farebox/internal/clock"
)

var kills = flag.Int("kills", 10, "how often TestKill kills the gateway")

const (
	killCallers = 64  // number of concurrent callers
	killRun     = 400 // the kill comes within this number of calls
	killPrice   = ledger.Unit / 100
)

// The events that trigger a kill.
const (
	atCall   = iota // a caller is about to call
	atRun           // the server has begun to run the tool
	atResult        // a client has received a result
	killPoints
)

// killPoint is the moment of a kill: the n-th event of a kind.
type killPoint struct{ what, n int }

func (p killPoint) String() string {
	return [...]string{"call", "run", "result"}[p.what] + " " + strconv.Itoa(p.n)
}

// killed is the history of one account through all kills.
type killed struct {
	gateway    *harness.Gateway
	worker     *worker
	secret     string
	known      map[string]bool // the ids of charges from earlier rounds
	received   int
	unreceived int
	inFlight   int
}

// TestKill checks promises 1, 2, 4 and 5 of docs/promises.md across crashes. While 64
// callers make paid calls, the gateway is killed repeatedly, each time at another
// point, and restarts from the data on disk. After each start the books balance, each
// received result has exactly one capture, and no credits are reserved. There are at
// most as many captures without a received result as there were calls in flight.
func TestKill(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	w := startWorker(t)
	g := binaries.StartGateway(t, harness.Site(w.url, "server worker", "provider acme", "price * 0.01"))
	_, key := g.NewAgent(t, "agent", "10000.00")
	k := &killed{gateway: g, worker: w, secret: key.Secret, known: map[string]bool{}}
	began := clock.Now()
	for range *kills {
		point := killPoint{random.IntN(killPoints), 1 + random.IntN(killRun)}
		round := k.callUntil(t, point)
		g.Start(t)
		k.check(t, point, round)
	}
	t.Logf("%d kills, %d calls in flight: %d results received, %d captures without; %s a kill",
		*kills, k.inFlight, k.received, k.unreceived, clock.Since(began)/time.Duration(max(1, *kills)))

	answer := post(t, g, key.Secret, harness.ToolCall(1, "dig", `{}`))
	if answer.Result == nil || answer.Result.Meta.Charge == nil {
		t.Fatalf("after the last restart: %s", answer.Body)
	}
	k.known[answer.Result.Meta.Charge.ID] = true
	charges := g.Charges(t, "agent")
	for _, c := range charges {
		if !k.known[c.ID] {
			t.Errorf("charge %s turned up late", c.ID)
		}
	}
	if len(charges) != len(k.known) {
		t.Errorf("%d charges; want %d", len(charges), len(k.known))
	}
}

// killRound is the outcome of one round's calls.
type killRound struct {
	received []string // the ids of the charges in results that arrived complete
	inFlight int      // calls that may have reached the gateway but got no result
}

// callUntil lets 64 callers make calls and kills the gateway at the given
// point.
func (k *killed) callUntil(t *testing.T, point killPoint) (round killRound) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: killCallers}}
	defer client.CloseIdleConnections()
	var (
		mu      sync.Mutex
		callers sync.WaitGroup
		counts  [killPoints]atomic.Int64
		enough  = make(chan struct{})
		count   = func(what int) {
			if counts[what].Add(1) == int64(point.n) && what == point.what {
				close(enough)
			}
		}
	)
	k.worker.work = func(context.Context, int64) { count(atRun) }
	one := func(id int) (ok bool) {
		count(atCall)
		answer, err := k.gateway.Post(t.Context(), client, k.secret, harness.ToolCall(id, pick(workerTools, id), `{}`))
		mu.Lock()
		defer mu.Unlock()
		var network *net.OpError
		switch {
		case errors.As(err, &network) && network.Op == "dial": // the call came after the kill, so the gateway has not received it
			return false
		case err != nil:
			round.inFlight++
			return false
		case answer.Result == nil || answer.Result.IsError || answer.Result.Meta.Charge == nil:
			t.Errorf("call %d: %s", id, answer.Body)
			return false
		}
		round.received = append(round.received, answer.Result.Meta.Charge.ID)
		count(atResult)
		return true
	}
	for caller := range killCallers {
		callers.Go(func() {
			for id := 1 + caller; one(id); id += killCallers {
			}
		})
	}
	ended := make(chan struct{})
	go func() { callers.Wait(); close(ended) }()
	select {
	case <-enough:
	case <-ended: // every caller has failed
	}
	k.gateway.Kill()
	<-ended
	return round
}

// check compares the books with the results that clients received.
func (k *killed) check(t *testing.T, point killPoint, round killRound) {
	t.Helper()
	k.gateway.VerifyLedger(t)
	var charges []harness.Charge
	// List one charge more than this round can have made. If all listed charges are
	// new, there is a charge too many. Otherwise the list reaches back to an earlier
	// round, so it contains all charges of this round.
	limit := len(round.received) + round.inFlight + 1
	k.gateway.CLI(t, &charges, "charge", "list", "--account", "agent", "--limit", strconv.Itoa(limit))
	fresh := map[string]bool{}
	for _, c := range charges {
		if k.known[c.ID] {
			break // the list is newest first, so the rest is from earlier rounds
		}
		if fresh[c.ID] || c.State != "captured" || c.Amount != killPrice {
			t.Errorf("at %s: charge %+v; want it once, captured at %s", point, c, killPrice)
		}
		fresh[c.ID] = true
	}
	seen := map[string]bool{}
	for _, id := range round.received {
		if !fresh[id] || seen[id] {
			t.Errorf("at %s: received a result with charge %s: captured %v, used by another result %v", point, id, fresh[id], seen[id])
		}
		seen[id] = true
	}
	unreceived := len(fresh) - len(seen)
	if unreceived > round.inFlight {
		t.Errorf("at %s: %d captures or more without a received result; %d calls were in flight", point, unreceived, round.inFlight)
	}
	for id := range fresh {
		k.known[id] = true
	}
	k.received += len(seen)
	k.unreceived += unreceived
	k.inFlight += round.inFlight
	a := k.gateway.Account(t, "agent")
	if want := 10000*ledger.Unit - killPrice*ledger.Amount(len(k.known)); a.Balance != want || a.Reserved != 0 {
		t.Errorf("at %s: balance %s, reserved %s; want %s, 0.00", point, a.Balance, a.Reserved, want)
	}
	t.Logf("at %s: %d received, %d in flight, %d captures without a received result", point, len(seen), round.inFlight, unreceived)
}
