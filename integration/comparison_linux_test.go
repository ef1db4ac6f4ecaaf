package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/integration/harness"
	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/stdio/stdiotest"
)

// comparisonRounds is the number of rounds of TestComparison. "make compare-stdio" sets it.
var comparisonRounds = flag.Int("comparison-rounds", 0, "how many rounds TestComparison measures; 0 checks in one short round that every program works")

// comparedProgram serves a stdio server over streamable HTTP.
type comparedProgram struct {
	name  string
	start func(t *testing.T, server string) (p *harness.Process, endpoint string)
}

// comparedPrograms returns farebox_stdio, and the programs from npm that do the same. They
// run with their defaults, except that they log nothing and keep sessions apart.
func comparedPrograms() []*comparedProgram {
	return []*comparedProgram{
		{name: "farebox_stdio", start: func(t *testing.T, server string) (*harness.Process, string) {
			dir, port := t.TempDir(), harness.FreePort(t)
			config := fmt.Sprintf("{\n\tadmin off\n}\nhttp://localhost:%s {\n\tbind 127.0.0.1\n\tfarebox_stdio %s {\n\t\tenv %s {$%[3]s}\n\t}\n}\n", port, server, stdiotest.Variable)
			if err := os.WriteFile(filepath.Join(dir, "Caddyfile"), []byte(config), 0o600); err != nil {
				t.Fatal(err)
			}
			p := harness.Start(t, "farebox", filepath.Join(dir, "log"), []string{"HOME=" + dir}, binaries.Farebox, "run", "--config", "Caddyfile")
			return p, "http://localhost:" + port + "/mcp"
		}},
		{name: "supergateway 4.0.0", start: func(t *testing.T, server string) (*harness.Process, string) {
			port := harness.FreePort(t)
			p := harness.Start(t, "supergateway", filepath.Join(t.TempDir(), "log"), nil, "node", nodeFile("supergateway", "dist", "index.js"),
				"--stdio", server, "--outputTransport", "streamableHttp", "--stateful", "--logLevel", "none", "--port", port)
			return p, "http://localhost:" + port + "/mcp"
		}},
		{name: "mcp-proxy 6.7.19", start: func(t *testing.T, server string) (*harness.Process, string) {
			port := harness.FreePort(t)
			p := harness.Start(t, "mcp-proxy", filepath.Join(t.TempDir(), "log"), nil, "node", nodeFile("mcp-proxy", "dist", "bin", "mcp-proxy.mjs"),
				"--host", "127.0.0.1", "--port", port, "--server", "stream", "--", server)
			return p, "http://127.0.0.1:" + port + "/mcp"
		}},
	}
}

func nodeFile(parts ...string) string {
	return filepath.Join(append([]string{binaries.Root, "integration", "node", "node_modules"}, parts...)...)
}

// comparedClient is a client of the version 2025-06-18 that reads no more of a response
// than it needs.
type comparedClient struct {
	http     *http.Client
	endpoint string
	session  string
	id       int
}

// post sends a message, and returns the JSON-RPC response to it.
func (c *comparedClient) post(ctx context.Context, body string) (*harness.Message, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.endpoint, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	req.Header.Set("Mcp-Protocol-Version", "2025-06-18")
	if c.session != "" {
		req.Header.Set("Mcp-Session-Id", c.session)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return nil, err
	case resp.StatusCode/100 != 2:
		return nil, fmt.Errorf("status %d: %.200s", resp.StatusCode, text)
	}
	if session := resp.Header.Get("Mcp-Session-Id"); session != "" {
		c.session = session
	}
	for line := range bytes.Lines(text) {
		line = bytes.TrimPrefix(bytes.TrimSpace(line), []byte("data: "))
		var m harness.Message
		if bytes.HasPrefix(line, []byte("{")) && json.Unmarshal(line, &m) == nil && (m.Result != nil || m.Error != nil) {
			return &m, nil
		}
	}
	return nil, nil
}

// open begins a session.
func (c *comparedClient) open(ctx context.Context) error {
	m, err := c.post(ctx, `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"comparison","version":"1"}}}`)
	if err != nil {
		return err
	}
	if m == nil || m.Result == nil {
		return errors.New("initialize got no result")
	}
	_, err = c.post(ctx, `{"jsonrpc":"2.0","method":"notifications/initialized"}`)
	return err
}

// call calls a tool, and checks the text of its result.
func (c *comparedClient) call(ctx context.Context, tool, arguments, want string) error {
	c.id++
	m, err := c.post(ctx, harness.ToolCall(c.id, tool, arguments))
	switch {
	case err != nil:
		return err
	case m == nil || m.Result == nil:
		return fmt.Errorf("%s got no result", tool)
	case !strings.Contains(m.Text(), want):
		return fmt.Errorf("%s gave %.100q", tool, m.Text())
	}
	return nil
}

func newComparedClient(endpoint string) *comparedClient {
	return &comparedClient{http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1}}, endpoint: endpoint}
}

