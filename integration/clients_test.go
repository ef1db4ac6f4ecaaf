package integration

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	goclient "github.com/mark3labs/mcp-go/client"
	"github.com/mark3labs/mcp-go/client/transport"
	gomcp "github.com/mark3labs/mcp-go/mcp"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/fareboxhq/farebox/integration/harness"
)

// told is the outcome of a call in the form that a client shows to its
// user.
type told struct {
	Text   string `json:"text"`
	Failed bool   `json:"failed"` // true for an error result, or if there was no result
}

// caller is a function that calls a tool in a client's open session.
type caller func(t *testing.T, tool string, args map[string]any) told

// TestClients checks promises 2, 3 and 8 of docs/promises.md as users see them. In each
// popular client, unmodified, a free call and a paid call succeed. A call without
// enough balance and a call of a tool without a price are refused at no cost, with a
// text that reaches the user. The session keeps working afterwards.
func TestClients(t *testing.T) {
	t.Parallel()
	recorder := harness.Record(t, binaries.StartEverything(t))
	g := binaries.StartGateway(t, harness.Site(recorder.URL, "server everything", "provider acme",
		"price echo 0.01", "free get-annotated-message", "unpriced deny"))
	clients := map[string]func(*testing.T, *harness.Gateway, string) caller{
		"go-sdk": goSDK, "mcp-go": mcpGo, "typescript": typeScript, "mcp-remote": mcpRemote, "inspector": inspector,
	}
	t.Run("each", func(t *testing.T) {
		for name, open := range clients {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				_, key := g.NewAgent(t, name, "0.01")
				converse(t, g, name, open(t, g, key.Secret))
			})
		}
	})
	if n := recorder.Calls("echo"); n != 2*len(clients) {
		t.Errorf("the server ran the paid tool %d times for %d clients; want twice each", n, len(clients))
	}
	if n := recorder.Calls("get-env"); n != 0 {
		t.Errorf("the server was asked %d times for a tool that is not for sale", n)
	}
	g.VerifyLedger(t)
}

// converse makes calls in one session, for an account with enough balance for a
// single call.
func converse(t *testing.T, g *harness.Gateway, account string, call caller) {
	echo, free := map[string]any{"message": "hello"}, map[string]any{"messageType": "success"}
	expect := func(tool string, args map[string]any, failed bool, balance string, words ...string) {
		t.Helper()
		got := call(t, tool, args)
		if got.Failed != failed {
			t.Errorf("%s: got %+v; want failed %t", tool, got, failed)
		}
		for _, want := range words {
			if !strings.Contains(got.Text, want) {
				t.Errorf("%s: the user sees %q; want it to contain %q", tool, got.Text, want)
			}
		}
		if a := g.Account(t, account); a.Balance != amount(t, balance) || a.Reserved != 0 {
			t.Errorf("%s: balance %s, reserved %s; want %s, 0.00", tool, a.Balance, a.Reserved, balance)
		}
	}
	expect("get-annotated-message", free, false, "0.01", "Operation completed successfully")
	expect("echo", echo, false, "0.00", "Echo: hello")
	expect("echo", echo, true, "0.00", `The tool "echo" was not called and nothing was charged`, "one call costs 0.01 USD", "has only 0.00 USD available", "top the account up")
	// The list of tools does not show get-env, because the tool has no price. The
	// inspector looks for a tool in the list before calling the tool, so the text
	// may be the inspector's own.
	expect("get-env", map[string]any{}, true, "0.00", "get-env")
	expect("get-annotated-message", free, false, "0.00", "Operation completed successfully")
	g.CLI(t, nil, "credit", account, "0.02", "--reason", "the user has read it")
	expect("echo", echo, false, "0.01", "Echo: hello")
}

func goSDK(t *testing.T, g *harness.Gateway, secret string) caller {
	return inSession(g.Connect(t, secret, nil))
}

// inSession calls tools in a session of the official Go SDK.
func inSession(session *mcp.ClientSession) caller {
	return func(t *testing.T, tool string, args map[string]any) told {
		result, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: tool, Arguments: args})
		if err != nil {
			return told{err.Error(), true}
		}
		return told{harness.Text(result), result.IsError}
	}
}

