package integration

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/integration/harness"
	"github.com/fareboxhq/farebox/internal/ledger"

	"github.com/fareboxhq/farebox/internal/clock"
)

// hotRound is a round of TestClusterHotAccount: the account's funds and the
// requests of its callers.
type hotRound struct {
	name    string
	credits ledger.Amount
	cap     ledger.Amount // the daily cap of the account; 0 means no cap
	path    string        // the site's path
	prices  bool          // true if the callers use tools with several prices
	code    string        // the code in refusals
	work    string        // the timing of the tool: "at once", "slowly" or "together"
}

const hotQuota = workerJSON // the path of the site with ten free calls a day

var hotRounds = []hotRound{
	{name: "ten", credits: 10 * cent, path: workerStreams, code: "INSUFFICIENT_BALANCE", work: "at once"},
	{name: "ten slow ones", credits: 10 * cent, path: workerStreams, code: "INSUFFICIENT_BALANCE", work: "slowly"},
	{name: "ten together", credits: 10 * cent, path: workerStreams, code: "INSUFFICIENT_BALANCE", work: "together"},
	{name: "mixed prices", credits: 41 * cent, path: workerStreams, prices: true, code: "INSUFFICIENT_BALANCE", work: "at once"},
	{name: "mixed slow ones", credits: 23 * cent, path: workerStreams, prices: true, code: "INSUFFICIENT_BALANCE", work: "slowly"},
	{name: "cap", credits: 100 * cent, cap: 10 * cent, path: workerStreams, code: "SPENDING_CAP", work: "together"},
	{name: "cap of slow ones", credits: 100 * cent, cap: 10 * cent, path: workerStreams, code: "SPENDING_CAP", work: "slowly"},
	{name: "quota", path: hotQuota, code: "INSUFFICIENT_BALANCE", work: "together"},
	{name: "quota of slow ones", path: hotQuota, code: "INSUFFICIENT_BALANCE", work: "slowly"},
}

// hotSite has prices of 0.01, 0.02 and 0.03 at one path and ten free calls a
// day at another.
func hotSite(w *worker) string {
	site := harness.Site(w.url, "server worker", "provider acme", "price dig 0.01", "price weave 0.02", "price mill 0.03")
	free := harness.Site(w.url, "server quota", "provider acme", "unpriced 0.01", "free_quota 10/day")
	return harness.OnPostgres(withHandle(site, free, hotQuota))
}

// hotGame lets many callers spend one account's funds at all nodes at the same time.
type hotGame struct {
	cluster *harness.Cluster
	client  *http.Client
	charges sync.Map // the ids of the charges in all results
}

// hotOutcome counts the results and refusals of a round.
type hotOutcome struct {
	paid, refused, spent int64
	cheapest             ledger.Amount // the lowest price of a refused call
	charges              []string
}

// play has every caller make one call.
func (game *hotGame) play(t *testing.T, r hotRound, secrets []string) (o hotOutcome) {
	t.Helper()
	var callers sync.WaitGroup
	var mu sync.Mutex
	o.cheapest = ledger.Unit
	begin := make(chan struct{})
	for caller := range tenCallers {
		callers.Go(func() {
			tool, price := workerTools[0], cent
			if r.prices {
				tool, price = pick(workerTools, caller), ledger.Amount(1+caller%len(workerTools))*cent
			}
			g := game.cluster.Nodes[caller%clusterNodes]
			<-begin
			answer, err := postAt(t.Context(), g, game.client, r.path, pick(secrets, caller/clusterNodes), harness.ToolCall(caller, tool, `{}`))
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			switch id := paidFor(answer); {
			case id != "":
				if _, twice := game.charges.LoadOrStore(id, true); twice {
					t.Errorf("two results of charge %s", id)
				}
				o.paid++
				o.spent += int64(answer.Result.Meta.Charge.Amount)
				o.charges = append(o.charges, id)
			case answer.Code() == r.code && !strings.Contains(answer.Body, workerResult):
				o.refused++
				o.cheapest = min(o.cheapest, price)
			default:
				t.Errorf("%s, caller %d: %d %s", r.name, caller, answer.Status, answer.Body)
			}
		})
	}
	close(begin)
	callers.Wait()
	return o
}

// TestClusterHotAccount checks promise 3 of docs/promises.md across nodes. With several
// keys of one account, 64 callers call at the same time through three gateways. In each
// round the account has one of four kinds of funds: a balance for ten calls, a balance
// shared by calls with several prices, a cap for ten calls, or a quota that makes ten
// calls free. Together the callers spend exactly the available funds, and the server
// runs exactly the paid calls.
func TestClusterHotAccount(t *testing.T) {
	random := seeded(t)
	w := startWorker(t)
	cluster := startCluster(t, &postgres, hotSite(w))
	game := &hotGame{cluster: cluster, client: manyCalls(t, tenCallers)}
	admin := cluster.Nodes[0].AdminClient()
	began, results := clock.Now(), int64(0)
	for again := range *clusterRounds {
		for i, r := range hotRounds {
			w.work = map[string]func(context.Context, int64){
				"at once": func(context.Context, int64) {}, "slowly": takeTime(random.Uint64()), "together": rendezvous(),
			}[r.work]
			name := fmt.Sprintf("agent-%d-%d", again, i)
			secrets := []string{cluster.NewAgent(t, name, r.credits).Secret, cluster.NewKey(t, admin, map[string]any{"account": name}).Secret}
			if r.cap > 0 {
				harness.Ask(t, admin, http.MethodPatch, "accounts/"+name, map[string]any{"caps": map[string]any{"day": r.cap}}, nil)
			}
			before := w.runs.Load()
			o := game.play(t, r, secrets)
			ran := w.runs.Load() - before
			results += o.paid
			hold(t, cluster, name, r, o, ran)
		}
	}
	t.Logf("%d rounds, %d results, %s a round", *clusterRounds*len(hotRounds), results, clock.Since(began)/time.Duration(max(1, *clusterRounds*len(hotRounds))))
	cluster.Nodes[2].VerifyLedger(t)
}

// hold compares the outcome of a round with the books.
func hold(t *testing.T, cluster *harness.Cluster, name string, r hotRound, o hotOutcome, ran int64) {
	t.Helper()
	g := cluster.Nodes[clusterNodes-1]
	a := nothingHeld(t, g, name)
	if a.Balance != r.credits-ledger.Amount(o.spent) || a.Balance < 0 || o.paid+o.refused != tenCallers || ran != o.paid {
		t.Errorf("%s: balance %s before, %s after; %d results for %s, %d refusals, %d runs",
			r.name, r.credits, a.Balance, o.paid, ledger.Amount(o.spent), o.refused, ran)
	}
	switch {
	case r.prices && a.Balance >= o.cheapest:
		t.Errorf("%s: a call for %s was refused with a balance of %s", r.name, o.cheapest, a.Balance)
	case !r.prices && o.paid != tenCalls:
		t.Errorf("%s: %d results, want %d", r.name, o.paid, tenCalls)
	}
	listed := map[string]bool{}
	for _, c := range chargesOf(t, g, name) {
		listed[c.ID] = true
		if c.State != "captured" || c.Free != (r.path == hotQuota) {
			t.Errorf("%s: charge %+v", r.name, c)
		}
	}
	for _, id := range o.charges {
		if !listed[id] {
			t.Errorf("%s: the charge %s of a result is not in the books", r.name, id)
		}
	}
	if len(listed) != len(o.charges) {
		t.Errorf("%s: %d charges for %d results", r.name, len(listed), len(o.charges))
	}
}
