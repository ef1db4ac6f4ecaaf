package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	goclient "github.com/mark3labs/mcp-go/client"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/fareboxhq/farebox/integration/harness"
)

// connectCommand prepares "farebox connect" for an address.
func connectCommand(t *testing.T, address, secret string, flags ...string) *exec.Cmd {
	t.Helper()
	cmd := command(t, "", binaries.Farebox, append([]string{"connect", address}, flags...)...)
	cmd.Env = append(cmd.Env, "AGENT_TOKEN="+secret)
	return cmd
}

// connected opens a session of the official Go SDK through a bridge. version is the
// protocol version that the client begins with.
func connected(t *testing.T, cmd *exec.Cmd, version string) *mcp.ClientSession {
	t.Helper()
	session, err := connectThrough(t, cmd, version)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = session.Close() })
	return session
}

// connectThrough is connected for bridges that may end before the session begins.
func connectThrough(t *testing.T, cmd *exec.Cmd, version string) (*mcp.ClientSession, error) {
	client := mcp.NewClient(&mcp.Implementation{Name: "farebox-test", Version: "1.0.0"}, nil)
	return client.Connect(t.Context(), &mcp.CommandTransport{Command: cmd}, &mcp.ClientSessionOptions{ProtocolVersion: version})
}

// TestConnectClients checks promises 2, 3 and 8 of docs/promises.md for clients that only
// start programs, as TestClients does for those that use HTTP: three unmodified clients
// make free, paid and refused calls through "farebox connect".
func TestConnectClients(t *testing.T) {
	t.Parallel()
	g := binaries.StartGateway(t, harness.Site(binaries.StartEverything(t), "server everything", "provider acme",
		"price echo 0.01", "free get-annotated-message", "unpriced deny"))
	for name, open := range map[string]func(*testing.T, *harness.Gateway, string) caller{
		"go-sdk": func(t *testing.T, g *harness.Gateway, secret string) caller {
			return inSession(connected(t, connectCommand(t, g.Endpoint(), secret), ""))
		},
		"mcp-go": mcpGoStdio, "typescript": typeScriptStdio, "inspector": inspectorStdio,
	} {
		t.Run(name, func(t *testing.T) {
			_, key := g.NewAgent(t, name, "0.01")
			converse(t, g, name, open(t, g, key.Secret))
		})
	}
	g.VerifyLedger(t)
}

func mcpGoStdio(t *testing.T, g *harness.Gateway, secret string) caller {
	client, err := goclient.NewStdioMCPClient(binaries.Farebox, []string{"AGENT_TOKEN=" + secret}, "connect", g.Endpoint())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return byMCPGo(t, client)
}

func typeScriptStdio(t *testing.T, g *harness.Gateway, secret string) caller {
	p := startNode(t, secret, "stdio.mjs", binaries.Farebox, "connect", g.Endpoint())
	t.Cleanup(func() {
		_ = p.in.Close()
		if err := p.cmd.Wait(); err != nil {
			t.Errorf("the client of the TypeScript SDK: %v\n%s", err, p.stderr.Bytes())
		}
	})
	return func(t *testing.T, tool string, args map[string]any) told {
		t.Helper()
		return p.do(t, map[string]any{"tool": tool, "args": args})
	}
}

// inspectorStdio runs the inspector's command line once for each call, with a bridge as
// its server.
func inspectorStdio(t *testing.T, g *harness.Gateway, secret string) caller {
	launcher := binaries.Module(t, "@modelcontextprotocol", "inspector", "clients", "launcher", "build", "index.js")
	return func(t *testing.T, tool string, args map[string]any) told {
		t.Helper()
		cmd := command(t, "", binaries.Node(t), launcher, "--cli", "-e", "AGENT_TOKEN="+secret, "--quiet", "--format", "json",
			"--method", "tools/call", "--tool-name", tool, "--tool-args-json", encode(t, args), binaries.Farebox, "connect", g.Endpoint())
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		err := cmd.Run()
		if stdout.Len() == 0 {
			return told{stderr.String(), err != nil}
		}
		var printed struct {
			Result mcp.CallToolResult `json:"result"`
		}
		if err := json.Unmarshal(stdout.Bytes(), &printed); err != nil {
			t.Fatalf("%v in %s", err, stdout.Bytes())
		}
		return told{harness.Text(&printed.Result), err != nil}
	}
}

