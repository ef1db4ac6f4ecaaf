package integration

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/integration/harness"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/pgtest"

	"github.com/fareboxhq/farebox/internal/clock"
)

const (
	outageCallers = 8 // number of callers at each node
	outageRun     = 150
	outageCredit  = 10000 * ledger.Unit
)

// outage is a disturbance of a cluster under load.
type outage struct {
	name string
	// strike causes the outage and returns when the outage is over. The nodes may
	// still have to recover from the outage by themselves.
	strike func(o *outages)
	node   bool // true if the outage breaks clients' connections to a gateway
}

// outages is the history of one account through all outages.
type outages struct {
	t        *testing.T
	cluster  *harness.Cluster
	postgres *pgtest.Cluster
	dsn      string
	worker   *worker
	client   *http.Client
	secrets  []string
	random   *rand.Rand

	mu       sync.Mutex
	received map[string]bool // the ids of the charges in results
	unknown  int             // calls that were sent and got neither a result nor a refusal stating that the tool did not run
	known    map[string]bool // the ids of charges from earlier rounds
	refusals map[string]int
}

// TestClusterOutages checks promises 1, 2, 4 and 5 of docs/promises.md across nodes.
// While callers make paid calls at three gateways, a gateway is killed, and the
// database is restarted, killed, and made to cut all connections. Each received result
// has exactly one capture. The number of captures without a received result is at most
// the number of calls with an outcome unknown to the caller. The books balance, and
// refused calls get STORE_UNAVAILABLE. All nodes recover by themselves.
func TestClusterOutages(t *testing.T) {
	server := pgtest.New(t)
	w := startWorker(t)
	dsn := server.Database(t, func(context.Context, string) error { return nil })
	o := &outages{
		t: t, postgres: server, dsn: dsn, worker: w, client: manyCalls(t, outageCallers), random: seeded(t),
		cluster:  binaries.StartCluster(t, clusterNodes, dsn, workerSite(w)),
		received: map[string]bool{}, known: map[string]bool{}, refusals: map[string]int{},
	}
	key := o.cluster.NewAgent(t, "agent", outageCredit)
	o.secrets = []string{key.Secret, o.cluster.NewKey(t, o.cluster.Nodes[1].AdminClient(), map[string]any{"account": "agent"}).Secret}
	for range *clusterRounds {
		for _, what := range []outage{
			{"a node is killed", (*outages).killNode, true},
			{"connections are cut", (*outages).cut, false},
			{"the database restarts", func(o *outages) { o.postgres.Restart(o.t) }, false},
			{"the database is killed", func(o *outages) { o.postgres.Kill(o.t); o.refused(); o.postgres.Start(o.t) }, false},
			{"connections are cut again and again", func(o *outages) {
				for range 5 {
					o.cut()
				}
			}, false},
		} {
			o.play(what)
		}
	}
}

// killNode kills a gateway and restarts it.
func (o *outages) killNode() {
	g := o.cluster.Nodes[o.random.IntN(clusterNodes)]
	g.Kill()
	g.Start(o.t)
}

// cut terminates all connections of the gateways to the database.
func (o *outages) cut() {
	if err := o.postgres.Cut(o.t.Context(), o.dsn); err != nil {
		o.t.Error(err)
	}
}

// refused waits until the gateways refuse calls because the database is down.
func (o *outages) refused() {
	for _, g := range o.cluster.Nodes {
		harness.Eventually(o.t, "a call to be refused", func() error {
			answer, err := g.Post(o.t.Context(), o.client, o.secrets[0], harness.ToolCall(1, "weave", `{}`))
			if err != nil {
				return err
			}
			o.note(answer, nil, false)
			if answer.Status != http.StatusOK || answer.Code() != "STORE_UNAVAILABLE" || !strings.Contains(answer.Body, "retry_after_ms") {
				return fmt.Errorf("%d %s", answer.Status, answer.Body)
			}
			return nil
		})
	}
}

