package integration

import (
	"bytes"
	"errors"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/fareboxhq/farebox/integration/harness"
)

// quickstart is the program of "make run" in a directory of its own.
type quickstart struct {
	dir   string
	ports [3]string // the ports of the gateway, the weather server and the admin endpoint
}

func newQuickstart(t *testing.T) *quickstart {
	t.Helper()
	return &quickstart{dir: t.TempDir(), ports: [3]string{harness.FreePort(t), harness.FreePort(t), harness.FreePort(t)}}
}

func (q *quickstart) start(t *testing.T, log string, flags ...string) *harness.Process {
	t.Helper()
	return harness.Start(t, "quickstart", filepath.Join(q.dir, log), []string{
		"FAREBOX_PORT=" + q.ports[0], "WEATHER_PORT=" + q.ports[1], "CADDY_ADMIN=localhost:" + q.ports[2],
		"HOME=" + q.dir, "XDG_DATA_HOME=", "XDG_CONFIG_HOME=", "GORACE=atexit_sleep_ms=0",
	}, binaries.Quickstart, append([]string{
		"-farebox", binaries.Farebox, "-weather", binaries.Weather,
		"-config", filepath.Join(binaries.Root, "Caddyfile"), "-data", filepath.Join(q.dir, "data"),
	}, flags...)...)
}

// up starts the program and waits for its report. It returns the running process
// and its output.
func (q *quickstart) up(t *testing.T, log string) (*harness.Process, string) {
	t.Helper()
	p := q.start(t, log)
	p.Await(t, "the report", func() error {
		if !strings.Contains(p.Output(t), "Ctrl-C ends all of it.") {
			return errors.New("not there yet")
		}
		return nil
	})
	return p, p.Output(t)
}

// ended checks that the processes have ended and the ports are free.
func (q *quickstart) ended(t *testing.T, children []int) {
	t.Helper()
	allEnded(t, children, q.ports[:])
}

// allEnded checks that the processes have ended and the ports are free.
func allEnded(t *testing.T, children []int, ports []string) {
	t.Helper()
	for _, pid := range children {
		if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("process %d is still there: %v", pid, err)
		}
	}
	for _, port := range ports {
		listener, err := net.Listen("tcp", "127.0.0.1:"+port)
		if err != nil {
			t.Errorf("port is still taken: %v", err)
			continue
		}
		_ = listener.Close()
	}
}

// TestQuickstart checks that a run shows a paid call, its receipt and the balances. A
// second run continues with the same account. All processes end with Ctrl-C, and at the
// end of a run with --once. No secret is left on disk.
func TestQuickstart(t *testing.T) {
	t.Parallel()
	q := newQuickstart(t)
	first := q.start(t, "first.out", "-once")
	if code := first.Wait(t); code != 0 {
		t.Fatalf("exit code %d\n%s", code, first.Tail())
	}
	q.ended(t, nil)
	mustContain(t, first.Output(t), "call      get_forecast", "Oslo: snow showers", "charged   0.01 USD (chg_", "receipt   eyJ", "5.00 before, 4.99 after")

	second, output := q.up(t, "second.out")
	mustContain(t, output, "4.99 before, 4.98 after", "Bearer sk_test_", "http://localhost:"+q.ports[0]+"/console/invite/fbi_")
	log, err := os.ReadFile(filepath.Join(q.dir, "data", "gateway.log"))
	if err != nil {
		t.Fatal(err)
	}
	mustContain(t, string(log), `"msg":"the store is open","store":"sqlite","at":"`+filepath.Join(q.dir, "data", "farebox.db")+`"`)
	children := childrenOf(t, second.PID())
	if len(children) != 2 {
		t.Errorf("%d processes run beside it: %v; want 2", len(children), children)
	}
	// A terminal sends the signal to the whole process group.
	if err := syscall.Kill(-second.PID(), syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if code := second.Wait(t); code != 0 {
		t.Errorf("exit code %d\n%s", code, second.Tail())
	}
	q.ended(t, children)
	mustContain(t, second.Output(t), "Stopped.")
	noSecretsIn(t, q.dir, first.Output(t)+second.Output(t))
}

// TestQuickstartNamesBusyPorts checks that, if a port is taken, the program starts no
// process, and its message names the port and the way to choose another.
func TestQuickstartNamesBusyPorts(t *testing.T) {
	t.Parallel()
	q := newQuickstart(t)
	listener, err := net.Listen("tcp", "127.0.0.1:"+q.ports[0])
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	p := q.start(t, "busy.out", "-once")
	if code := p.Wait(t); code != 1 {
		t.Errorf("exit code %d; want 1", code)
	}
	mustContain(t, p.Output(t), "port "+q.ports[0]+" is not free", "FAREBOX_PORT=18080 make run")
	if _, err := os.Stat(filepath.Join(q.dir, "data")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("something was started: %v", err)
	}
}

// TestQuickstartLinesToPaste checks that, with the key and the address in the printed
// line for an MCP client, a client can connect and call a tool.
func TestQuickstartLinesToPaste(t *testing.T) {
	t.Parallel()
	q := newQuickstart(t)
	p, output := q.up(t, "run.out")
	line := regexp.MustCompile(`claude mcp add --transport http weather (\S+) --header "Authorization: Bearer (\S+)"`).FindStringSubmatch(output)
	if line == nil {
		t.Fatalf("no line to paste in\n%s", output)
	}
	session := connectTo(t, line[1], line[2])
	result, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "climate_report", Arguments: map[string]any{"city": "Oslo"}})
	if err != nil || result.IsError {
		t.Fatalf("got %+v, %v", result, err)
	}
	if charge := harness.ReadMeta(t, result.Meta).Charge; charge == nil || charge.Environment != "test" {
		t.Errorf("got charge %+v; want a charge in test credits", charge)
	}
	p.Stop(t)
	q.ended(t, nil)
}

