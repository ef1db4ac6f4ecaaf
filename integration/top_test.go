package integration

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/term"

	"github.com/fareboxhq/farebox/integration/harness"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/top"
)

// topGateway starts a gateway with a server that callers pay for, and returns the
// secret of a key that pays.
func topGateway(t *testing.T) (*harness.Gateway, string) {
	t.Helper()
	g := binaries.StartGateway(t, harness.Site(binaries.StartWeather(t, "-stateless"), "server weather", "provider acme", "price get_forecast 0.01"))
	_, key := g.NewAgent(t, "alice", "1000.00")
	return g, key.Secret
}

// TestTopOnce checks that "top --once" shows the requests, the money and the
// durations of a gateway under load, and that these figures agree with the books.
func TestTopOnce(t *testing.T) {
	t.Parallel()
	g, secret := topGateway(t)
	_, poor := g.NewAgent(t, "bob", "0.001")
	post(t, g, poor.Secret, harness.ToolCall(1, "get_forecast", `{"city":"Oslo"}`))
	load := startPayers(t, g, secret, 4)
	harness.Eventually(t, "a call", func() error {
		if len(load.received()) == 0 {
			return errNotYet
		}
		return nil
	})
	var v top.View
	g.CLI(t, &v, "top", "--once", "--interval", "1s")
	load.end()
	charged := ledger.Amount(0)
	for _, c := range g.Charges(t, "alice") {
		charged += c.Amount
	}
	t.Logf("in %v s: %v requests per second, %s per minute, %d tools", *v.Seconds, *v.Requests.PerSecond, v.Money.Live.ChargedPerMinute, len(v.Tools))
	switch {
	case *v.Seconds < 1 || *v.Currency != "USD" || !*v.Store.Up || *v.Store.Kind != "sqlite" || v.Gateway.UptimeSeconds == nil:
		t.Errorf("the gateway: %+v, currency %s, %v seconds", v.Gateway, *v.Currency, *v.Seconds)
	case *v.Requests.PerSecond <= 0 || *v.Requests.Kinds[0].PerSecond <= 0 || *v.Money.Lacking.Total != 1:
		t.Errorf("the requests: %+v", v.Requests)
	case *v.Money.Live.ChargedPerMinute <= 0 || *v.Money.Live.Charged <= 0 || *v.Money.Live.Charged > charged || *v.Money.Test.Charged != 0:
		t.Errorf("the money: %+v; the books have %s", v.Money, charged)
	case v.Time.Added.P99 == nil || v.Time.Upstream.P50 == nil || v.Time.Capture.P99 == nil || v.Store.Commit.P99 == nil || v.Keys.HitRatio == nil:
		t.Errorf("the durations: %+v, %+v, %+v", v.Time, v.Store, v.Keys)
	case len(v.Servers) != 1 || v.Servers[0].Server != "weather" || v.Servers[0].Added.P99 == nil:
		t.Errorf("the servers: %+v", v.Servers)
	case v.Tools[0].Tool != "get_forecast" || v.Tools[0].MeanSeconds == nil || *v.Tools[0].AmountPerMinute != *v.Money.Live.ChargedPerMinute:
		t.Errorf("the tools: %+v", v.Tools)
	case len(v.Attention) != 0:
		t.Errorf("the notices: %+v", v.Attention)
	}
}

// TestTopFailures checks that a call to a server that is down is counted as failed,
// by its code.
func TestTopFailures(t *testing.T) {
	t.Parallel()
	g := binaries.StartGateway(t, harness.Site("http://127.0.0.1:1", "server nowhere", "provider acme", "price get_forecast 0.01"))
	_, key := g.NewAgent(t, "alice", "1.00")
	post(t, g, key.Secret, harness.ToolCall(1, "get_forecast", `{"city":"Oslo"}`))
	var v top.View
	g.CLI(t, &v, "top", "--once", "--interval", "100ms")
	failed := v.Requests.Kinds[len(v.Requests.Kinds)-1]
	if failed.Kind != top.Failed || *failed.Total != 1 || *v.Servers[0].Failed.Total != 1 || *v.Money.Live.Charged != 0 {
		t.Errorf("requests %+v, servers %+v", v.Requests, v.Servers)
	}
	if !slices.ContainsFunc(v.Requests.Decisions, func(d top.DecisionCount) bool { return d.Decision == "UPSTREAM_FAILED" && *d.Total == 1 }) {
		t.Errorf("decisions %+v", v.Requests.Decisions)
	}
}

