package integration

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/fareboxhq/farebox/integration/harness"
)

// tokenClient is an unmodified client that can change its token during a session.
type tokenClient interface {
	setToken(t *testing.T, secret string)
	// connect starts a new session with a new client.
	connect(t *testing.T) told
	call(t *testing.T, tool string, args map[string]any) told
}

// goTokenClient uses the official Go SDK.
type goTokenClient struct {
	endpoint string
	secret   atomic.Value // holds a string
	session  *mcp.ClientSession
}

// RoundTrip sends the request with the current token.
func (c *goTokenClient) RoundTrip(r *http.Request) (*http.Response, error) {
	if secret := c.secret.Load().(string); secret != "" {
		return harness.Bearer{Secret: secret}.RoundTrip(r)
	}
	return http.DefaultTransport.RoundTrip(r)
}

func (c *goTokenClient) setToken(_ *testing.T, secret string) { c.secret.Store(secret) }

func (c *goTokenClient) connect(t *testing.T) told {
	client := mcp.NewClient(&mcp.Implementation{Name: "farebox-test", Version: "1.0.0"}, nil)
	session, err := client.Connect(t.Context(), &mcp.StreamableClientTransport{Endpoint: c.endpoint, HTTPClient: &http.Client{Transport: c}}, nil)
	if err != nil {
		return told{err.Error(), true}
	}
	t.Cleanup(func() { _ = session.Close() })
	c.session = session
	return told{}
}

func (c *goTokenClient) call(t *testing.T, tool string, args map[string]any) told {
	return inSession(c.session)(t, tool, args)
}

// nodeTokenClient uses the official TypeScript SDK.
type nodeTokenClient struct{ *nodeClient }

func newNodeTokenClient(t *testing.T, endpoint string) *nodeTokenClient {
	t.Helper()
	c := &nodeTokenClient{startNode(t, "", "refused.mjs", endpoint)}
	t.Cleanup(func() {
		_ = c.in.Close()
		_ = c.cmd.Process.Kill() // Kill, because the program would keep running while its streams are open
		_ = c.cmd.Wait()
		if t.Failed() {
			t.Logf("the client of the TypeScript SDK: %s", c.stderr.Bytes())
		}
	})
	return c
}

func (c *nodeTokenClient) setToken(t *testing.T, secret string) {
	t.Helper()
	c.do(t, map[string]any{"token": secret})
}

func (c *nodeTokenClient) connect(t *testing.T) told {
	t.Helper()
	return c.do(t, map[string]any{"connect": true})
}

func (c *nodeTokenClient) call(t *testing.T, tool string, args map[string]any) told {
	t.Helper()
	return c.do(t, map[string]any{"tool": tool, "args": args})
}

// TestRefusedClientsGoOn checks promise 8 of docs/promises.md as the official clients
// see it. A missing, invalid or expired token, or one without a required scope, is
// refused with a text that reaches the user, in both error styles. The same client then
// makes a permitted call.
func TestRefusedClientsGoOn(t *testing.T) {
	t.Parallel()
	for _, style := range []string{"mcp", "http"} {
		for _, client := range []string{"go-sdk", "typescript"} {
			t.Run(client+" "+style, func(t *testing.T) {
				t.Parallel()
				upstream := binaries.StartBilling(t)
				g := binaries.StartGateway(t, billingCaddyfile(t, upstream, strings.NewReplacer("unpriced deny", "unpriced deny\n\t\t\terror_style "+style, "rate_limit 120/1m burst 60", "rate_limit 10000/1m")))
				g.CLI(t, nil, "account", "create", "alice")
				r := &refusedClient{gateway: g}
				if client == "go-sdk" {
					r.tokenClient = &goTokenClient{endpoint: g.Endpoint()}
				} else {
					r.tokenClient = newNodeTokenClient(t, g.Endpoint())
				}
				r.converse(t)
			})
		}
	}
}

// refusedClient is a client that makes several refused calls in one session.
type refusedClient struct {
	tokenClient
	gateway *harness.Gateway
}