// play makes calls, causes the outage after a random number of results, and
// continues until all nodes have charged again.
func (o *outages) play(what outage) {
	t := o.t
	t.Helper()
	at := int64(outageRun/2 + o.random.IntN(outageRun))
	var results atomic.Int64
	enough := make(chan struct{})
	ctx, stop := context.WithCancel(t.Context())
	var callers sync.WaitGroup
	afterwards := make([]atomic.Int64, clusterNodes) // by node, the number of results of calls that began after the outage
	var over atomic.Bool
	for caller := range outageCallers * clusterNodes {
		callers.Go(func() {
			n := caller % clusterNodes
			for id := caller; ctx.Err() == nil; id++ {
				begunAfter := over.Load()
				answer, err := o.cluster.Nodes[n].Post(t.Context(), o.client, pick(o.secrets, id), harness.ToolCall(id, "weave", `{}`))
				if !o.note(answer, err, what.node) {
					pause(ctx)
					continue
				}
				if results.Add(1) == at {
					close(enough)
				}
				if begunAfter {
					afterwards[n].Add(1)
				}
			}
		})
	}
	select {
	case <-enough:
	case <-time.After(harness.Patience):
		t.Errorf("%s: only %d calls were charged before", what.name, results.Load())
	}
	began := clock.Now()
	what.strike(o)
	over.Store(true)
	for n := range afterwards {
		harness.Eventually(t, "calls to be charged again", func() error {
			if count := afterwards[n].Load(); count < 10 {
				return fmt.Errorf("%s: node %d has charged %d calls", what.name, n, count)
			}
			return nil
		})
	}
	took := clock.Since(began)
	stop()
	callers.Wait()
	o.check(what)
	t.Logf("%s: %d results, charged again after %s", what.name, results.Load(), took.Round(time.Millisecond))
}

// pause delays a caller after a refusal, so that it does not keep the machine
// busy.
func pause(ctx context.Context) {
	select {
	case <-time.After(20 * time.Millisecond):
	case <-ctx.Done():
	}
}

// note records a caller's answer and reports whether it was a result.
func (o *outages) note(answer *harness.Answer, err error, mayBreak bool) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	var network *net.OpError
	if errors.As(err, &network) && network.Op == "dial" && mayBreak { // the gateway is down
		return false
	}
	if err != nil {
		o.unknown++
		o.refusals["broken"]++
		if !mayBreak {
			o.t.Errorf("a call without an answer: %v", err)
		}
		return false
	}
	if id := paidFor(answer); id != "" {
		if o.received[id] {
			o.t.Errorf("two results of charge %s", id)
		}
		o.received[id] = true
		return true
	}
	o.refusals[answer.Code()]++
	switch code := answer.Code(); {
	case strings.Contains(answer.Body, workerResult):
		o.t.Errorf("an unpaid result reached a caller: %s", answer.Body)
	case code == "STORE_UNAVAILABLE" && answer.Status == http.StatusOK: // the tool never ran
	case code == "CHARGE_FAILED": // the tool ran, and its result is withheld
		o.unknown++
	default:
		o.t.Errorf("%d %s", answer.Status, answer.Body)
	}
	return false
}

// check compares the books with the answers the callers received.
func (o *outages) check(what outage) {
	t := o.t
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	g := o.cluster.Nodes[o.random.IntN(clusterNodes)]
	spent, unreceived, back, fresh := ledger.Amount(0), 0, 0, map[string]bool{}
	for _, c := range chargesOf(t, g, "agent") {
		if fresh[c.ID] {
			t.Errorf("%s: charge %s is there twice", what.name, c.ID)
		}
		fresh[c.ID] = true
		spent += c.Amount - c.Refunded
		switch {
		case c.Amount != cent:
			t.Errorf("%s: charge %+v; want %s", what.name, c, cent)
		case c.Refunded > 0 && o.received[c.ID]:
			t.Errorf("%s: the charge of a received result was refunded: %+v", what.name, c)
		case c.Refunded > 0:
			back++
		case !o.received[c.ID]:
			unreceived++
		}
	}
	for id := range o.received {
		if !fresh[id] {
			t.Errorf("%s: received a result with charge %s, but the books lack the charge", what.name, id)
		}
	}
	for id := range o.known {
		if !fresh[id] {
			t.Errorf("%s: charge %s is lost", what.name, id)
		}
	}
	o.known = fresh
	if unreceived+back > o.unknown {
		t.Errorf("%s: %d captures without a received result, %d of them refunded; %d calls may have had one", what.name, unreceived+back, back, o.unknown)
	}
	var a harness.Account
	harness.Ask(t, g.AdminClient(), http.MethodGet, "accounts/agent", nil, &a)
	if want := outageCredit - spent; a.Balance != want {
		t.Errorf("%s: balance %s, want %s", what.name, a.Balance, want)
	}
	if most := cent * ledger.Amount(o.unknown); a.Reserved > most { // a node may leave a reservation behind, which expires later
		t.Errorf("%s: %s reserved; want at most %s", what.name, a.Reserved, most)
	}
	g.VerifyLedger(t)
	t.Logf("in all: %d received, %d captures without, %d refunded, %s held; others: %v", len(o.received), unreceived, back, a.Reserved, o.refusals)
}
