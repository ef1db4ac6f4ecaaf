package integration

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/fareboxhq/farebox/integration/harness"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/ops"
)

// lawless is a gateway in front of a server that breaks the rules of HTTP and MCP.
type lawless struct {
	gateway  *harness.Gateway
	server   *harness.RawServer
	plays    sync.Map // the server's actions by path: func(*harness.RawExchange)
	balances chan *balance
	client   *http.Client
	trap     *trap
}

// balance is an account that makes one call at a time, with its remaining balance.
type balance struct {
	name, secret string
	left         ledger.Amount
	admin        *ops.Client
}

// trap is a server that the gateway must not call.
type trap struct {
	mu   sync.Mutex
	seen []string
	url  string
}

func (p *trap) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen = append(p.seen, fmt.Sprintf("%s %s %v", r.Method, r.URL, r.Header))
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, goodAnswer)
}

// lawlessSite has a route for each kind of server that needs its own config.
const lawlessSite = `
	handle /mcp/slow/* {
		farebox {
			server slow
			provider acme
			price * 0.01
			max_call ` + spitePatience + `
		}
		reverse_proxy SERVER {
			header_up Host {upstream_hostport}
		}
	}
	handle /mcp/closed/* {
		farebox {
			server closed
			provider acme
			price * 0.01
		}
		reverse_proxy CLOSED {
			header_up Host {upstream_hostport}
		}
	}
	handle /mcp/slammed/* {
		farebox {
			server slammed
			provider acme
			price * 0.01
		}
		reverse_proxy SLAMMED {
			header_up Host {upstream_hostport}
		}
	}
	handle /mcp* {`

func newLawless(t *testing.T) *lawless {
	b := &lawless{
		trap: &trap{},
		client: &http.Client{
			Transport:     &http.Transport{DisableCompression: true, DisableKeepAlives: true, MaxResponseHeaderBytes: 32 << 20},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	trapped := httptest.NewServer(b.trap)
	t.Cleanup(trapped.Close)
	b.trap.url = trapped.URL
	b.server = harness.ServeRaw(t, func(e *harness.RawExchange) {
		play, _ := b.plays.Load(e.Request.URL.Path)
		play.(func(*harness.RawExchange))(e)
	})
	site := harness.SiteWithProxy(b.server.URL, "server spiteful", "provider acme", "price * 0.01", "free list_cities", "receipts on")
	places := strings.NewReplacer("SERVER", strings.TrimPrefix(b.server.URL, "http://"), "CLOSED", "127.0.0.1:"+harness.FreePort(t), "SLAMMED", slam(t))
	site = strings.Replace(site, "\n\thandle /mcp* {", places.Replace(lawlessSite), 1)
	// The server may close a kept connection at any time. A call on that connection
	// would fail, because the gateway sends a call only once. So the proxy keeps no
	// connections.
	site = strings.ReplaceAll(site, "header_up Host {upstream_hostport}", "transport http {\n\t\t\t\tkeepalive off\n\t\t\t}")
	b.gateway = binaries.StartGateway(t, site)
	const balances = 64
	b.balances = make(chan *balance, balances)
	for i := range balances {
		b.balances <- b.newBalance(t, fmt.Sprintf("agent%d", i))
	}
	return b
}

// plan sets how the server answers requests to this path.
func (b *lawless) plan(path string, play func(*harness.RawExchange)) { b.plays.Store(path, play) }

// slam starts a server that closes each connection immediately.
func slam(t *testing.T) (address string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return // the listener is closed
			}
			_ = conn.Close()
		}
	}()
	return listener.Addr().String()
}

func (b *lawless) newBalance(t *testing.T, name string) *balance {
	t.Helper()
	p := &balance{name: name, left: spiteCredit, admin: b.gateway.AdminClient()}
	var key harness.Key
	for _, step := range []struct {
		path string
		body any
		into any
	}{
		{"accounts", map[string]any{"name": name}, nil},
		{"accounts/" + name + "/credits", map[string]any{"amount": spiteCredit, "reason": "for the test"}, nil},
		{"keys", map[string]any{"account": name}, &key},
	} {
		raw, err := p.admin.Do(t.Context(), http.MethodPost, step.path, step.body)
		if err == nil && step.into != nil {
			err = json.Unmarshal(raw, step.into)
		}
		if err != nil {
			t.Fatalf("%s: %v", step.path, err)
		}
	}
	b.gateway.AddSecret(key.Secret)
	p.secret = key.Secret
	return p
}
