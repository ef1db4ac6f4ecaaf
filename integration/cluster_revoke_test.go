package integration

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/integration/harness"
	"github.com/fareboxhq/farebox/internal/engine"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/ops"

	"github.com/fareboxhq/farebox/internal/clock"
)

const (
	crowdLive    = 12                    // number of working keys that callers use
	crowdDead    = 6                     // number of revoked keys that callers still use
	crowdCallers = 3                     // number of callers at each node
	crowdPace    = 15 * time.Millisecond // the time between two calls of one caller
	crowdChanges = 100                   // number of key changes in a round
	// revokeAim is the time within which 99 of 100 changes should return. A busy
	// machine may need more. So the test only requires that the median is at most
	// revokeSlack times revokeAim, and that the 99th percentile is at most
	// revokeLease. With the race detector the factor is revokeSlackRace, because the
	// detector slows all three gateways and the test on the same cores.
	revokeAim       = 50 * time.Millisecond
	revokeSlack     = 3
	revokeSlackRace = 10
	revokeLease     = engine.LeaseTime + time.Second
)

// keyEnd is one way for a key to lose a right.
type keyEnd struct {
	name, method, path string
	body               map[string]any
	tool               string // the tool the key calls
	code               string // the code of the refusals after the change
}

var keyEnds = []keyEnd{
	{"delete", http.MethodDelete, "", nil, "dig", "TOKEN_INVALID"},
	{"delete", http.MethodDelete, "", nil, "weave", "TOKEN_INVALID"},
	{"disable", http.MethodPost, "/disable", nil, "dig", "TOKEN_INVALID"},
	{"delete", http.MethodDelete, "", nil, "dig", "TOKEN_INVALID"},
	{"fewer servers", http.MethodPatch, "", map[string]any{"servers": []string{"mail"}, "force": true}, "weave", "TOKEN_INVALID"},
	{"delete", http.MethodDelete, "", nil, "dig", "TOKEN_INVALID"},
	{"fewer scopes", http.MethodPatch, "", map[string]any{"scopes": []string{}}, "mill", "SCOPE_INSUFFICIENT"},
	{"delete", http.MethodDelete, "", nil, "mill", "TOKEN_INVALID"},
	{"shorter life", http.MethodPatch, "", map[string]any{"expires_in": "1us"}, "dig", "TOKEN_EXPIRED"},
	{"delete", http.MethodDelete, "", nil, "weave", "TOKEN_INVALID"},
}

// victim is a key that callers keep using after it has lost its right.
type victim struct {
	harness.Key
	keyEnd
	begun atomic.Bool // true once the test has requested the change of the key
	over  atomic.Bool // true once the request for the change has returned
}

// crowd makes calls through all nodes with keys, while these keys are created and
// revoked.
type crowd struct {
	t       *testing.T
	cluster *harness.Cluster
	client  *http.Client
	admin   []*ops.Client // clients for the goroutine that changes keys
	live    [crowdLive]atomic.Pointer[victim]
	dead    [crowdDead]atomic.Pointer[victim]

	calls, accepted, refused atomic.Int64
	stale                    atomic.Int64 // calls that were accepted although they began after the change had returned
}

// call makes one call and compares the answer with the key's current state.
func (c *crowd) call(g *harness.Gateway, v *victim) {
	over := v.over.Load()
	answer, err := g.Post(c.t.Context(), c.client, v.Secret, harness.ToolCall(int(c.calls.Add(1)), v.tool, `{}`))
	begun := v.begun.Load()
	switch {
	case err != nil:
		c.t.Error(err)
	case answer.Code() == "" && answer.Result != nil && !answer.Result.IsError:
		c.accepted.Add(1)
		if over {
			c.stale.Add(1)
			c.t.Errorf("accepted after %s: %s", v.name, answer.Body)
		}
	case begun && answer.Code() == v.code:
		c.refused.Add(1)
	default:
		c.t.Errorf("before %s: %v, begun: %v: %d %s", v.name, !over, begun, answer.Status, answer.Body)
	}
}

// load makes calls with random keys at crowdPace until the context ends.
func (c *crowd) load(ctx context.Context, g *harness.Gateway, random *rand.Rand) {
	pace := time.NewTicker(crowdPace)
	defer pace.Stop()
	for {
		v := c.live[random.IntN(crowdLive)].Load()
		if n := random.IntN(crowdLive + crowdDead); n < crowdDead && c.dead[n].Load() != nil {
			v = c.dead[n].Load()
		}
		c.call(g, v)
		select {
		case <-pace.C:
		case <-ctx.Done():
			return
		}
	}
}