// liveTop is the live screen in a pseudo terminal.
type liveTop struct {
	t        *testing.T
	cmd      *exec.Cmd
	terminal *os.File
	before   *term.State // the state of the terminal before the screen
	done     chan error

	mu    sync.Mutex
	shown []byte // the output since await last returned
	all   []byte
}

func startTop(t *testing.T, g *harness.Gateway, columns, rows uint16, environment ...string) *liveTop {
	t.Helper()
	l := &liveTop{t: t, done: make(chan error, 1)}
	l.cmd = exec.Command(binaries.Farebox, "top", "--address", g.Admin, "--interval", "200ms")
	l.cmd.Env = append(append(os.Environ(), g.Environment()...), append(environment, "TERM=xterm-256color")...)
	l.cmd.Dir = g.Dir
	terminal, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer tty.Close()
	l.terminal = terminal
	l.resize(columns, rows)
	if l.before, err = term.GetState(int(terminal.Fd())); err != nil {
		t.Fatal(err)
	}
	l.cmd.Stdin, l.cmd.Stdout, l.cmd.Stderr = tty, tty, tty
	l.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := l.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = l.cmd.Process.Kill() // fails if the program has ended already
		_ = terminal.Close()
	})
	go l.read()
	go func() { l.done <- l.cmd.Wait() }()
	return l
}

// read collects the output until the terminal is closed.
func (l *liveTop) read() {
	buffer := make([]byte, 64<<10)
	for {
		n, err := l.terminal.Read(buffer)
		l.mu.Lock()
		l.shown = append(l.shown, buffer[:n]...)
		l.all = append(l.all, buffer[:n]...)
		l.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// await waits until the texts have been shown since the last await.
func (l *liveTop) await(texts ...string) {
	l.t.Helper()
	harness.Eventually(l.t, fmt.Sprintf("%q on the screen", texts), func() error {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, text := range texts {
			if !bytes.Contains(l.shown, []byte(text)) {
				return fmt.Errorf("not there yet: %q in %q", text, l.shown[max(0, len(l.shown)-2000):])
			}
		}
		l.shown = nil
		return nil
	})
}

// output returns all output so far.
func (l *liveTop) output() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.all)
}

func (l *liveTop) resize(columns, rows uint16) {
	l.t.Helper()
	if err := pty.Setsize(l.terminal, &pty.Winsize{Cols: columns, Rows: rows}); err != nil {
		l.t.Fatal(err)
	}
}

func (l *liveTop) press(keys string) {
	l.t.Helper()
	if _, err := l.terminal.WriteString(keys); err != nil {
		l.t.Fatal(err)
	}
}

// ends checks that the program ends by itself with the exit code 0, and leaves the
// terminal as it was: without the alternate screen, with a cursor, not in raw mode.
func (l *liveTop) ends() {
	l.t.Helper()
	select {
	case err := <-l.done:
		if err != nil {
			l.t.Fatalf("it ended with %v:\n%q", err, l.output())
		}
	case <-time.After(harness.Patience):
		l.t.Fatal("it does not end")
	}
	const enter, leave, hide, show = "\x1b[?1049h", "\x1b[?1049l", "\x1b[?25l", "\x1b[?25h"
	harness.Eventually(l.t, "the terminal's former screen and cursor", func() error {
		all := l.output()
		if !strings.Contains(all, enter) || strings.LastIndex(all, leave) < strings.LastIndex(all, enter) || strings.LastIndex(all, show) < strings.LastIndex(all, hide) {
			return fmt.Errorf("the output ends with %q", all[max(0, len(all)-500):])
		}
		return nil
	})
	after, err := term.GetState(int(l.terminal.Fd()))
	if err != nil {
		l.t.Fatal(err)
	}
	if fmt.Sprint(*after) != fmt.Sprint(*l.before) {
		l.t.Errorf("the terminal's mode is %v, was %v", *after, *l.before)
	}
}

// TestTopLive drives the live screen in a terminal: it shows a paid call, follows a
// change of the terminal's size, says when the gateway stops and when it is back, and
// quits by q.
func TestTopLive(t *testing.T) {
	t.Parallel()
	g, secret := topGateway(t)
	l := startTop(t, g, 120, 40)
	l.await("REQUESTS", "USD/min", "nothing needs attention", "SERVERS", "q quit")
	post(t, g, secret, harness.ToolCall(1, "get_forecast", `{"city":"Oslo"}`))
	l.await("get_forecast")
	l.resize(60, 15)
	l.await("requests", "TOOLS by calls", "get_forecast")
	l.resize(160, 50)
	l.await("REQUESTS", "KEYS", "get_forecast")
	l.press("s?")
	l.await("pause, and go on")
	l.press("?") // the whole screen is drawn again, so that the output contains complete words
	l.await("TOOLS by time")
	g.Stop(t)
	l.await("NO ANSWER since", "connection refused")
	g.Start(t)
	l.await("restarted")
	l.press("q")
	l.ends()
}

