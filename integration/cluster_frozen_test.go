package integration

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/integration/harness"
	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/engine"
	"github.com/fareboxhq/farebox/internal/ledger"

	"github.com/fareboxhq/farebox/internal/clock"
)

const (
	frozenCallers = 4 // number of callers at each node, all on one account
	frozenRounds  = 3
	// frozenChangers is the number of goroutines that rename keys through the frozen
	// node.
	frozenChangers = 3
	frozenCalls    = workerJSON // the path of the site for calls; sessions use /mcp
	// frozenSlack is the delay a busy machine may add to the lease.
	frozenSlack = 1500 * time.Millisecond
	// frozenLongest is the time limit for a call at a healthy node while the other
	// node is frozen. It is far below the time after which the database gives up on
	// the locks of a silent client.
	frozenLongest = 3 * time.Second
)

// frozen is a cluster in which the last node is frozen repeatedly while callers
// spend one account's balance at all nodes.
type frozen struct {
	t       *testing.T
	cluster *harness.Cluster
	client  *http.Client
	key     harness.Key // the callers' key

	charged [clusterNodes]atomic.Int64
	longest [clusterNodes]atomic.Int64 // duration of the longest call at each node, in nanoseconds; reset in each round
}

func (f *frozen) sick() *harness.Gateway { return f.cluster.Nodes[clusterNodes-1] }

