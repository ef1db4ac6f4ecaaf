package integration

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/fareboxhq/farebox/integration/harness"
	"github.com/fareboxhq/farebox/internal/stdio/stdiotest"
)

// stdioChild is the stdio server of package stdiotest as a program.
const stdioChild = "github.com/fareboxhq/farebox/integration/stdiochild"

// stdioSite returns a Caddyfile with a site that sells the stdio server that a command
// starts. The options are the lines of the farebox_stdio block.
func stdioSite(command string, options []string, directives ...string) string {
	behind := "\n\t\tfarebox_stdio " + command + " {\n\t\t\t" + strings.Join(options, "\n\t\t\t") + "\n\t\t}\n\t\treverse_proxy"
	site := harness.SiteWithProxy("http://unused", append([]string{"server stdio", "provider acme"}, directives...)...)
	before, after, _ := strings.Cut(site, "\n\t\treverse_proxy")
	_, after, _ = strings.Cut(after, "\n\t\t}")
	return before + strings.TrimSuffix(behind, "\n\t\treverse_proxy") + after
}

// childSite returns a site with the server of package stdiotest.
func childSite(t *testing.T, modes string, options []string, directives ...string) string {
	return stdioSite(binaries.BuildModule(t, stdioChild), append([]string{"env " + stdiotest.Variable + " " + modes}, options...), directives...)
}

// TestStdioCallsAreCharged checks promises 1 and 2 of docs/promises.md for a stdio server:
// a result is charged, and a call in the middle of which the server dies is not.
func TestStdioCallsAreCharged(t *testing.T) {
	t.Parallel()
	for _, name := range []string{stdiotest.Plain, stdiotest.Modern} {
		t.Run(name, func(t *testing.T) {
			g := binaries.StartGateway(t, childSite(t, name, nil, "unpriced 0.01"))
			_, key := g.NewAgent(t, "alice", "1.00")
			client := g.Connect(t, key.Secret, nil)
			if got := client.InitializeResult().ProtocolVersion; (got == "2026-07-28") != (name == stdiotest.Modern) {
				t.Errorf("version %s", got)
			}
			paid, err := client.CallTool(t.Context(), &mcp.CallToolParams{Name: "echo", Arguments: map[string]any{"text": "hello"}})
			if err != nil || harness.Text(paid) != "hello" || harness.ReadMeta(t, paid.Meta).Charge == nil {
				t.Fatalf("%v %+v", err, paid)
			}
			if failed, err := client.CallTool(t.Context(), &mcp.CallToolParams{Name: "die", Arguments: map[string]any{}}); err == nil && !failed.IsError {
				t.Errorf("the server died, and the call gave %s", harness.Text(failed))
			}
			if a := g.Account(t, "alice"); a.Balance != amount(t, "0.99") || a.Reserved != 0 {
				t.Errorf("balance %s, reserved %s", a.Balance, a.Reserved)
			}
			if out, err := g.Command("server", "check", "stdio"); err != nil || !strings.Contains(string(out), "echo") {
				t.Errorf("server check: %v %s", err, out)
			}
			again := g.Connect(t, key.Secret, nil)
			if _, err := again.CallTool(t.Context(), &mcp.CallToolParams{Name: "echo", Arguments: map[string]any{"text": "again"}}); err != nil {
				t.Errorf("after the server's death: %v", err)
			}
			g.VerifyLedger(t)
		})
	}
}

// TestStdioCallIsResumed checks promises 1 and 4 of docs/promises.md: a client that loses
// its connection in a long call comes back for the answer, which is charged once.
func TestStdioCallIsResumed(t *testing.T) {
	t.Parallel()
	g := binaries.StartGateway(t, childSite(t, stdiotest.Plain, nil, "unpriced 0.01"))
	_, key := g.NewAgent(t, "alice", "1.00")
	v := visit(t, g, key.Secret)
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	line, err := bufio.NewReader(v.sendWith(ctx, http.MethodPost, harness.ToolCall(1, "hold", `{}`), "").Body).ReadString('\n')
	if err != nil || lastID(line) == "" {
		t.Fatalf("the stream begins with %q: %v", line, err)
	}
	leave()
	if resp := v.send(http.MethodPost, `{"jsonrpc":"2.0","method":"notifications/release"}`, ""); resp.StatusCode != http.StatusAccepted {
		t.Fatalf("release: %d", resp.StatusCode)
	}
	first, again := v.comeBack(lastID(line)), v.comeBack(lastID(line))
	if first.Result == nil || first.Result.Meta.Charge == nil || again.Result == nil || again.Result.Meta.Charge == nil || first.Result.Meta.Charge.ID != again.Result.Meta.Charge.ID {
		t.Fatalf("first %s, then %s", first.Body, again.Body)
	}
	v.owns("alice", 99*cent, 0)
	g.VerifyLedger(t)
}