// losing is a proxy before a gateway that loses answers: the gateway does its work, and
// the caller's connection breaks.
type losing struct {
	url  string
	lose atomic.Int64 // answers to calls that will still be lost
	lost atomic.Int64
}

func startLosing(t *testing.T, g *harness.Gateway) *losing {
	t.Helper()
	target, err := url.Parse("http://localhost:" + g.Port)
	if err != nil {
		t.Fatal(err)
	}
	l := &losing{}
	proxy := &httputil.ReverseProxy{FlushInterval: -1, Rewrite: func(p *httputil.ProxyRequest) {
		p.SetURL(target)
		p.Out.Host = target.Host
	}}
	proxy.ModifyResponse = func(r *http.Response) error {
		if r.Request.Context().Value(losing{}) == nil {
			return nil
		}
		_, err := io.Copy(io.Discard, r.Body) // the gateway has sent everything
		if err == nil {
			err = errors.New("lost")
		}
		return err
	}
	proxy.ErrorHandler = func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) }
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		if bytes.Contains(body, []byte(`"tools/call"`)) && l.lose.Add(-1) >= 0 {
			l.lost.Add(1)
			r = r.WithContext(context.WithValue(r.Context(), losing{}, true))
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	t.Cleanup(s.CloseClientConnections)
	l.url = s.URL + "/mcp"
	return l
}

// TestConnectLostAnswers checks promises 2 and 4 of docs/promises.md through the bridge:
// a paid call has its answer lost on the way, twice, and is charged and run once. The
// client gets the result of that run.
func TestConnectLostAnswers(t *testing.T) {
	t.Parallel()
	for _, version := range revisions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			w := startWorker(t)
			g := binaries.StartGateway(t, harness.Site(w.url, "server worker", "provider acme", "price * 0.01"))
			_, key := g.NewAgent(t, "agent", "1.00")
			l := startLosing(t, g)
			session := connected(t, connectCommand(t, l.url, key.Secret), version)
			l.lose.Store(2)
			result, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "dig"})
			if err != nil || harness.Text(result) != workerResult {
				t.Fatalf("%v, %v", result, err)
			}
			meta := harness.ReadMeta(t, result.Meta)
			charges := g.Charges(t, "agent")
			if len(charges) != 1 || meta.Charge == nil || charges[0].ID != meta.Charge.ID || !meta.Replayed {
				t.Errorf("%d charges; the result has %+v", len(charges), meta)
			}
			if w.runs.Load() != 1 || l.lost.Load() != 2 {
				t.Errorf("%d runs; %d answers were lost", w.runs.Load(), l.lost.Load())
			}
			g.VerifyLedger(t)
		})
	}
}

// TestConnectKill checks promises 1, 2 and 4 of docs/promises.md: while callers use one
// bridge, the gateway is killed and started again several times. Each call gets a result,
// and each result has a captured charge of its own: the repetitions are free.
func TestConnectKill(t *testing.T) {
	t.Parallel()
	for _, version := range revisions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			connectKill(t, version)
		})
	}
}

func connectKill(t *testing.T, version string) {
	const callers, each, kills = 12, 40, 3
	w := startWorker(t)
	g := binaries.StartGateway(t, harness.Site(w.url, "server worker", "provider acme", "price * 0.01"))
	_, key := g.NewAgent(t, "agent", "100.00")
	session := connected(t, connectCommand(t, g.Endpoint(), key.Secret), version)
	var (
		mu       sync.Mutex
		received = map[string]int{}
		group    sync.WaitGroup
		done     atomic.Int64
	)
	reached := make(chan struct{}, callers*each)
	for caller := range callers {
		group.Go(func() {
			for i := range each {
				result, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: pick(workerTools, caller+i)})
				if err != nil || result.IsError {
					t.Errorf("call %d of caller %d: %v %v", i, caller, result, err)
					return
				}
				charge := harness.ReadMeta(t, result.Meta).Charge
				if charge == nil {
					t.Errorf("a result without a charge")
					return
				}
				mu.Lock()
				received[charge.ID]++
				mu.Unlock()
				done.Add(1)
				reached <- struct{}{}
			}
		})
	}
	for range kills {
		for range callers * each / (kills + 1) {
			<-reached
		}
		g.Kill()
		g.Start(t)
	}
	group.Wait()
	charges := g.Charges(t, "agent")
	if len(charges) != callers*each || len(received) != callers*each {
		t.Errorf("%d charges and %d results for %d calls", len(charges), len(received), callers*each)
	}
	for _, c := range charges {
		if received[c.ID] != 1 || c.State != "captured" {
			t.Errorf("charge %s: %s, received %d times", c.ID, c.State, received[c.ID])
		}
	}
	g.VerifyLedger(t)
}