// load makes calls at a node until the context ends.
func (f *frozen) load(ctx context.Context, n int) {
	for id := 1; ctx.Err() == nil; id++ {
		began := clock.Now()
		answer, err := postAt(f.t.Context(), f.cluster.Nodes[n], f.client, frozenCalls, f.key.Secret, harness.ToolCall(id, "weave", `{}`))
		switch {
		case err != nil:
			f.t.Errorf("a call at node %d: %v", n, err)
		case paidFor(answer) == "" && n < clusterNodes-1:
			f.t.Errorf("a call at node %d: %d %s", n, answer.Status, answer.Body)
		case paidFor(answer) == "" && answer.Code() != "STORE_UNAVAILABLE" && answer.Code() != "CHARGE_FAILED":
			f.t.Errorf("a call at the node that was stopped: %d %s", answer.Status, answer.Body)
		case paidFor(answer) != "":
			f.charged[n].Add(1)
		}
		took := int64(clock.Since(began))
		for was := f.longest[n].Load(); took > was && !f.longest[n].CompareAndSwap(was, took); was = f.longest[n].Load() {
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// change renames a key again and again through the node that freezes, so that the
// node may freeze in the middle of a transaction.
func (f *frozen) change(ctx context.Context, id string, n int) {
	client := f.sick().AdminClient()
	for ctx.Err() == nil {
		n++
		_, err := client.Do(f.t.Context(), http.MethodPatch, "keys/"+id, map[string]any{"name": fmt.Sprintf("name %d", n)})
		if refused := (*admin.Error)(nil); err != nil && (!errors.As(err, &refused) || refused.Code != admin.Unavailable) {
			f.t.Errorf("a key could not be renamed: %v", err)
		}
	}
}

// queued is a request that waits in the socket of the frozen node.
type queued struct {
	what, secret, code string // code is the code of the expected refusal; "" if the call must be charged
	conn               net.Conn
}

// queue opens a connection for the request q to the node that will be frozen. If warm
// is true, queue also makes a first call on this connection.
func (f *frozen) queue(q *queued, warm bool) {
	f.t.Helper()
	conn, err := net.Dial("tcp", "127.0.0.1:"+f.sick().Port)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { conn.Close() })
	q.conn = conn
	if warm { // a call makes the node accept the connection and keep the key in memory
		if answer := f.ask(q); answer == nil || answer.StatusCode != http.StatusOK {
			f.t.Fatalf("%s: before the node was stopped: %+v", q.what, answer)
		}
	}
}

func (f *frozen) write(q *queued) {
	body := harness.ToolCall(1, "weave", `{}`)
	fmt.Fprintf(q.conn, "POST %s HTTP/1.1\r\nHost: localhost:%s\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\n"+
		"Accept: application/json, text/event-stream\r\nContent-Length: %d\r\n\r\n%s", frozenCalls, f.sick().Port, q.secret, len(body), body)
}

// read reads the response to a queued request.
func (f *frozen) read(q *queued) *http.Response {
	f.t.Helper()
	if err := q.conn.SetReadDeadline(clock.Deadline(harness.Patience)); err != nil {
		f.t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(q.conn), nil)
	if err != nil {
		f.t.Errorf("%s: %v", q.what, err)
		return nil
	}
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		f.t.Errorf("%s: %v", q.what, err)
	}
	resp.Status = resp.Status + " " + string(text)
	return resp
}

func (f *frozen) ask(q *queued) *http.Response {
	f.write(q)
	return f.read(q)
}

// TestClusterFrozenNode checks promise 6 of docs/promises.md when a node freezes with
// keys in memory, streams open and calls under way. A key deleted through another node
// stops working when the frozen node's lease expires, and the delete returns at that
// moment. In the meantime the other nodes keep charging the same account. When the node
// wakes, it judges each queued request by the current state of the request's key. The
// node also ends the streams of deleted keys.
func TestClusterFrozenNode(t *testing.T) {
	sessions := harness.Site(binaries.StartWeather(t), "server weather", "provider acme", "unpriced free")
	calls := harness.Site(startWorker(t).url, "server worker", "provider acme", "free dig", "unpriced 0.01")
	f := &frozen{t: t, client: manyCalls(t, frozenCallers)}
	f.cluster = startCluster(t, &postgres, harness.OnPostgres(withHandle(sessions, calls, frozenCalls)))
	f.key = f.cluster.NewAgent(t, "hot", 10000*ledger.Unit)
	ctx, stop := context.WithCancel(t.Context())
	var callers sync.WaitGroup
	for n := range clusterNodes {
		for range frozenCallers {
			callers.Go(func() { f.load(ctx, n) })
		}
	}
	for i := range frozenChangers {
		key := f.cluster.NewKey(t, f.sick().AdminClient(), map[string]any{"account": "hot"})
		callers.Go(func() { f.change(ctx, key.ID, i) })
	}
	for range frozenRounds * *clusterRounds {
		f.round()
	}
	stop()
	callers.Wait()
	for n := range f.charged {
		if f.charged[n].Load() == 0 {
			t.Errorf("node %d charged nothing", n)
		}
	}
	if held := nothingHeld(t, f.sick(), "hot"); held.Balance >= 10000*ledger.Unit {
		t.Errorf("balance %s", held.Balance)
	}
	f.sick().VerifyLedger(t)
}

// round freezes the last node, deletes and disables keys through other nodes, and
// wakes the node.
func (f *frozen) round() {
	t := f.t
	t.Helper()
	operator := f.cluster.Nodes[0].AdminClient()
	newKey := func() harness.Key { return f.cluster.NewKey(t, operator, map[string]any{"account": "hot"}) }
	doomed, disabled, spared, streaming := newKey(), newKey(), newKey(), newKey()
	requests := []*queued{
		{what: "by a deleted key, on a connection that it knows", secret: doomed.Secret, code: "TOKEN_INVALID"},
		{what: "by a deleted key, on a new connection", secret: doomed.Secret, code: "TOKEN_INVALID"},
		{what: "by a disabled key", secret: disabled.Secret, code: "TOKEN_INVALID"},
		{what: "by a key that is as it was", secret: spared.Secret},
	}
	for i, q := range requests {
		if i != 1 {
			f.queue(q, true)
		}
	}
	stream := f.openStream(streaming.Secret)
	for n := range f.longest {
		f.longest[n].Store(0)
	}
	before := [...]int64{f.charged[0].Load(), f.charged[1].Load()}

	f.sick().Process().Freeze(t)
	stopped := clock.Now()
	woken := false
	defer func() {
		if !woken {
			f.sick().Process().Signal(t, syscall.SIGCONT)
		}
	}()
	f.queue(requests[1], false)
	for _, q := range requests {
		f.write(q)
	}
	var ends sync.WaitGroup
	took := make([]time.Duration, 3)
	for i, end := range []struct {
		node         int
		method, path string
	}{
		{0, http.MethodDelete, "keys/" + doomed.ID}, {1, http.MethodPost, "keys/" + disabled.ID + "/disable"}, {1, http.MethodDelete, "keys/" + streaming.ID},
	} {
		client := f.cluster.Nodes[end.node].AdminClient()
		ends.Go(func() {
			began := clock.Now()
			if _, err := client.Do(t.Context(), end.method, end.path, nil); err != nil {
				t.Error(err)
			}
			took[i] = clock.Since(began)
		})
	}
	ends.Wait()
	for n, was := range before {
		harness.Eventually(t, "the other nodes to charge", func() error {
			if f.charged[n].Load() < was+10 {
				return errNotYet
			}
			return nil
		})
	}
	standstill := clock.Since(stopped)
	for _, d := range took {
		if d > engine.LeaseTime+frozenSlack {
			t.Errorf("a change of a key took %s; want at most the lease of %s, and %s", d, engine.LeaseTime, frozenSlack)
		}
	}
	charged := f.charged[0].Load() + f.charged[1].Load() - before[0] - before[1]
	longest := time.Duration(max(f.longest[0].Load(), f.longest[1].Load()))
	if longest > frozenLongest {
		t.Errorf("a call at a healthy node took %s; want at most %s", longest, frozenLongest)
	}

	f.sick().Process().Signal(t, syscall.SIGCONT)
	woken = true
	for _, q := range requests {
		resp := f.read(q)
		if resp == nil {
			continue
		}
		if refused := resp.StatusCode == http.StatusUnauthorized; refused != (q.code != "") {
			t.Errorf("%s: %s", q.what, resp.Status)
		}
	}
	select {
	case <-stream:
	case <-time.After(time.Second + frozenSlack):
		t.Error("a stream of a deleted key goes on")
	}
	for _, q := range requests {
		answer, err := postAt(t.Context(), f.sick(), f.client, frozenCalls, q.secret, harness.ToolCall(2, "dig", `{}`))
		if err != nil {
			t.Fatal(err)
		}
		if answer.Code() != q.code {
			t.Errorf("afterwards, %s: %d %s", q.what, answer.Status, answer.Body)
		}
	}
	t.Logf("stopped for %s: changes of keys took %s, %s and %s; the others charged %d calls, of which the longest took %s",
		standstill.Round(time.Millisecond), took[0].Round(time.Millisecond), took[1].Round(time.Millisecond), took[2].Round(time.Millisecond),
		charged, longest.Round(time.Millisecond))
}

// openStream opens a stream at the last node. It returns a channel that is
// closed when the stream has ended.
func (f *frozen) openStream(secret string) <-chan struct{} {
	f.t.Helper()
	resp := openStream(f.t, f.sick(), secret)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer resp.Body.Close()
		_, _ = io.Copy(io.Discard, resp.Body) // the stream may end in any way
	}()
	return ended
}
