// Package stdiotest is a stdio MCP server for tests that can misbehave in the ways that
// real ones do.
package stdiotest

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
)

// Variable is the environment variable with the server's modes, separated by commas. Test
// binaries that have it call Main.
const Variable = "FAREBOX_STDIOTEST"

// The modes of a server.
const (
	Plain    = "plain"    // as it should be
	Stubborn = "stubborn" // ignores SIGTERM and the end of its stdin
	Banner   = "banner"   // prints a banner to stdout at its start
	Broken   = "broken"   // ends at its start
	Silent   = "silent"   // never answers
	Modern   = "modern"   // speaks 2026-07-28, too
	Stay     = "stay"     // does nothing, and ignores SIGTERM
)

type message struct {
	JSONRPC string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id,omitempty"`
	Method  string          `json:"method,omitempty"`
	Params  *params         `json:"params,omitempty"`
	Result  any             `json:"result,omitempty"`
	Error   any             `json:"error,omitempty"`
}

type params struct {
	Name            string          `json:"name,omitempty"`
	ProtocolVersion string          `json:"protocolVersion,omitempty"`
	RequestID       json.RawMessage `json:"requestId,omitempty"`
	Arguments       struct {
		Text  string `json:"text,omitempty"`
		Count int    `json:"count,omitempty"`
	} `json:"arguments,omitzero"`
	Meta struct {
		ProgressToken json.RawMessage `json:"progressToken,omitempty"`
	} `json:"_meta,omitzero"`
}

// server is a running server.
type server struct {
	modes   []string
	held    []json.RawMessage // ids of calls that wait for notifications/release
	asking  json.RawMessage   // the id of the call that asked its client
	garbage [][]byte          // memory that was asked for
}

// Main runs a server on stdin and stdout, with the modes in the environment variable, and
// returns when its stdin ends.
func Main() {
	s := &server{modes: strings.Split(os.Getenv(Variable), ",")}
	if s.is(Stubborn) || s.is(Stay) {
		signal.Ignore(syscall.SIGTERM)
	}
	if s.is(Broken) {
		fmt.Fprintln(os.Stderr, "this server is broken")
		os.Exit(4)
	}
	if s.is(Banner) {
		fmt.Println("Welcome to the server!\n\n=====")
	}
	if !s.is(Stay) {
		in := bufio.NewScanner(os.Stdin)
		in.Buffer(nil, 128<<20)
		for in.Scan() {
			var m message
			if json.Unmarshal(in.Bytes(), &m) == nil && !s.is(Silent) {
				s.handle(&m)
			}
		}
	}
	if s.is(Stubborn) || s.is(Stay) {
		_ = clock.Sleep(context.Background(), 24*time.Hour)
	}
}

func (s *server) is(mode string) bool { return slices.Contains(s.modes, mode) }

func (s *server) write(m message) {
	m.JSONRPC = "2.0"
	line, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	_, _ = os.Stdout.Write(append(line, '\n'))
}

func (s *server) result(id json.RawMessage, text string) {
	s.write(message{ID: id, Result: map[string]any{"resultType": "complete", "content": []any{map[string]any{"type": "text", "text": text}}}})
}

func (s *server) handle(m *message) {
	if m.Params == nil {
		m.Params = new(params)
	}
	switch m.Method {
	case "initialize":
		s.write(message{ID: m.ID, Result: map[string]any{
			"protocolVersion": m.Params.ProtocolVersion, "capabilities": map[string]any{"tools": map[string]any{}}, "serverInfo": map[string]any{"name": "stdiotest", "version": "1"},
		}})
	case "server/discover":
		if !s.is(Modern) {
			s.write(message{ID: m.ID, Error: map[string]any{"code": -32601, "message": "no such method"}})
			return
		}
		s.write(message{ID: m.ID, Result: map[string]any{
			"resultType": "complete", "supportedVersions": []string{"2026-07-28"}, "capabilities": map[string]any{"tools": map[string]any{}},
			"ttlMs": 0, "cacheScope": "private", "_meta": map[string]any{"io.modelcontextprotocol/serverInfo": map[string]any{"name": "stdiotest", "version": "1"}},
		}})
	case "tools/list":
		s.write(message{ID: m.ID, Result: s.list()})
	case "tools/call":
		s.call(m)
	case "notifications/release":
		for _, id := range s.held {
			s.result(id, "released")
		}
		s.held = nil
	case "notifications/cancelled":
		s.write(message{Method: "notifications/saw_cancelled", Params: m.Params})
	case "":
		s.result(s.asking, "the client answered")
	}
}

func (s *server) list() any {
	var tools []any
	for _, name := range []string{"echo", "pid", "die", "hang"} {
		tools = append(tools, map[string]any{"name": name, "inputSchema": map[string]any{"type": "object"}})
	}
	return map[string]any{"resultType": "complete", "tools": tools, "ttlMs": 0, "cacheScope": "private"}
}

// call runs a tool.
func (s *server) call(m *message) {
	args := m.Params.Arguments
	switch m.Params.Name {
	case "echo":
		s.result(m.ID, args.Text)
	case "pid":
		s.result(m.ID, strconv.Itoa(os.Getpid()))
	case "env":
		s.result(m.ID, strings.Join(os.Environ(), "\n"))
	case "hang":
	case "hold":
		s.held = append(s.held, m.ID)
	case "die":
		os.Exit(3)
	case "half":
		_, _ = os.Stdout.WriteString(`{"jsonrpc":"2.0","id":`)
		os.Exit(0)
	case "flood":
		for i := range args.Count {
			fmt.Fprintln(os.Stderr, "line", i, args.Text)
		}
		s.result(m.ID, "flooded")
	case "fork":
		s.fork(m.ID)
	case "chatter":
		fmt.Println("Now listening, and not JSON")
		s.result(m.ID, "chattered")
	case "huge":
		s.result(m.ID, strings.Repeat("x", args.Count))
	case "allocate":
		for range args.Count {
			block := make([]byte, 1<<20)
			for i := range block {
				block[i] = byte(i)
			}
			s.garbage = append(s.garbage, block)
		}
	case "progress":
		for i := range args.Count {
			fmt.Printf(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%s,"progress":%d}}`+"\n", m.Params.Meta.ProgressToken, i)
		}
		s.result(m.ID, "progressed")
	case "ask":
		s.asking = m.ID
		s.write(message{ID: json.RawMessage(`"question"`), Method: "sampling/createMessage"})
	case "note":
		s.write(message{Method: args.Text})
		s.result(m.ID, "noted")
	default:
		s.write(message{ID: m.ID, Error: map[string]any{"code": -32602, "message": "unknown tool"}})
	}
}

// fork starts a process that holds the same pipes and does not end by itself.
func (s *server) fork(id json.RawMessage) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = []string{Variable + "=" + Stay}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		panic(err)
	}
	s.result(id, strconv.Itoa(cmd.Process.Pid))
}
