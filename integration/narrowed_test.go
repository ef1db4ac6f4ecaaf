package integration

import (
	"bufio"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/integration/harness"

	"github.com/fareboxhq/farebox/internal/clock"
)

// quietUpstream is a server that answers with empty streams and keeps them
// open.
func quietUpstream(t *testing.T) *httptest.Server {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, ": open\n\n")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}))
	t.Cleanup(upstream.Close)
	t.Cleanup(upstream.CloseClientConnections)
	return upstream
}

// TestStreamsEndWithTheirScopes checks promise 6 of docs/promises.md. A stream that
// reports changes of a resource ends within a second after its key loses the required
// scope. A stream that needs no scope stays open, and so does a stream with a key that
// keeps the scope.
func TestStreamsEndWithTheirScopes(t *testing.T) {
	t.Parallel()
	upstream := quietUpstream(t)
	g := binaries.StartGateway(t, billingCaddyfile(t, upstream.URL, nil))
	g.CLI(t, nil, "account", "create", "alice")
	for _, c := range []struct {
		name, listen string
		scopes       []string // the key's scopes after the change
		ends         bool
	}{
		{"loses it", `"resourceSubscriptions":["invoice://1002"]`, []string{"billing.write"}, true},
		{"has it by inheritance", `"resourceSubscriptions":["invoice://1002"]`, []string{"billing.agent"}, false},
		{"needs none", `"toolsListChanged":true`, []string{"billing.write"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			key := g.NewKey(t, "alice", "--kind", "personal", "--name", "listener", "--scope", "billing.read")
			resp := listenFor(t, g, key.Secret, c.listen)
			defer resp.Body.Close()
			ended := make(chan time.Time, 1)
			go func() {
				for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
				}
				ended <- clock.Now()
			}()
			command := []string{"key", "update", key.ID}
			for _, s := range c.scopes {
				command = append(command, "--scope", s)
			}
			g.CLI(t, nil, command...)
			returned := clock.Now()
			if !c.ends {
				select {
				case <-ended:
					t.Fatal("the stream has ended")
				case <-time.After(time.Second): // long enough for the stream to have ended
				}
				g.CLI(t, nil, "key", "delete", key.ID)
				returned = clock.Now()
			}
			select {
			case at := <-ended:
				if late := at.Sub(returned); late > time.Second {
					t.Errorf("the stream lived on for %v", late)
				}
			case <-time.After(5 * time.Second):
				t.Error("the stream lives on")
			}
		})
	}
}

// listenFor opens a stream in the protocol version without sessions.
func listenFor(t *testing.T, g *harness.Gateway, secret, what string) *http.Response {
	t.Helper()
	body := `{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{"notifications":{` + what + `},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}`
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, g.Endpoint(), strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"Content-Type": "application/json", "Accept": "application/json, text/event-stream", "Authorization": "Bearer " + secret,
		"Mcp-Protocol-Version": "2026-07-28", "Mcp-Method": "subscriptions/listen",
	} {
		r.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("no stream: %s", resp.Status)
	}
	return resp
}

// TestStreamsEndWithTheirRules checks promise 6 of docs/promises.md when the operator
// narrows the config. A reload that requires other scopes ends the streams that only
// the old rules allowed. A reload that changes something else ends no stream.
func TestStreamsEndWithTheirRules(t *testing.T) {
	t.Parallel()
	upstream := quietUpstream(t)
	config := billingCaddyfile(t, upstream.URL, nil)
	g := binaries.StartGateway(t, config)
	g.CLI(t, nil, "account", "create", "alice")
	key := g.NewKey(t, "alice", "--kind", "personal", "--name", "listener", "--scope", "billing.read")
	resp := listenFor(t, g, key.Secret, `"resourceSubscriptions":["invoice://1002"]`)
	defer resp.Body.Close()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = io.Copy(io.Discard, resp.Body)
	}()
	load := func(config string) {
		t.Helper()
		if status, answer := reload(t, g, config); status != http.StatusOK {
			t.Fatalf("reload: %d %s", status, answer)
		}
	}
	load(strings.Replace(config, "provider acme", "provider acme\n\t\t\tmax_body 1MiB", 1))
	select {
	case <-ended:
		t.Fatal("the stream has ended with a config of the same rules")
	case <-time.After(time.Second): // long enough for the stream to have ended
	}
	load(strings.Replace(config, "provider acme", "provider acme\n\t\t\tscope \"resource:invoice://1002\" billing.write", 1))
	select {
	case <-ended:
	case <-time.After(5 * time.Second):
		t.Error("the stream lives on under rules that would not let it be opened")
	}
}
