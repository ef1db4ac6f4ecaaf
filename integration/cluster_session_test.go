package integration

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"

	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/fareboxhq/farebox/integration/harness"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// pollingCluster starts several gateways in front of a server that breaks off
// its streams.
func pollingCluster(t *testing.T) (*polling, *harness.Cluster) {
	t.Helper()
	p := startPolling(t)
	return p, startCluster(t, &postgres, harness.OnPostgres(harness.Site(p.url, "server weather", "provider acme",
		"price polled 0.01", "price held 0.01", "price failing 0.01", "price direct 0.01", "free free")))
}

// at returns a copy of the visitor that uses the same session but sends its requests
// to another node.
func (v *visitor) at(g *harness.Gateway) *visitor {
	other := *v
	other.g = g
	return &other
}

// TestClusterSessions checks promise 1 of docs/promises.md across nodes. A session that
// began at one node continues at all others, and only its owner can end it. After the
// stream of a paid call breaks off at one node, the call can be resumed at another
// node, or at several nodes at the same time. This is possible even after the first
// node is gone. The server runs the call once, and the call is charged once.
func TestClusterSessions(t *testing.T) {
	p, cluster := pollingCluster(t)
	a, b, c := cluster.Nodes[0], cluster.Nodes[1], cluster.Nodes[2]
	key, foreign := cluster.NewAgent(t, "alice", 100*cent), cluster.NewAgent(t, "mallory", 100*cent)
	var receiptKeys [clusterNodes]json.RawMessage
	v := visit(t, a, key.Secret)
	for i, g := range cluster.Nodes {
		harness.Ask(t, g.AdminClient(), http.MethodGet, "receipt-keys", nil, &receiptKeys[i])
		if string(receiptKeys[i]) != string(receiptKeys[0]) {
			t.Errorf("one node signs by %s, another by %s", receiptKeys[0], receiptKeys[i])
		}
		v.id++
		answer := v.at(g).send(http.MethodPost, harness.ToolCall(v.id, "direct", `{}`), "")
		if _, text := v.read(answer); answer.StatusCode != http.StatusOK || !strings.Contains(text, "the secret of direct") {
			t.Errorf("a call in the session at another node: %d %s", answer.StatusCode, text)
		}
		thief := v.at(g)
		thief.secret = foreign.Secret
		if resp := thief.send(http.MethodPost, harness.ToolCall(9, "direct", `{}`), ""); resp.StatusCode != http.StatusNotFound {
			t.Errorf("with another's session: %s", resp.Status)
		}
	}

	// The stream ends before the answer, and clients resume it at several nodes.
	event, _ := v.at(b).call("polled")
	answers := make([]*http.Response, 2*clusterNodes)
	var asked sync.WaitGroup
	for i := range answers {
		asked.Go(func() { answers[i] = v.at(cluster.Nodes[i%clusterNodes]).send(http.MethodGet, "", event) })
	}
	asked.Wait()
	charged := map[string]bool{}
	for _, resp := range answers {
		_, stream := v.read(resp)
		_, rest, ok := strings.Cut(stream, `"dev.farebox/charge":{"id":"`)
		id, _, _ := strings.Cut(rest, `"`)
		if !ok || !strings.Contains(stream, "the secret of polled") {
			t.Errorf("the rest of the stream: %d %q", resp.StatusCode, stream)
		}
		charged[id] = true
	}
	if len(charged) != 1 || p.ran("polled") != 1 {
		t.Errorf("%d runs, charges %v; want one", p.ran("polled"), charged)
	}

	// The client's connection breaks because its node is killed.
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	v.id += 10
	begun := v.at(c).sendWith(ctx, http.MethodPost, harness.ToolCall(v.id, "held", `{}`), "")
	line, err := bufio.NewReader(begun.Body).ReadString('\n')
	if err != nil || lastID(line) == "" {
		t.Fatalf("the stream begins with %q: %v", line, err)
	}
	c.Kill()
	<-p.broken
	for range 2 {
		if answer := v.at(a).comeBack(lastID(line)); paidFor(answer) == "" {
			t.Errorf("the rest of the stream: %q", answer.Body)
		}
	}
	c.Start(t)
	if n := len(chargesOf(t, c, "alice")); n != clusterNodes+2 || p.ran("held") != 1 {
		t.Errorf("%d charges, %d runs of the broken call; want %d and one", n, p.ran("held"), clusterNodes+2)
	}
	if got, want := nothingHeld(t, c, "alice").Balance, (100-clusterNodes-2)*cent; got != want {
		t.Errorf("balance %s, want %s", got, want)
	}
	if n := len(chargesOf(t, c, "mallory")); n != 0 {
		t.Errorf("%d charges to the account that was refused", n)
	}
	b.VerifyLedger(t)
}

// TestClusterRepeats checks promise 2 of docs/promises.md across nodes. The same call
// with one idempotency key arrives at all nodes at the same time. The server runs the
// call once, the call is charged once, and each caller gets that result, immediately or
// when the first call has ended.
func TestClusterRepeats(t *testing.T) {
	server, upstream := newCounted(t)
	cluster := startCluster(t, &postgres, harness.OnPostgres(harness.Site(upstream, "server counted", "provider acme", "unpriced 0.01")))
	key := cluster.NewAgent(t, "alice", 1000*cent)
	client := manyCalls(t, 2*clusterNodes)
	rounds := 20 * *clusterRounds
	inFlight, replayed := 0, 0
	for round := range rounds {
		tool := []string{"json_ok", "events_ok"}[round%2]
		name, arguments := fmt.Sprintf("order-%d", round), fmt.Sprintf(`{"n":%d}`, round)
		before := server.ran(tool)
		var mu sync.Mutex
		var callers sync.WaitGroup
		begin := make(chan struct{})
		charges, texts := map[string]bool{}, map[string]bool{}
		take := func(answer *harness.Answer) {
			mu.Lock()
			defer mu.Unlock()
			if id := paidFor(answer); id != "" {
				charges[id], texts[answer.Text()] = true, true
			} else {
				t.Errorf("round %d: %d %s", round, answer.Status, answer.Body)
			}
			if answer.Result != nil && answer.Result.Meta.Replayed {
				replayed++
			}
		}
		for caller := range 2 * clusterNodes {
			callers.Go(func() {
				<-begin
				for {
					answer, err := postKey(cluster.Nodes[caller%clusterNodes], client, key.Secret, name, harness.ToolCall(caller, tool, arguments))
					if err != nil {
						t.Error(err)
						return
					}
					if answer.Code() != "IDEMPOTENCY_IN_FLIGHT" {
						take(answer)
						return
					}
					mu.Lock()
					inFlight++
					mu.Unlock()
				}
			})
		}
		close(begin)
		callers.Wait()
		if ran := server.ran(tool) - before; ran != 1 || len(charges) != 1 || len(texts) != 1 {
			t.Errorf("round %d: %d runs, charges %v, answers %v; want one of each", round, ran, charges, texts)
		}
	}
	if n := len(chargesOf(t, cluster.Nodes[1], "alice")); n != rounds || replayed != rounds*(2*clusterNodes-1) {
		t.Errorf("%d charges and %d replays in %d rounds", n, replayed, rounds)
	}
	if got, want := nothingHeld(t, cluster.Nodes[0], "alice").Balance, 1000*cent-cent*ledger.Amount(rounds); got != want {
		t.Errorf("balance %s, want %s", got, want)
	}
	t.Logf("%d rounds; %d times a caller was told to wait", rounds, inFlight)
	cluster.Nodes[0].VerifyLedger(t)
}