// everywhere makes calls with the key at all nodes at the same time.
func (c *crowd) everywhere(v *victim) {
	var calls sync.WaitGroup
	for _, g := range c.cluster.Nodes {
		calls.Go(func() { c.call(g, v) })
	}
	calls.Wait()
}

// newVictim creates a key at a node, and checks that the key works at every node
// immediately.
func (c *crowd) newVictim(node int, e keyEnd) *victim {
	v := &victim{keyEnd: e, Key: c.cluster.NewKey(c.t, c.admin[node], map[string]any{"account": "crowd", "scopes": []string{"trade"}})}
	c.everywhere(v)
	return v
}

// end makes the key's change at a node and returns how long the change took. It
// checks that every node refuses the key immediately afterwards.
func (c *crowd) end(node int, v *victim) time.Duration {
	v.begun.Store(true)
	began := clock.Now()
	_, err := c.admin[node].Do(c.t.Context(), v.method, "keys/"+v.ID+v.path, content(v.body))
	took := clock.Since(began)
	if err != nil {
		c.t.Fatalf("%s: %v", v.name, err)
	}
	v.over.Store(true)
	c.everywhere(v)
	return took
}

// content returns m as a request body. For a nil map it returns a nil interface, which
// means no body, because a nil map would be sent as null.
func content(m map[string]any) any {
	if m == nil {
		return nil
	}
	return m
}

// TestClusterRevocation checks promise 6 of docs/promises.md across nodes, under load.
// One node deletes, disables or narrows keys that all nodes have in memory. Every node
// refuses each call begun after the change has returned, and accepts each call made
// before the change. 99 in 100 changes should return within 50 ms; the test allows
// more, see revokeAim.
func TestClusterRevocation(t *testing.T) {
	random := seeded(t)
	w := startWorker(t)
	cluster := startCluster(t, &postgres, workerSite(w))
	cluster.NewAgent(t, "crowd", 100000*ledger.Unit)
	c := &crowd{t: t, cluster: cluster, client: manyCalls(t, 64), admin: cluster.Admin()}
	for i := range c.live {
		c.live[i].Store(c.newVictim(i%clusterNodes, keyEnds[i%len(keyEnds)]))
	}
	ctx, stop := context.WithCancel(t.Context())
	var callers sync.WaitGroup
	for i := range crowdCallers * clusterNodes {
		random := rand.New(rand.NewPCG(random.Uint64(), uint64(i)))
		callers.Go(func() { c.load(ctx, cluster.Nodes[i%clusterNodes], random) })
	}
	began := clock.Now()
	var all, deletes []time.Duration
	for i := range crowdChanges * *clusterRounds {
		slot := random.IntN(crowdLive)
		v := c.live[slot].Load()
		took := c.end(random.IntN(clusterNodes), v)
		all = append(all, took)
		if v.name == "delete" {
			deletes = append(deletes, took)
		}
		c.dead[i%crowdDead].Store(v)
		c.live[slot].Store(c.newVictim(random.IntN(clusterNodes), keyEnds[i%len(keyEnds)]))
		if t.Failed() {
			break
		}
	}
	took := clock.Since(began)
	stop()
	callers.Wait()
	t.Logf("%d calls in %s, %.0f a second: %d accepted, %d refused, %d accepted too late",
		c.calls.Load(), took.Round(time.Millisecond), float64(c.calls.Load())/took.Seconds(), c.accepted.Load(), c.refused.Load(), c.stale.Load())
	t.Logf("deletes: %s; all changes: %s", percentiles(deletes), percentiles(all))
	most := revokeSlack * revokeAim
	if harness.RaceDetector {
		most = revokeSlackRace * revokeAim
	}
	// On a busy machine, the durations of the slowest changes depend mostly on the
	// machine's other work. So only the median must be near the target. The 99th
	// percentile must only be within the lease.
	if p50, p99 := percentile(all, 50), percentile(all, 99); p50 > most || p99 > revokeLease {
		t.Errorf("half of all changes took up to %s, want at most %s; 99 in 100 up to %s, want at most %s", p50, most, p99, revokeLease)
	}
	nothingHeld(t, cluster.Nodes[0], "crowd")
	cluster.Nodes[1].VerifyLedger(t)
}

// percentile returns the n-th percentile of the durations.
func percentile(of []time.Duration, n int) time.Duration {
	if len(of) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(of))
	return sorted[min(len(sorted)-1, len(sorted)*n/100)]
}

func percentiles(of []time.Duration) string {
	round := func(d time.Duration) time.Duration { return d.Round(100 * time.Microsecond) }
	return fmt.Sprintf("%d, p50 %s, p99 %s, max %s", len(of), round(percentile(of, 50)), round(percentile(of, 99)), round(percentile(of, 100)))
}