// TestQuickstartCurl checks that the printed curl command works unchanged.
func TestQuickstartCurl(t *testing.T) {
	t.Parallel()
	q := newQuickstart(t)
	p, output := q.up(t, "run.out")
	command := regexp.MustCompile(`(?s)\n  curl .*?'\n\n`).FindString(output)
	if command == "" {
		t.Fatalf("no curl command in\n%s", output)
	}
	got, err := exec.CommandContext(t.Context(), "sh", "-c", command).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, got)
	}
	mustContain(t, string(got), "Oslo: snow showers", `"dev.farebox/charge"`, `"balance":"4.98"`)
	p.Stop(t)
	q.ended(t, nil)
}

func mustContain(t *testing.T, text string, wants ...string) {
	t.Helper()
	for _, want := range wants {
		if !strings.Contains(text, want) {
			t.Errorf("want %q in\n%s", want, text)
		}
	}
}

func connectTo(t *testing.T, endpoint, secret string) *mcp.ClientSession {
	t.Helper()
	g := harness.Gateway{Port: strings.TrimSuffix(strings.TrimPrefix(endpoint, "http://localhost:"), "/mcp")}
	if g.Endpoint() != endpoint {
		t.Fatalf("endpoint %s; want it on localhost", endpoint)
	}
	return g.Connect(t, secret, nil)
}

// noSecretsIn searches the files in the program's directory for the secrets that
// the program printed and for other secrets. It skips the program's own output,
// which is in files that end in .out.
func noSecretsIn(t *testing.T, dir, printed string) {
	t.Helper()
	secret := regexp.MustCompile(`(?:sk|pat)_(?:test|live)_[0-9a-f]{64}`)
	secrets := secret.FindAllString(printed, -1)
	if len(secrets) == 0 {
		t.Fatal("it printed no secret to search for")
	}
	texts := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() || filepath.Ext(path) == ".out" {
			return err
		}
		texts[path], err = os.ReadFile(path)
		if secret.Match(texts[path]) {
			t.Errorf("there is a secret in %s", path)
		}
		return err
	})
	if err != nil || len(texts) < 3 {
		t.Fatalf("it left %d files, %v; want at least three", len(texts), err)
	}
	for _, finding := range harness.Findings(texts, secrets) {
		t.Error(finding)
	}
}

// childrenOf lists the ids of the child processes of a process (see proc(5)).
func childrenOf(t *testing.T, parent int) []int {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	var children []int
	for _, stat := range stats {
		text, err := os.ReadFile(stat)
		if err != nil {
			continue // the process has ended since Glob listed it
		}
		// The format is "pid (name) state ppid …", and the name may have spaces and
		// brackets.
		fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
		if len(fields) > 1 && fields[1] == strconv.Itoa(parent) {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(stat)))
			if err != nil {
				t.Fatal(err)
			}
			children = append(children, pid)
		}
	}
	return children
}