// TestConnectBudget checks the limits of a bridge at a real gateway: a budget
// for three calls pays three of ten concurrent ones, a call above the highest price is refused by
// the gateway, and stderr has the sums.
func TestConnectBudget(t *testing.T) {
	t.Parallel()
	w := startWorker(t)
	g := binaries.StartGateway(t, harness.Site(w.url, "server worker", "provider acme", "price dig 0.05", "price * 0.01"))
	_, key := g.NewAgent(t, "agent", "1.00")
	var stderr bytes.Buffer // read after the bridge has ended
	cmd := connectCommand(t, g.Endpoint(), key.Secret, "--budget", "0.03", "--max-price", "0.02", "--verbose")
	cmd.Stderr = &stderr
	session := connected(t, cmd, "")
	if _, err := session.ListTools(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if result, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "dig"}); err != nil || harness.ReadMeta(t, result.Meta).Error == nil || harness.ReadMeta(t, result.Meta).Error.Code != "PRICE_ABOVE_MAX" {
		t.Errorf("a call above the highest price: %v %v", result, err)
	}
	cheap := workerTools[1]
	var paid, refused atomic.Int64
	var group sync.WaitGroup
	for range 10 {
		group.Go(func() {
			result, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: cheap})
			switch {
			case err != nil:
				t.Error(err)
			case !result.IsError:
				paid.Add(1)
			case strings.Contains(harness.Text(result), "of the budget of 0.03 USD"):
				refused.Add(1)
			default:
				t.Errorf("refused: %s", harness.Text(result))
			}
		})
	}
	group.Wait()
	if err := session.Close(); err != nil {
		t.Error(err)
	}
	if n := len(g.Charges(t, "agent")); paid.Load() != 3 || refused.Load() != 7 || n != 3 {
		t.Errorf("%d paid, %d refused, %d charges", paid.Load(), refused.Load(), n)
	}
	mustContain(t, stderr.String(), "tool "+cheap+" cost 0.01 USD", "spent 0.03, 0.97 in the account, 0.00 of the budget left")
}

// TestConnectSession checks that a client on stdio does not notice that the server behind
// the gateway was replaced and has lost all sessions.
func TestConnectSession(t *testing.T) {
	t.Parallel()
	var current atomic.Pointer[mcp.StreamableHTTPHandler]
	replace := func() {
		server := mcp.NewServer(&mcp.Implementation{Name: "forgetful", Version: "1.0.0"}, nil)
		mcp.AddTool(server, &mcp.Tool{Name: "dig"}, func(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
			return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: "dug"}}}, nil, nil
		})
		current.Store(mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, nil))
	}
	replace()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { current.Load().ServeHTTP(w, r) }))
	t.Cleanup(s.Close)
	t.Cleanup(s.CloseClientConnections)
	g := binaries.StartGateway(t, harness.Site(s.URL, "server forgetful", "provider acme", "price * 0.01"))
	_, key := g.NewAgent(t, "agent", "1.00")
	session := connected(t, connectCommand(t, g.Endpoint(), key.Secret), "2025-11-25")
	for i := range 3 {
		result, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "dig"})
		if err != nil || harness.Text(result) != "dug" {
			t.Fatalf("call %d: %v %v", i, result, err)
		}
		replace()
	}
	if n := len(g.Charges(t, "agent")); n != 3 {
		t.Errorf("%d charges", n)
	}
}

// TestConnectWrongToken checks that a wrong token is explained to the client and on
// stderr, and shown in neither place.
func TestConnectWrongToken(t *testing.T) {
	t.Parallel()
	g := binaries.StartGateway(t, harness.Site(startWorker(t).url, "server worker", "provider acme", "price * 0.01"))
	const wrong = "sk_live_wrongwrongwrong"
	cmd := connectCommand(t, g.Endpoint(), wrong)
	stderr, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer stderr.Close()
	cmd.Stderr = stderr
	client := mcp.NewClient(&mcp.Implementation{Name: "farebox-test", Version: "1.0.0"}, nil)
	_, refused := client.Connect(t.Context(), &mcp.CommandTransport{Command: cmd}, nil)
	if refused == nil {
		t.Fatal("a wrong token was accepted")
	}
	notes, err := os.ReadFile(stderr.Name()) // the note came before the response
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{refused.Error(), string(notes)} {
		mustContain(t, text, "The server refused the token", "AGENT_TOKEN")
		if strings.Contains(text, wrong) {
			t.Errorf("the token is shown: %s", text)
		}
	}
}

