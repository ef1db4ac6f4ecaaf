package integration

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/fareboxhq/farebox/integration/harness"
)

// TestClusterOneIDAtATime checks promise 1 of docs/promises.md with a server that finds
// its streams by request id. At most one request with the same id is open at the server
// at any time, whichever nodes get the requests. Otherwise a free call at one node
// could be answered with the paid result of a call at another.
func TestClusterOneIDAtATime(t *testing.T) {
	server := &byID{streams: make(map[string]chan string), arrived: make(chan string, 10), answer: make(chan struct{})}
	upstream := httptest.NewServer(server)
	t.Cleanup(upstream.Close)
	t.Cleanup(upstream.CloseClientConnections)
	cluster := startCluster(t, &postgres, harness.OnPostgres(harness.Site(upstream.URL, "server confused", "provider acme", "price dear 1.00", "free cheap")))
	key := cluster.NewAgent(t, "alice", 1000*cent)
	begun := post(t, cluster.Nodes[0], key.Secret, `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`)
	send := func(g *harness.Gateway, body string) *harness.Answer {
		r, err := http.NewRequest(http.MethodPost, g.Endpoint(), strings.NewReader(body))
		if err != nil {
			t.Error(err)
			return nil
		}
		r.Header.Set("Mcp-Session-Id", begun.Header.Get("Mcp-Session-Id"))
		answer, err := g.Send(http.DefaultClient, key.Secret, r)
		if err != nil {
			t.Error(err)
		}
		return answer
	}
	paid := make(chan *harness.Answer, 1)
	go func() { paid <- send(cluster.Nodes[0], harness.ToolCall(1, "dear", `{}`)) }()
	<-server.arrived
	for i, node := range cluster.Nodes {
		if answer := send(node, harness.ToolCall(1, "cheap", `{}`)); answer == nil || answer.Status != http.StatusOK || !strings.Contains(string(answer.Body), "needs an id of its own") {
			t.Errorf("the same id at node %d: %+v", i, answer)
		}
	}
	close(server.answer)
	if answer := <-paid; answer == nil || answer.Status != http.StatusOK {
		t.Errorf("the paid call: %+v", answer)
	}
	if charges := chargesOf(t, cluster.Nodes[2], "alice"); len(charges) != 1 {
		t.Errorf("charges %+v, want one", charges)
	}
	// After the answer the id is free at every node.
	for i, node := range cluster.Nodes {
		if answer := send(node, harness.ToolCall(1, "dear", `{}`)); answer == nil || answer.Status != http.StatusOK {
			t.Errorf("the id again at node %d: %+v", i, answer)
		}
	}
}
