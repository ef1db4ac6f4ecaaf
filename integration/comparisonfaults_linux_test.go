package integration

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/integration/harness"
	"github.com/fareboxhq/farebox/internal/stdio/stdiotest"
)

// faultPatience bounds the wait for an answer or for the end of processes.
const faultPatience = 30 * time.Second

// comparedStand is a running program with one open session.
type comparedStand struct {
	process *harness.Process
	client  *comparedClient
	server  string // the file of the server
}

// comparedFault is a fault. play causes it and returns the consequence.
type comparedFault struct {
	name, modes string
	play        func(t *testing.T, s *comparedStand) string
	farebox     string // the consequence with farebox_stdio
}

var comparedFaults = []comparedFault{
	{"the server dies during a call", stdiotest.Plain, callThenAgain("die", `{}`), "an error; a new session works"},
	{"the server writes half a line and ends", stdiotest.Plain, callThenAgain("half", `{}`), "an error; a new session works"},
	{"the server prints a banner to stdout at its start", stdiotest.Banner, callThenAgain("echo", `{"text":"x"}`), "a result; the session works"},
	{"the server prints text to stdout during a call", stdiotest.Plain, callThenAgain("chatter", `{}`), "a result; the session works"},
	{"100,000 lines on stderr during a call", stdiotest.Plain, callThenAgain("flood", `{"count":100000,"text":"a line"}`), "a result; the session works"},
	{"a result of 60 MiB", stdiotest.Plain, callThenAgain("huge", `{"count":62914560}`), "a result; the session works"},
	{"the server has started a child, and its session ends", stdiotest.Plain, func(t *testing.T, s *comparedStand) string {
		s.play(t, "fork", `{}`)
		s.client.end(t)
		return s.left(t)
	}, "nothing is left"},
	{"the server ignores SIGTERM, and the program is stopped", stdiotest.Stubborn, func(t *testing.T, s *comparedStand) string {
		s.process.Signal(t, syscall.SIGTERM)
		return s.left(t)
	}, "nothing is left"},
	{"the server ignores SIGTERM, and the program is killed", stdiotest.Stubborn, func(t *testing.T, s *comparedStand) string {
		s.process.Kill()
		return s.left(t)
	}, "nothing is left"},
}

// callThenAgain makes a call, and then another one.
func callThenAgain(tool, arguments string) func(*testing.T, *comparedStand) string {
	return func(t *testing.T, s *comparedStand) string {
		return s.play(t, tool, arguments) + "; " + s.again(t)
	}
}

// play makes a call, and names its end.
func (s *comparedStand) play(t *testing.T, tool, arguments string) string {
	ctx, cancel := context.WithTimeout(t.Context(), faultPatience)
	defer cancel()
	s.client.id++
	switch m, err := s.client.post(ctx, harness.ToolCall(s.client.id, tool, arguments)); {
	case errors.Is(err, context.DeadlineExceeded):
		return "no answer"
	case err != nil && strings.HasPrefix(err.Error(), "status "):
		return "an error"
	case err != nil:
		return "a broken connection"
	case m == nil:
		return "a response without an answer"
	case m.Error != nil:
		return "an error"
	}
	return "a result"
}

// again says whether calls work after a fault, in the same session or in a new one.
func (s *comparedStand) again(t *testing.T) string {
	ctx, cancel := context.WithTimeout(t.Context(), faultPatience)
	defer cancel()
	if s.client.call(ctx, "echo", `{"text":"again"}`, "again") == nil {
		return "the session works"
	}
	ctx, cancel = context.WithTimeout(t.Context(), faultPatience)
	defer cancel()
	s.client.session = ""
	if s.client.open(ctx) == nil && s.client.call(ctx, "echo", `{"text":"again"}`, "again") == nil {
		return "a new session works"
	}
	return "no new session works"
}

// end ends the session as a client does.
func (c *comparedClient) end(t *testing.T) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, c.endpoint, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Mcp-Session-Id", c.session)
	req.Header.Set("Mcp-Protocol-Version", "2025-06-18")
	resp, err := c.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
}

// left says how many processes of the server do not end in time, and kills them.
func (s *comparedStand) left(t *testing.T) string {
	t.Helper()
	deadline := time.After(faultPatience)
	for {
		running := runningPrograms(t, s.server)
		if len(running) == 0 {
			return "nothing is left"
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-deadline:
			killPrograms(running)
			return fmt.Sprintf("%d left", len(running))
		}
	}
}

// runningPrograms returns the ids of the processes that run the program file.
func runningPrograms(t *testing.T, file string) (pids []int) {
	t.Helper()
	links, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		var pid int
		if target, err := os.Readlink(link); err == nil && target == file {
			if _, err := fmt.Sscanf(link, "/proc/%d/exe", &pid); err != nil {
				t.Fatal(err)
			}
			pids = append(pids, pid)
		}
	}
	return pids
}

func killPrograms(pids []int) {
	for _, pid := range pids {
		_ = syscall.Kill(pid, syscall.SIGKILL) // fails for a process that has ended
	}
}

// TestComparisonOfFaults plays faults of servers behind farebox_stdio, and with
// -comparison-rounds behind the other programs too.
func TestComparisonOfFaults(t *testing.T) {
	built := binaries.BuildModule(t, stdioChild)
	programs := comparedPrograms()
	if *comparisonRounds == 0 {
		programs = programs[:1]
	}
	for _, fault := range comparedFaults {
		line := "| " + fault.name
		for i, program := range programs {
			t.Run(fault.name+", "+program.name, func(t *testing.T) {
				server := filepath.Join(t.TempDir(), "server") // a name of its own, by which its processes are found
				if err := os.Link(built, server); err != nil {
					t.Fatal(err)
				}
				t.Setenv(stdiotest.Variable, fault.modes)
				p, endpoint := program.start(t, server)
				s := &comparedStand{process: p, client: newComparedClient(endpoint), server: server}
				awaitFirst(t, p, s.client)
				got := fault.play(t, s)
				if !p.Ended() {
					p.Kill()
				}
				killPrograms(runningPrograms(t, server))
				if line += " | " + got; i == 0 && got != fault.farebox {
					t.Errorf("%q, want %q", got, fault.farebox)
				}
			})
		}
		t.Log(line + " |")
	}
}