// awaitFirst begins the first session as soon as the program accepts it.
func awaitFirst(t *testing.T, p *harness.Process, c *comparedClient) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), harness.Patience)
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		err := c.open(ctx)
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%s does not serve: %v\n%s", p.Name, err, p.Tail())
		}
	}
}

// comparedFigures are the figures of a program by their names, one or more of each a round.
type comparedFigures map[string][]float64

func (f comparedFigures) add(name string, value float64) { f[name] = append(f[name], value) }

func millis(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e6 }

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }

// compareInRounds measures each of the named programs in each round. Another one is the
// first in each round. It prints a table of the medians, with a line for each figure.
// Without -comparison-rounds there is one round, and no table.
func compareInRounds(t *testing.T, names, rows []string, measure func(t *testing.T, program int, f comparedFigures)) {
	t.Helper()
	figures := make([]comparedFigures, len(names))
	for i := range figures {
		figures[i] = comparedFigures{}
	}
	for round := range max(*comparisonRounds, 1) {
		for i := range names {
			program := (i + round) % len(names)
			t.Run(fmt.Sprintf("%s, round %d", names[program], round+1), func(t *testing.T) { measure(t, program, figures[program]) })
		}
	}
	if *comparisonRounds == 0 || t.Failed() {
		return
	}
	for _, row := range rows {
		line := "| " + row
		for _, f := range figures {
			line += fmt.Sprintf(" | %.3g", medianOf(f[row]))
		}
		t.Log(line + " |")
	}
}

// The figures of programs that serve a stdio server.
const (
	figureStart        = "start to the first session, ms"
	figureSession      = "a further session, ms"
	figureCall         = "a call, median µs"
	figureOneCaller    = "calls a second, 1 caller"
	figureManySessions = "calls a second, 16 sessions"
	figureMemory       = "the program alone, MiB"
	figureSessionSize  = "100 further sessions, MiB each, without the server"
)

// comparisonSize is the amount of work in a round.
type comparisonSize struct{ calls, sessions int }

// measure starts a program, and measures it.
func (f comparedFigures) measure(t *testing.T, program *comparedProgram, server string, size comparisonSize) {
	t.Setenv(stdiotest.Variable, stdiotest.Plain)
	began := clock.Now()
	p, endpoint := program.start(t, server)
	first := newComparedClient(endpoint)
	awaitFirst(t, p, first)
	f.add(figureStart, millis(clock.Since(began)))
	f.measureCalls(t, first, size.calls)

	clients := []*comparedClient{first}
	for range 15 {
		c := newComparedClient(endpoint)
		began := clock.Now()
		if err := c.open(t.Context()); err != nil {
			t.Fatal(err)
		}
		f.add(figureSession, millis(clock.Since(began)))
		clients = append(clients, c)
	}
	began = clock.Now()
	var group sync.WaitGroup
	for _, c := range clients {
		group.Go(func() {
			for range size.calls / 4 {
				if err := c.call(t.Context(), "echo", `{"text":"hello"}`, "hello"); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
	f.add(figureManySessions, float64(len(clients)*(size.calls/4))/clock.Since(began).Seconds())

	before := residentOf(t, p.PID())
	for range size.sessions {
		if err := newComparedClient(endpoint).open(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	f.add(figureMemory, before)
	f.add(figureSessionSize, (residentOf(t, p.PID())-before)/float64(size.sessions))
	p.Stop(t)
}

// measureCalls measures calls that one client makes one after another.
func (f comparedFigures) measureCalls(t *testing.T, c *comparedClient, calls int) {
	t.Helper()
	var times []float64
	began := clock.Now()
	for range calls {
		one := clock.Now()
		if err := c.call(t.Context(), "echo", `{"text":"hello"}`, "hello"); err != nil {
			t.Fatal(err)
		}
		times = append(times, micros(clock.Since(one)))
	}
	f.add(figureOneCaller, float64(calls)/clock.Since(began).Seconds())
	f.add(figureCall, medianOf(times))
}

func medianOf(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

// residentOf returns the resident memory of a process in MiB.
func residentOf(t *testing.T, pid int) float64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(status), "VmRSS:")
	kib, err := strconv.ParseFloat(strings.Fields(after)[0], 64)
	if err != nil {
		t.Fatal(err)
	}
	return kib / 1024
}

// TestComparison measures farebox_stdio beside other programs that serve a stdio server
// over HTTP, in rounds that alternate between them.
func TestComparison(t *testing.T) {
	server := binaries.BuildModule(t, stdioChild)
	size := comparisonSize{calls: 2000, sessions: 100}
	if *comparisonRounds == 0 {
		size = comparisonSize{calls: 8, sessions: 2}
	}
	programs := comparedPrograms()
	names := make([]string, len(programs))
	for i, program := range programs {
		names[i] = program.name
	}
	rows := []string{figureStart, figureSession, figureCall, figureOneCaller, figureManySessions, figureMemory, figureSessionSize}
	compareInRounds(t, names, rows, func(t *testing.T, program int, f comparedFigures) { f.measure(t, programs[program], server, size) })
}
