package integration

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/integration/harness"
)

// headerText encodes a header value by the rules of protocol version 2026-07-28.
func headerText(value string) string {
	plain := value != "" && strings.TrimSpace(value) == value && !strings.HasPrefix(value, "=?base64?")
	for _, b := range []byte(value) {
		plain = plain && b >= ' ' && b <= '~'
	}
	if plain {
		return value
	}
	return "=?base64?" + base64.StdEncoding.EncodeToString([]byte(value)) + "?="
}

// lineProgram is a running program that reads questions and writes answers as
// lines of JSON. It handles many questions at a time.
type lineProgram struct {
	mu      sync.Mutex
	in      io.WriteCloser
	waiting map[int64]chan []byte
	ended   error
	n       atomic.Int64
}

// startLines starts a program. number(line) is the number of the question that a
// line of the program's output answers.
func startLines(t *testing.T, number func(line []byte) (int64, bool), program string, args ...string) *lineProgram {
	t.Helper()
	p := &lineProgram{waiting: map[int64]chan []byte{}}
	home := t.TempDir()
	cmd := exec.Command(program, args...)
	cmd.Env, cmd.Dir = append(os.Environ(), "HOME="+home), home
	var said bytes.Buffer
	cmd.Stderr = &said
	var err error
	if p.in, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.read(bufio.NewReader(out), number)
	}()
	t.Cleanup(func() {
		_ = p.in.Close()
		_ = cmd.Process.Kill() // Kill, because the program may keep running while its streams are open
		<-done
		_ = cmd.Wait()
		if t.Failed() {
			text := said.Bytes()
			t.Logf("%s: the end of what it said: %s", strings.Join(args[:1], " "), text[max(0, len(text)-2000):])
		}
	})
	return p
}

func (p *lineProgram) read(out *bufio.Reader, number func([]byte) (int64, bool)) {
	for {
		line, err := out.ReadBytes('\n')
		if n, ok := number(line); ok {
			p.mu.Lock()
			if c := p.waiting[n]; c != nil {
				c <- line
				delete(p.waiting, n)
			}
			p.mu.Unlock()
		}
		if err != nil {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.ended = err
			for _, c := range p.waiting {
				close(c)
			}
			p.waiting = nil
			return
		}
	}
}