// TestConnectEnds checks that the end of a client ends its bridge: a client that is
// killed closes the pipes, whether or not a call is under way. A bridge that is killed
// leaves no reservation.
func TestConnectEnds(t *testing.T) {
	t.Parallel()
	w := startWorker(t)
	began := make(chan struct{}, 10)
	w.work = func(ctx context.Context, _ int64) {
		began <- struct{}{}
		<-ctx.Done()
	}
	g := binaries.StartGateway(t, harness.Site(w.url, "server worker", "provider acme", "price * 0.01"))
	_, key := g.NewAgent(t, "agent", "1.00")
	body := strings.Replace(harness.ToolCall(1, "dig", `{}`), `"arguments"`,
		`"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}},"arguments"`, 1)
	for name, end := range map[string]func(*exec.Cmd, io.Closer) error{
		"the client is killed": func(_ *exec.Cmd, in io.Closer) error { return in.Close() },
		"SIGTERM":              func(cmd *exec.Cmd, _ io.Closer) error { return cmd.Process.Signal(syscall.SIGTERM) },
		"the bridge is killed": func(cmd *exec.Cmd, _ io.Closer) error { return cmd.Process.Kill() },
	} {
		t.Run(name, func(t *testing.T) {
			cmd := connectCommand(t, g.Endpoint(), key.Secret)
			in, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			out, writer, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			cmd.Stdout = writer
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			_ = writer.Close()
			if _, err := io.WriteString(in, body+"\n"); err != nil {
				t.Fatal(err)
			}
			<-began
			_ = out.Close()
			if err := end(cmd, in); err != nil {
				t.Fatal(err)
			}
			err = cmd.Wait() // bounded by the context of the command
			if killed := name == "the bridge is killed"; (err != nil) != killed {
				t.Errorf("the bridge ended with %v", err)
			}
			harness.Eventually(t, "the end of the reservation", func() error {
				if a := g.Account(t, "agent"); a.Reserved != 0 {
					return fmt.Errorf("%s is reserved", a.Reserved)
				}
				return nil
			})
		})
	}
	if n := len(g.Charges(t, "agent")); n != 0 {
		t.Errorf("%d charges", n)
	}
}

// TestConnectMistakes checks that mistakes of the command line and in the token are
// explained, on stderr, and that the secret is never printed.
func TestConnectMistakes(t *testing.T) {
	t.Parallel()
	open := t.TempDir() + "/token"
	if err := os.WriteFile(open, []byte("fbx_secret_x"), 0o644); err != nil { //nolint:gosec // the mistake that is tested
		t.Fatal(err)
	}
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"connect"}, "the URL of the server is missing"},
		{[]string{"connect", "https://mcp.example.com/mcp", "fbx_secret_x"}, "want the URL of the server alone"},
		{[]string{"connect", "mcp.example.com"}, "want https://host/path"},
		{[]string{"connect", "http://mcp.example.com/mcp"}, "without encryption: use https://, or allow it with --insecure"},
		{[]string{"connect", "https://mcp.example.com/mcp", "--token-file", open}, "chmod 600"},
		{[]string{"connect", "https://mcp.example.com/mcp", "--max-price", "1,5"}, "--max-price"},
		{[]string{"connect", "https://mcp.example.com/mcp", "--budget", "-1"}, "at least 0"},
	} {
		cmd := command(t, "", binaries.Farebox, test.args...)
		cmd.Env = append(cmd.Env, "AGENT_TOKEN=fbx_secret_x")
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		err := cmd.Run()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 2 || !strings.Contains(stderr.String(), test.want) || stdout.Len() > 0 {
			t.Errorf("%v: %v; stdout %q; stderr %q", test.args, err, stdout.String(), stderr.String())
		}
		if strings.Contains(stderr.String(), "secret_x") {
			t.Errorf("%v: the token is shown: %s", test.args, stderr.String())
		}
	}
}