func mcpGo(t *testing.T, g *harness.Gateway, secret string) caller {
	client, err := goclient.NewStreamableHttpClient(g.Endpoint(), transport.WithHTTPBasicClient(&http.Client{Transport: harness.Bearer{Secret: secret}}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	if err := client.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return byMCPGo(t, client)
}

// byMCPGo calls tools by a client of mcp-go that has been connected.
func byMCPGo(t *testing.T, client *goclient.Client) caller {
	var hello gomcp.InitializeRequest
	hello.Params.ProtocolVersion = gomcp.LATEST_PROTOCOL_VERSION
	hello.Params.ClientInfo = gomcp.Implementation{Name: "farebox-test", Version: "1.0.0"}
	if _, err := client.Initialize(t.Context(), hello); err != nil {
		t.Fatal(err)
	}
	return func(t *testing.T, tool string, args map[string]any) told {
		var request gomcp.CallToolRequest
		request.Params.Name, request.Params.Arguments = tool, args
		result, err := client.CallTool(t.Context(), request)
		if err != nil {
			return told{err.Error(), true}
		}
		var texts []string
		for _, content := range result.Content {
			if text, ok := content.(gomcp.TextContent); ok {
				texts = append(texts, text.Text)
			}
		}
		return told{strings.Join(texts, "\n"), result.IsError}
	}
}

// command prepares a program with its own home directory. The program may outlive
// the test's context for a short time, so that the test can ask it to exit.
func command(t *testing.T, secret, program string, args ...string) *exec.Cmd {
	home := t.TempDir()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 2*harness.Patience)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), "HOME="+home, "FAREBOX_BEARER="+secret)
	cmd.Dir = home
	return cmd
}

// typeScript drives the official TypeScript SDK with one line of JSON per call.
func typeScript(t *testing.T, g *harness.Gateway, secret string) caller {
	p := startNode(t, secret, "client.mjs", g.Endpoint())
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

// nodeClient is a running program of integration/node, driven by lines of JSON. The
// test must end it.
type nodeClient struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Scanner
	stderr *bytes.Buffer
}

func startNode(t *testing.T, secret, program string, args ...string) *nodeClient {
	t.Helper()
	p := &nodeClient{stderr: new(bytes.Buffer)}
	p.cmd = command(t, secret, binaries.Node(t), append([]string{filepath.Join(binaries.Root, "integration", "node", program)}, args...)...)
	p.cmd.Stderr = p.stderr
	var err error
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.out = bufio.NewScanner(out)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return p
}

// do sends the program a command and returns its report.
func (p *nodeClient) do(t *testing.T, what map[string]any) (got told) {
	t.Helper()
	if _, err := io.WriteString(p.in, encode(t, what)+"\n"); err != nil {
		t.Fatal(err)
	}
	if !p.out.Scan() {
		t.Fatalf("the client of the TypeScript SDK has ended: %v\n%s", p.out.Err(), p.stderr.Bytes())
	}
	if err := json.Unmarshal(p.out.Bytes(), &got); err != nil {
		t.Fatalf("%v in %s", err, p.out.Bytes())
	}
	return got
}

// mcpRemote drives mcp-remote, a bridge to the gateway for programs that support
// only servers on stdin and stdout.
func mcpRemote(t *testing.T, g *harness.Gateway, secret string) caller {
	cmd := command(t, secret, binaries.Node(t), binaries.Module(t, "mcp-remote", "dist", "proxy.js"),
		g.Endpoint(), "--transport", "http-only", "--header", "Authorization:Bearer "+secret)
	client := mcp.NewClient(&mcp.Implementation{Name: "farebox-test", Version: "1.0.0"}, nil)
	session, err := client.Connect(t.Context(), &mcp.CommandTransport{Command: cmd}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = session.Close() })
	return inSession(session)
}

// inspector runs the inspector's command line once for each call, as the inspector's
// users do. The inspector prints errors to stderr.
func inspector(t *testing.T, g *harness.Gateway, secret string) caller {
	launcher := binaries.Module(t, "@modelcontextprotocol", "inspector", "clients", "launcher", "build", "index.js")
	return func(t *testing.T, tool string, args map[string]any) told {
		t.Helper()
		cmd := command(t, secret, binaries.Node(t), launcher, "--cli", g.Endpoint(), "--transport", "http",
			"--header", "Authorization: Bearer "+secret, "--stored-auth-only", "--quiet", "--format", "json",
			"--method", "tools/call", "--tool-name", tool, "--tool-args-json", encode(t, args))
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		err := cmd.Run()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		if err != nil && stdout.Len() == 0 {
			return told{stderr.String(), true}
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