func (r *refusedClient) converse(t *testing.T) {
	reader := r.gateway.NewKey(t, "alice", "--kind", "personal", "--name", "reader", "--scope", "billing.read")
	// A client has no session and cannot continue if its initialize request is
	// refused, so each attempt uses a new client.
	r.setToken(t, "")
	r.refused(t, "initialize without a token", r.connect(t), "Token missing")
	r.setToken(t, mistype(reader.Secret))
	r.refused(t, "a hello with a wrong token", r.connect(t), "Invalid agent token")
	r.setToken(t, reader.Secret)
	if hello := r.connect(t); hello.Failed {
		t.Fatalf("initialize with a good token: %+v", hello)
	}
	r.works(t, "at first")

	r.refused(t, "want of a scope", r.call(t, "create_invoice", map[string]any{"customer": "x", "cents": 1, "due": "2026-12-31"}),
		`The tool "create_invoice" was not called and nothing was charged: it needs the scope billing.write, and this key lacks billing.write`)
	r.works(t, "after want of a scope")

	// This key has the scopes, but its account has no balance.
	poor := r.gateway.NewKey(t, "alice", "--kind", "personal", "--name", "poor", "--scope", "billing.agent", "--scope", "agent:connect")
	r.setToken(t, poor.Secret)
	r.refused(t, "want of money", r.call(t, "send_reminder", map[string]any{"id": "1002"}), "one call costs 0.05 USD")
	r.works(t, "after want of money")

	r.setToken(t, "")
	r.refused(t, "no token", r.list(t), "Token missing")
	r.setToken(t, reader.Secret)
	r.works(t, "after no token")

	r.setToken(t, mistype(reader.Secret))
	r.refused(t, "an invalid token", r.list(t), "Invalid agent token")
	r.setToken(t, reader.Secret)
	r.works(t, "after an invalid token")

	// A key that is disabled and enabled again works with the same token.
	r.gateway.CLI(t, nil, "key", "disable", reader.ID)
	r.refused(t, "a disabled key", r.list(t), "Invalid agent token")
	r.gateway.CLI(t, nil, "key", "enable", reader.ID)
	r.works(t, "after a disabled key")
	r.expires(t)
}

// expires makes calls with a key that expires soon, until a call is refused. Then
// the method extends the key's expiry.
func (r *refusedClient) expires(t *testing.T) {
	t.Helper()
	short := r.gateway.NewKey(t, "alice", "--kind", "personal", "--name", "short", "--scope", "billing.read", "--expires", "3s")
	r.setToken(t, short.Secret)
	var last told
	harness.Eventually(t, "the key's end", func() error {
		if last = r.list(t); !last.Failed {
			return errNotYet
		}
		return nil
	})
	r.refused(t, "an expired key", last, "Agent token expired")
	answer, err := ask(r.gateway, short.Secret, harness.ToolCall(1, "list_invoices", `{}`))
	if err != nil || answer.status != 401 || answer.code != "TOKEN_EXPIRED" || answer.header.Get("WWW-Authenticate") != `Bearer realm="billing", error="invalid_token"` {
		t.Errorf("an expired key: %d %s %v, %v", answer.status, answer.code, answer.header, err)
	}
	r.gateway.CLI(t, nil, "key", "update", short.ID, "--expires", "1h")
	r.works(t, "after an expired key was given more time")
}

func (r *refusedClient) list(t *testing.T) told {
	t.Helper()
	return r.call(t, "list_invoices", map[string]any{})
}

func (r *refusedClient) works(t *testing.T, when string) {
	t.Helper()
	if got := r.list(t); got.Failed || !strings.Contains(got.Text, "invoice 1001: Aurora Bakery") {
		t.Errorf("%s: %+v", when, got)
	}
}

// refused checks that the text shown to the user contains the refusal's words.
func (r *refusedClient) refused(t *testing.T, what string, got told, words string) {
	t.Helper()
	if !got.Failed || !strings.Contains(strings.ReplaceAll(got.Text, `\"`, `"`), words) {
		t.Errorf("%s: the user sees %q; want it to contain %q", what, got.Text, words)
	}
}