// TestTopEnds checks that the live screen ends properly by Ctrl-C, by Esc, by SIGTERM
// and by SIGINT, and that NO_COLOR leaves words without colors.
func TestTopEnds(t *testing.T) {
	t.Parallel()
	g, _ := topGateway(t)
	for name, end := range map[string]func(*liveTop) error{
		"Ctrl-C":  func(l *liveTop) error { l.press("\x03"); return nil },
		"Esc":     func(l *liveTop) error { l.press("\x1b"); return nil },
		"SIGTERM": func(l *liveTop) error { return l.cmd.Process.Signal(syscall.SIGTERM) },
		"SIGINT":  func(l *liveTop) error { return l.cmd.Process.Signal(syscall.SIGINT) },
	} {
		t.Run(name, func(t *testing.T) {
			l := startTop(t, g, 80, 24, "NO_COLOR=1")
			l.await("requests", "nothing needs attention", "q quit")
			if err := end(l); err != nil {
				t.Fatal(err)
			}
			l.ends()
			for _, color := range []string{"\x1b[32m", "\x1b[36m", ";36m", ";32m"} {
				if strings.Contains(l.output(), color) {
					t.Errorf("NO_COLOR is set, and the output has %q", color)
				}
			}
		})
	}
}

// TestTopWithoutTerminal checks that the live screen is refused if its output or its
// input is no terminal, or if the terminal cannot move its cursor.
func TestTopWithoutTerminal(t *testing.T) {
	t.Parallel()
	g, _ := topGateway(t)
	cmd := exec.Command(binaries.Farebox, "top", "--address", g.Admin)
	cmd.Env = append(append(os.Environ(), g.Environment()...), "TERM=dumb")
	terminal, err := pty.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close()
	var output bytes.Buffer
	_, _ = output.ReadFrom(terminal) // ends with an error when the program ends
	var exited *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exited) || exited.ExitCode() != 2 || !strings.Contains(output.String(), "top needs a terminal") || strings.Contains(output.String(), "\x1b") {
		t.Errorf("%v: %q", err, output.String())
	}
}

// TestTopNames checks that the JSON of a real gateway has every name that docs/top.md
// describes, and no other.
func TestTopNames(t *testing.T) {
	t.Parallel()
	g, secret := topGateway(t)
	post(t, g, secret, harness.ToolCall(1, "get_forecast", `{"city":"Oslo"}`))
	raw, err := g.Command("top", "--once", "--interval", "100ms")
	if err != nil {
		t.Fatal(err)
	}
	var tree any
	if err := json.Unmarshal(raw, &tree); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(binaries.Root + "/docs/top.md")
	if err != nil {
		t.Fatal(err)
	}
	described := make(map[string]bool)
	_, section, _ := strings.Cut(string(page), "\n## JSON\n")
	for row := range strings.Lines(section) {
		if strings.HasPrefix(row, "| `") {
			for _, m := range topName.FindAllStringSubmatch(strings.Split(row, "|")[1], -1) {
				described[m[1]] = true
			}
		}
	}
	found := make(map[string]bool)
	names(tree, "", found)
	for name := range found {
		if !described[name] {
			t.Errorf("docs/top.md does not describe %s", name)
		}
	}
	for name := range described {
		if !found[name] && !strings.HasPrefix(name, "attention[].") {
			t.Errorf("docs/top.md describes %s, which a gateway does not have", name)
		}
	}
}

// topName matches the names of JSON members in docs/top.md.
var topName = regexp.MustCompile("`([^`]+)`")

// names adds the paths of all members in the tree to the map found.
func names(tree any, path string, found map[string]bool) {
	switch node := tree.(type) {
	case map[string]any:
		if path == "keys.expiring" || path == "store.bytes" { // the names of these members differ from gateway to gateway
			break
		}
		for name, member := range node {
			names(member, strings.TrimPrefix(path+"."+name, "."), found)
		}
		return
	case []any:
		for _, item := range node {
			names(item, path+"[]", found)
		}
		return
	}
	found[path] = true
}
