package integration

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"

	"github.com/fareboxhq/farebox/integration/harness"
	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/stdio/stdiotest"
)

// comparedBridge connects a stdio client to a server over HTTP.
type comparedBridge struct {
	name    string
	command func(endpoint string) []string
}

func comparedBridges() []comparedBridge {
	return []comparedBridge{
		{"farebox connect", func(endpoint string) []string { return []string{binaries.Farebox, "farebox", "connect", endpoint} }},
		{"mcp-remote 0.15.1", func(endpoint string) []string {
			return []string{"node", nodeFile("mcp-remote", "dist", "proxy.js"), endpoint, "--transport", "http-only", "--silent"}
		}},
		{"supergateway 4.0.0", func(endpoint string) []string {
			return []string{"node", nodeFile("supergateway", "dist", "index.js"), "--streamableHttp", endpoint, "--logLevel", "none"}
		}},
	}
}

// The figures of programs that connect a stdio client.
const (
	figureBridgeStart  = "start to the response to initialize, ms"
	figureBridgeCall   = "a call, median µs"
	figureBridgeMore   = "a call more than without the program, median µs"
	figureBridgeMemory = "memory, MiB"
)

// stdioClient is a client on the pipes of a bridge.
type stdioClient struct {
	in  io.WriteCloser
	out *bufio.Reader
	id  int
}

// ask sends a request, and returns the response to it.
func (c *stdioClient) ask(method, params string) (*harness.Message, error) {
	c.id++
	if _, err := fmt.Fprintf(c.in, `{"jsonrpc":"2.0","id":%d,"method":%q,"params":%s}`+"\n", c.id, method, params); err != nil {
		return nil, err
	}
	for {
		line, err := c.out.ReadBytes('\n')
		if err != nil {
			return nil, err
		}
		var m harness.Message
		if json.Unmarshal(line, &m) == nil && string(m.ID) == fmt.Sprint(c.id) {
			return &m, nil
		}
	}
}

// measureBridge starts a bridge, and makes calls through it.
func (f comparedFigures) measureBridge(t *testing.T, bridge comparedBridge, endpoint string, calls int) {
	direct := newComparedClient(endpoint)
	if err := direct.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	command := bridge.command(endpoint)
	cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir(), "AGENT_TOKEN=")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	began := clock.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Wait() }() // Cancel has ended it
	defer func() { _ = cmd.Cancel() }()
	c := &stdioClient{in: in, out: bufio.NewReader(out)}
	if m, err := c.ask("initialize", `{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"comparison","version":"1"}}`); err != nil || m.Result == nil {
		t.Fatalf("initialize: %v %+v", err, m)
	}
	f.add(figureBridgeStart, millis(clock.Since(began)))
	if _, err := io.WriteString(in, `{"jsonrpc":"2.0","method":"notifications/initialized"}`+"\n"); err != nil {
		t.Fatal(err)
	}
	var through, without []float64
	for range calls { // one by one, so that both meet the same noise
		one := clock.Now()
		m, err := c.ask("tools/call", `{"name":"echo","arguments":{"text":"hello"}}`)
		if err != nil || m.Text() != "hello" {
			t.Fatalf("call: %v %+v", err, m)
		}
		through = append(through, micros(clock.Since(one)))
		one = clock.Now()
		if err := direct.call(t.Context(), "echo", `{"text":"hello"}`, "hello"); err != nil {
			t.Fatal(err)
		}
		without = append(without, micros(clock.Since(one)))
	}
	f.add(figureBridgeCall, medianOf(through))
	f.add(figureBridgeMore, medianOf(through)-medianOf(without))
	f.add(figureBridgeMemory, residentOf(t, cmd.Process.Pid))
}

// TestComparisonOfBridges measures farebox connect beside other programs that connect a
// stdio client to a server over HTTP.
func TestComparisonOfBridges(t *testing.T) {
	t.Setenv(stdiotest.Variable, stdiotest.Plain)
	p, endpoint := comparedPrograms()[0].start(t, binaries.BuildModule(t, stdioChild))
	awaitFirst(t, p, newComparedClient(endpoint))
	calls := 1000
	if *comparisonRounds == 0 {
		calls = 5
	}
	bridges := comparedBridges()
	names := make([]string, len(bridges))
	for i, bridge := range bridges {
		names[i] = bridge.name
	}
	rows := []string{figureBridgeStart, figureBridgeCall, figureBridgeMore, figureBridgeMemory}
	compareInRounds(t, names, rows, func(t *testing.T, program int, f comparedFigures) {
		f.measureBridge(t, bridges[program], endpoint, calls)
	})
}