// TestStdioProcessesSurviveReloads checks that a reload keeps the processes and sessions
// if the definition did not change, and ends them if it did.
func TestStdioProcessesSurviveReloads(t *testing.T) {
	t.Parallel()
	site := childSite(t, stdiotest.Plain, []string{"grace 1s"}, "unpriced 0.001")
	g := binaries.StartGateway(t, site)
	_, key := g.NewAgent(t, "alice", "10.00")
	session := g.Connect(t, key.Secret, nil)
	pid := callPID(t, session)
	for i := range *reloads * 10 {
		other := strings.Replace(site, "unpriced 0.001", fmt.Sprintf("unpriced 0.00%d", 1+i%2), 1)
		if status, answer := reload(t, g, other); status != 200 {
			t.Fatalf("reload %d: %d %s", i, status, answer)
		}
	}
	if again := callPID(t, session); again != pid {
		t.Errorf("the process was %d and is %d", pid, again)
	}
	if status, answer := reload(t, g, strings.Replace(site, "grace 1s", "grace 2s", 1)); status != 200 {
		t.Fatalf("%d %s", status, answer)
	}
	harness.Eventually(t, "the end of the old process", func() error { return gone(pid) })
}

// callPID returns the id of the process that serves a session.
func callPID(t *testing.T, session *mcp.ClientSession) int {
	t.Helper()
	result, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "pid", Arguments: map[string]any{}})
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(harness.Text(result))
	if err != nil {
		t.Fatalf("%v: %s", err, harness.Text(result))
	}
	return pid
}