// do takes a new question number n, sends the message write(n), and waits for the
// answer with this number.
func (p *lineProgram) do(ctx context.Context, write func(n int64) any) ([]byte, error) {
	n := p.n.Add(1)
	line, err := json.Marshal(write(n))
	if err != nil {
		return nil, err
	}
	answer := make(chan []byte, 1)
	p.mu.Lock()
	if p.ended != nil {
		p.mu.Unlock()
		return nil, fmt.Errorf("the program has ended: %w", p.ended)
	}
	p.waiting[n] = answer
	_, err = p.in.Write(append(line, '\n'))
	p.mu.Unlock()
	if err != nil {
		return nil, err
	}
	select {
	case got, ok := <-answer:
		if !ok {
			return nil, errors.New("the program has ended")
		}
		return got, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// tsOddClient is the official TypeScript SDK: version 1 for the older protocol
// versions, version 2 for 2026-07-28.
type tsOddClient struct{ v1, v2 *lineProgram }

func newTSOddClient(t *testing.T) *tsOddClient {
	start := func(version string) *lineProgram {
		return startLines(t, func(line []byte) (int64, bool) {
			var got struct {
				N *int64 `json:"n"`
			}
			if err := json.Unmarshal(line, &got); err != nil || got.N == nil {
				return 0, false
			}
			return *got.N, true
		}, binaries.Node(t), filepath.Join(binaries.Root, "integration", "node", "odd.mjs"), version)
	}
	return &tsOddClient{start("v1"), start("v2")}
}

func (c *tsOddClient) ask(ctx context.Context, patience time.Duration, p place, q question) (outcome, error) {
	program := c.v1
	if p.stateless {
		program = c.v2
	}
	what := map[asking]string{calls: "call", lists: "list", notifies: "notify"}[q.ask]
	line, err := program.do(ctx, func(n int64) any {
		return map[string]any{"n": n, "url": p.url, "secret": p.secret, "hand": p.hand, "ask": what, "tool": q.tool, "token": q.token, "bound": patience.Milliseconds()}
	})
	if err != nil {
		return outcome{}, err
	}
	var got struct {
		Kind    string          `json:"kind"`
		Value   json.RawMessage `json:"value"`
		Code    int64           `json:"code"`
		Message string          `json:"message"`
		Data    json.RawMessage `json:"data"`
		Lost    bool            `json:"lost"`
	}
	if err := json.Unmarshal(line, &got); err != nil {
		return outcome{}, fmt.Errorf("%w in %s", err, line)
	}
	var o outcome
	switch got.Kind {
	case "unconnected":
		return outcome{}, errors.New(got.Message)
	case "result":
		o = ofResult(got.Value)
		if q.ask == notifies {
			o = outcome{kind: "accepted"}
		}
	case "error":
		o = ofError(got.Code, got.Message, got.Data)
	default:
		o = outcome{kind: got.Kind, detail: got.Message}
	}
	o.lost = got.Lost
	return o.settle(q), nil
}

// remoteOddClient runs mcp-remote, a bridge for programs that support only servers
// on stdin and stdout. The client has one process for each place.
type remoteOddClient struct {
	t  *testing.T
	mu sync.Mutex

	bridges map[place]*lineProgram
}

func newRemoteOddClient(t *testing.T) *remoteOddClient {
	return &remoteOddClient{t: t, bridges: map[place]*lineProgram{}}
}

// remoteBridges is the number of processes for each endpoint and protocol version. The
// client has more callers than that, so several callers share a process.
const remoteBridges = 2

// bridge returns a process that has an open session with the given place.
func (c *remoteOddClient) bridge(p place) (*lineProgram, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if b := c.bridges[p]; b != nil && !b.gone() {
		return b, nil
	}
	args := []string{binaries.Module(c.t, "mcp-remote", "dist", "proxy.js"), p.url, "--allow-http", "--transport", "http-only", "--header", "Authorization:Bearer " + p.secret}
	if p.stateless {
		args = append(args, "--protocol", "auto")
	}
	b := startLines(c.t, func(line []byte) (int64, bool) {
		var got struct {
			ID     *int64 `json:"id"`
			Method string `json:"method"`
		}
		if err := json.Unmarshal(line, &got); err != nil || got.ID == nil || got.Method != "" {
			return 0, false
		}
		return *got.ID, true
	}, binaries.Node(c.t), args...)
	ctx, cancel := context.WithTimeout(c.t.Context(), harness.Patience)
	defer cancel()
	line, err := b.do(ctx, func(n int64) any {
		return map[string]any{"jsonrpc": "2.0", "id": n, "method": "initialize", "params": map[string]any{
			"protocolVersion": "2025-11-25", "capabilities": map[string]any{}, "clientInfo": map[string]any{"name": "farebox-test", "version": "1.0.0"},
		}}
	})
	if err != nil {
		return nil, fmt.Errorf("initialize: %w", err)
	}
	if !bytes.Contains(line, []byte(`"result"`)) {
		return nil, fmt.Errorf("initialize: %s", line)
	}
	b.tell(map[string]any{"jsonrpc": "2.0", "method": "notifications/initialized"})
	c.bridges[p] = b
	return b, nil
}

func (p *lineProgram) gone() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ended != nil
}

func (p *lineProgram) tell(notification any) {
	line, _ := json.Marshal(notification) // no error, because these messages can always be marshalled
	p.mu.Lock()
	defer p.mu.Unlock()
	_, _ = p.in.Write(append(line, '\n')) // if the program has ended, the next question fails
}

func (c *remoteOddClient) ask(ctx context.Context, patience time.Duration, p place, q question) (outcome, error) {
	if q.ask == notifies {
		return outcome{}, errors.ErrUnsupported
	}
	p.hand %= remoteBridges
	b, err := c.bridge(p)
	if err != nil {
		return outcome{}, err
	}
	method, params := "tools/call", map[string]any{"name": q.tool, "arguments": map[string]any{"odd": q.token}}
	if q.ask == lists {
		method, params = "tools/list", map[string]any{"cursor": q.token}
	}
	waiting, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	line, err := b.do(waiting, func(n int64) any {
		return map[string]any{"jsonrpc": "2.0", "id": n, "method": method, "params": params}
	})
	var o outcome
	switch {
	case waiting.Err() != nil:
		return outcome{kind: "hangs"}, nil
	case err != nil:
		return outcome{kind: "fails", detail: "the bridge has ended"}, nil
	}
	if o, err = readBridged(line); err != nil {
		return outcome{}, err
	}
	if o.kind != "result" && o.kind != "list" {
		again, err := b.do(ctx, func(n int64) any {
			return map[string]any{"jsonrpc": "2.0", "id": n, "method": "tools/list"}
		})
		o.lost = err != nil || !bytes.Contains(again, []byte(`"tools"`))
	}
	return o.settle(q), nil
}

func readBridged(line []byte) (outcome, error) {
	var m struct {
		Result json.RawMessage `json:"result"`
		Error  *struct {
			Code    int64           `json:"code"`
			Message string          `json:"message"`
			Data    json.RawMessage `json:"data"`
		} `json:"error"`
	}
	if err := json.Unmarshal(line, &m); err != nil {
		return outcome{}, fmt.Errorf("%w in %s", err, line)
	}
	if m.Error != nil {
		return ofError(m.Error.Code, m.Error.Message, m.Error.Data), nil
	}
	return ofResult(m.Result), nil
}