// TestStdioLeavesNothing checks that no process is left of many sessions when they end,
// and after SIGKILL of the gateway, although the server ignores SIGTERM and the end of its
// stdin.
func TestStdioLeavesNothing(t *testing.T) {
	t.Parallel()
	g := binaries.StartGateway(t, childSite(t, stdiotest.Stubborn, []string{"grace 200ms", "max_processes 100", "max_per_account 100"}, "unpriced 0.001"))
	_, key := g.NewAgent(t, "alice", "10.00")
	const sessions, atOnce = 500, 8
	pids := make(chan int, sessions)
	var wait sync.WaitGroup
	for range atOnce {
		wait.Go(func() {
			for range sessions / atOnce {
				session := g.Connect(t, key.Secret, nil)
				pids <- callPID(t, session)
				if err := session.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wait.Wait()
	close(pids)
	var all []int
	for pid := range pids {
		all = append(all, pid)
	}
	slices.Sort(all)
	if distinct := len(slices.Compact(all)); distinct < sessions-atOnce {
		t.Errorf("%d processes served %d sessions", distinct, sessions)
	}
	harness.Eventually(t, "the end of all processes", func() error { return gone(all...) })

	left := callPID(t, g.Connect(t, key.Secret, nil))
	if gone(left) != nil {
		g.Kill()
		harness.Eventually(t, "the end of the process of a gateway that was killed", func() error { return gone(left) })
		return
	}
	t.Error("there was no process")
}

// TestStdioPerAccount checks that with `per account` the sessions of an account share a
// process, and never with another account, in versions with sessions and without.
func TestStdioPerAccount(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{stdiotest.Plain, stdiotest.Modern} {
		g := binaries.StartGateway(t, childSite(t, mode, []string{"per account"}, "unpriced 0.001"))
		_, alice := g.NewAgent(t, "alice", "1.00")
		_, bob := g.NewAgent(t, "bob", "1.00")
		first, again, other := callPID(t, g.Connect(t, alice.Secret, nil)), callPID(t, g.Connect(t, alice.Secret, nil)), callPID(t, g.Connect(t, bob.Secret, nil))
		if first != again || first == other {
			t.Errorf("%s: processes %d and %d of alice, %d of bob", mode, first, again, other)
		}
	}
}

// gone returns an error if one of the processes lives.
func gone(pids ...int) error {
	var list []string
	for _, pid := range pids {
		list = append(list, strconv.Itoa(pid))
	}
	out, err := exec.Command("ps", "-o", "pid=,stat=,args=", "-p", strings.Join(list, ",")).Output()
	var none *exec.ExitError // ps fails if no process has one of the ids
	if err != nil && !errors.As(err, &none) {
		return err
	}
	for line := range strings.Lines(string(out)) {
		if fields := strings.Fields(line); len(fields) > 1 && !strings.HasPrefix(fields[1], "Z") {
			return fmt.Errorf("left: %s", line)
		}
	}
	return nil
}

// soldServer is a real stdio server and one call of it.
type soldServer struct {
	name    string
	program []string // below node_modules
	args    string   // the program's arguments; DIR is a directory
	env     []string
	tool    string
	input   map[string]any
	want    string
}

// TestRealStdioServers checks that popular servers from npm are sold as they are: their
// tools are listed, and a call is charged.
func TestRealStdioServers(t *testing.T) {
	t.Parallel()
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"object":"user","name":"somebody","results":[]}`)
	}))
	defer api.Close()
	official := func(name string) []string { return []string{"@modelcontextprotocol", name, "dist", "index.js"} }
	for _, c := range []soldServer{
		{name: "everything", program: official("server-everything"), args: "stdio", tool: "echo", input: map[string]any{"message": "hi"}, want: "Echo: hi"},
		{name: "filesystem", program: official("server-filesystem"), args: "DIR", tool: "list_directory", input: map[string]any{"path": "DIR"}, want: "file.txt"},
		{name: "memory", program: official("server-memory"), env: []string{"MEMORY_FILE_PATH DIR/memory.json"}, tool: "read_graph", input: map[string]any{}, want: "entities"},
		{name: "sequential-thinking", program: official("server-sequential-thinking"), tool: "sequentialthinking", want: "thoughtNumber", input: map[string]any{
			"thought": "first", "nextThoughtNeeded": false, "thoughtNumber": 1, "totalThoughts": 1,
		}},
		{name: "context7", program: []string{"@upstash", "context7-mcp", "dist", "index.js"}, env: []string{"CONTEXT7_API_URL " + api.URL},
			tool: "resolve-library-id", input: map[string]any{"query": "react", "libraryName": "react"}, want: "librar"},
		{name: "notion", program: []string{"@notionhq", "notion-mcp-server", "bin", "cli.mjs"}, env: []string{"BASE_URL " + api.URL, "NOTION_TOKEN secret_of_notion"},
			tool: "API-get-self", input: map[string]any{}, want: "somebody"},
		// Without a browser, the call is a result that says so, which is charged here.
		{name: "playwright", program: []string{"@playwright", "mcp", "cli.js"}, args: "--executable-path /no/such/browser", tool: "browser_close", input: map[string]any{}},
	} {
		t.Run(c.name, func(t *testing.T) { c.sell(t) })
	}
}

func (c *soldServer) sell(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file.txt"), []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	fill := func(text string) string { return strings.ReplaceAll(text, "DIR", dir) }
	var options []string
	for _, variable := range c.env {
		options = append(options, "env "+fill(variable))
	}
	for name, value := range c.input {
		if text, ok := value.(string); ok {
			c.input[name] = fill(text)
		}
	}
	g := binaries.StartGateway(t, stdioSite("node "+binaries.Module(t, c.program...)+" "+fill(c.args), options, "unpriced 0.01", "charge_on success tool_error"))
	_, key := g.NewAgent(t, "alice", "1.00")
	session := g.Connect(t, key.Secret, nil)
	tools, err := session.ListTools(t.Context(), nil)
	if err != nil || len(tools.Tools) == 0 {
		t.Fatalf("the tools: %v", err)
	}
	result, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: c.tool, Arguments: c.input})
	if err != nil {
		t.Fatal(err)
	}
	if c.want != "" {
		mustContain(t, harness.Text(result), c.want)
	}
	if a := g.Account(t, "alice"); a.Balance != amount(t, "0.99") {
		t.Errorf("balance %s", a.Balance)
	}
	g.VerifyLedger(t)
	t.Logf("%d tools, version %s", len(tools.Tools), session.InitializeResult().ProtocolVersion)
}

// TestConformanceStdio checks promise 9 of docs/promises.md for a stdio server: the official
// suite's checks have the same outcomes as with the same server over HTTP, except for
// the differences in docs/stdio.md.
func TestConformanceStdio(t *testing.T) {
	t.Parallel()
	program := binaries.BuildModule(t, conformanceServer)
	for _, revision := range revisions {
		t.Run(revision, func(t *testing.T) {
			port := harness.FreePort(t)
			url := "http://localhost:" + port + "/mcp"
			flag := fmt.Sprintf("-stateless=%t", revision == "2026-07-28")
			harness.Start(t, "conformance server", filepath.Join(t.TempDir(), "server.log"), nil, program, "-http=127.0.0.1:"+port, flag).AwaitHTTP(t, url)
			direct := binaries.ConformServer(t, harness.Requirements(revision), url, "")
			g := binaries.StartGateway(t, anyHost(stdioSite(program, []string{"max_per_account 200", "max_processes 200", "idle 30s"}, "unpriced 0.001", "receipts on")))
			_, key := g.NewAgent(t, "suite", "1000.00")
			through := binaries.ConformServer(t, harness.Requirements(revision), g.Endpoint(), key.Secret)
			for _, difference := range direct.Differences(through) {
				if !difference.Better() && !stdioDifference(difference) {
					t.Error(difference)
				}
			}
			t.Logf("%d scenarios, %d of %d checks passed directly, %d of %d through farebox_stdio",
				direct.Scenarios(), direct.Count("SUCCESS"), len(direct.Checks), through.Count("SUCCESS"), len(through.Checks))
			settled(t, g, "suite", true)
		})
	}
}

// stdioDifferences has the scenarios and checks that differ, as docs/stdio.md explains:
// fast answers are JSON, and no header Mcp-Param is compared with its argument.
var stdioDifferences = []string{
	"server-sse-multiple-streams: server-sse-streams-functional",
	"server-sse-polling: ",
	"http-custom-header-server-validation: ",
}

func stdioDifference(d harness.Difference) bool {
	return slices.ContainsFunc(stdioDifferences, func(name string) bool { return strings.HasPrefix(d.Name, name) })
}

// TestStdioExample runs the Caddyfile of examples/stdio, with the installed servers in
// place of those that npx would download.
func TestStdioExample(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(binaries.Root, "examples", "stdio", "Caddyfile"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "hello.txt"), []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	caddyfile := string(text)
	for old, replacement := range map[string]string{
		"npx -y @modelcontextprotocol/server-filesystem@2026.8.31": "node " + binaries.Module(t, "@modelcontextprotocol", "server-filesystem", "dist", "index.js"),
		"npx -y @modelcontextprotocol/server-memory@2026.8.31":     "node " + binaries.Module(t, "@modelcontextprotocol", "server-memory", "dist", "index.js"),
		"unix//run/farebox/admin.sock|0600":                        "{$CADDY_ADMIN}",
		"sqlite farebox.db":                                        "sqlite {$FAREBOX_DATA}/farebox.db",
		"localhost:8090":                                           "localhost:{$FAREBOX_PORT}",
	} {
		if strings.Count(caddyfile, old) != 1 {
			t.Fatalf("%q is not once in the Caddyfile", old)
		}
		caddyfile = strings.Replace(caddyfile, old, replacement, 1)
	}
	g := binaries.StartGateway(t, caddyfile, "FILES="+dir, "MEMORY="+filepath.Join(dir, "memory.json"))
	_, key := g.NewAgent(t, "alice", "1.00")
	for _, c := range []struct {
		path, tool, want string
		input            map[string]any
	}{
		{"/files", "list_directory", "hello.txt", map[string]any{"path": dir}},
		{"/memory", "create_entities", "Oslo", map[string]any{"entities": []any{map[string]any{"name": "Oslo", "entityType": "city", "observations": []any{"cold"}}}}},
		{"/memory", "read_graph", "Oslo", map[string]any{}},
	} {
		client := mcp.NewClient(&mcp.Implementation{Name: "example", Version: "1"}, nil)
		session, err := client.Connect(t.Context(), &mcp.StreamableClientTransport{
			Endpoint: "http://localhost:" + g.Port + c.path, HTTPClient: &http.Client{Transport: harness.Bearer{Secret: key.Secret}},
		}, nil)
		if err != nil {
			t.Fatal(err)
		}
		result, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: c.tool, Arguments: c.input})
		if err != nil {
			t.Fatal(err)
		}
		mustContain(t, harness.Text(result), c.want)
		if _, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "write_file", Arguments: map[string]any{}}); err == nil && c.path == "/files" {
			t.Error("a hidden tool was called")
		}
		_ = session.Close()
	}
	if a := g.Account(t, "alice"); a.Balance > amount(t, "0.989") || a.Balance < amount(t, "0.98") {
		t.Errorf("balance %s", a.Balance)
	}
	g.VerifyLedger(t)
}

// TestAddProgram checks that "farebox add" prints a site for a stdio server that works: the
// site that it has tried has a price for each tool of the server.
func TestAddProgram(t *testing.T) {
	t.Parallel()
	child := binaries.BuildModule(t, stdioChild)
	cmd := exec.Command(binaries.Farebox, "farebox", "add", "echo", "--price", "0.02", "--", child)
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
	var notes strings.Builder
	cmd.Stderr = &notes
	site, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, notes.String())
	}
	for _, want := range []string{"\t\tfarebox_stdio " + child + "\n", "\t\t\tprice echo 0.02\n"} {
		if !strings.Contains(string(site), want) {
			t.Errorf("no %q in %s", want, site)
		}
	}
	if n := strings.Count(string(site), "\tprice "); !strings.Contains(notes.String(), fmt.Sprintf("gets %d of %d tools through it", n, n)) {
		t.Errorf("%d prices, and the notes are %s", n, notes.String())
	}
}
