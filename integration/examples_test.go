package integration

import (
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/fareboxhq/farebox/integration/harness"
)

// example is a program that starts several servers with one command.
type example struct {
	dir   string
	ports map[string]string // the ports of the servers, by the environment variable that sets the port

	environment []string
	process     *harness.Process
	output      string
}

// startExample starts the program and returns as soon as the program has printed its
// report. Variables ending in ADMIN hold addresses, and all other variables hold ports.
func startExample(t *testing.T, name string, variables ...string) *example {
	t.Helper()
	e := &example{dir: t.TempDir(), ports: map[string]string{}}
	e.environment = []string{"HOME=" + e.dir, "XDG_DATA_HOME=", "XDG_CONFIG_HOME=", "GORACE=atexit_sleep_ms=0"}
	for _, v := range variables {
		e.ports[v] = harness.FreePort(t)
		value := e.ports[v]
		if strings.HasSuffix(v, "ADMIN") {
			value = "localhost:" + value
		}
		e.environment = append(e.environment, v+"="+value)
	}
	e.process = harness.Start(t, name, filepath.Join(e.dir, "run.out"), e.environment,
		binaries.BuildModule(t, "./examples/"+name), "-farebox", binaries.Farebox, "-weather", binaries.Weather,
		"-configs", filepath.Join(binaries.Root, "examples", name), "-data", filepath.Join(e.dir, "data"))
	e.process.Await(t, "the report", func() error {
		if !strings.Contains(e.process.Output(t), "Ctrl-C ends all of it.") {
			return errors.New("not there yet")
		}
		return nil
	})
	e.output = e.process.Output(t)
	return e
}

// address returns the address with the variable's port, in the form that the report
// uses.
func (e *example) address(variable string) string { return "localhost:" + e.ports[variable] }

// session connects an MCP client with the URL and the key in the example's report.
func (e *example) session(t *testing.T) *mcp.ClientSession {
	t.Helper()
	line := regexp.MustCompile(`claude mcp add --transport http weather (\S+) --header "Authorization: Bearer (\S+)"`).FindStringSubmatch(e.output)
	if line == nil {
		t.Fatalf("no line to paste in\n%s", e.output)
	}
	return connectTo(t, line[1], line[2])
}

// pay calls a priced tool and returns its charge.
func pay(t *testing.T, session *mcp.ClientSession, tool string) *harness.Paid {
	t.Helper()
	result, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: tool, Arguments: map[string]any{"city": "Oslo"}})
	if err != nil || result.IsError {
		t.Fatalf("got %+v, %v", result, err)
	}
	charge := harness.ReadMeta(t, result.Meta).Charge
	if charge == nil || charge.Environment != "test" {
		t.Fatalf("got charge %+v; want one of test credits", charge)
	}
	return charge
}

// charges returns the number of charges of the demo account. It asks the server with
// the admin address in the given variable.
func (e *example) charges(t *testing.T, admin string) int {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binaries.Farebox, "farebox", "charge", "list", "--account", "demo", "--json", "--address", e.address(admin))
	cmd.Env = append(os.Environ(), e.environment...)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("charge list at %s: %v", admin, err)
	}
	var all []harness.Charge
	if err := json.Unmarshal(out, &all); err != nil {
		t.Fatalf("charge list at %s: %v in %s", admin, err, out)
	}
	return len(all)
}

// interrupt ends the example in the same way as Ctrl-C. It checks that the example
// has the given number of child processes. After the end, no child process survives,
// every port is free, and no secret is left on disk.
func (e *example) interrupt(t *testing.T, processes int) {
	t.Helper()
	children := childrenOf(t, e.process.PID())
	if len(children) != processes {
		t.Errorf("%d child processes: %v; want %d", len(children), children, processes)
	}
	// A terminal sends the signal to the whole process group.
	if err := syscall.Kill(-e.process.PID(), syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if code := e.process.Wait(t); code != 0 {
		t.Errorf("exit code %d\n%s", code, e.process.Tail())
	}
	mustContain(t, e.process.Output(t), "Stopped.")
	var ports []string
	for _, port := range e.ports {
		ports = append(ports, port)
	}
	allEnded(t, children, ports)
	noSecretsIn(t, e.dir, e.process.Output(t))
}

// TestPostgresExample checks that one command runs two gateways on one PostgreSQL. Both
// gateways serve the calls of one session and report the same books. A key deleted
// through one gateway is refused by the other. Ctrl-C ends all processes and
// deletes the database.
func TestPostgresExample(t *testing.T) {
	t.Parallel()
	e := startExample(t, "postgres", "BALANCER_PORT", "NODE1_PORT", "NODE2_PORT", "NODE1_ADMIN", "NODE2_ADMIN", "WEATHER_PORT")
	first, second := e.address("NODE1_PORT"), e.address("NODE2_PORT")
	for _, node := range []string{first, second} {
		if n := strings.Count(e.output, "served by "+node+", charged 0.01 USD"); n != 2 {
			t.Errorf("%s served %d of 4 calls; want 2", node, n)
		}
	}
	mustContain(t, e.output, "balance 4.99\n", "balance 4.96\n", "deleted through "+first,
		"refused   by "+second+": 401 Unauthorized: Invalid agent token", "balance   4.96 (test credits)", "ledger    verified: 5 transactions")

	session := e.session(t)
	if session.ID() == "" {
		t.Error("the client has no session; want one that both gateways accept")
	}
	for _, want := range []string{"4.95", "4.94", "4.93"} {
		if got := pay(t, session, "get_forecast").Balance; got != amount(t, want) {
			t.Errorf("balance %s; want %s", got, want)
		}
	}
	for _, admin := range []string{"NODE1_ADMIN", "NODE2_ADMIN"} {
		if n := e.charges(t, admin); n != 7 {
			t.Errorf("%s lists %d charges; want 7", admin, n)
		}
	}
	dir := regexp.MustCompile(`psql "host=(\S+) `).FindStringSubmatch(e.output)
	if dir == nil {
		t.Fatalf("no database in\n%s", e.output)
	}
	if _, err := os.Stat(filepath.Join(dir[1], ".s.PGSQL.5432")); err != nil {
		t.Errorf("the database's socket: %v", err)
	}
	e.interrupt(t, 5)
	if _, err := os.Stat(dir[1]); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the files of the database: %v; want them gone", err)
	}
}

// TestGatewayOnlyExample checks that one command runs a platform, and a gateway without
// a store next to its server. The platform charges the calls through the gateway and
// those of a server that charges by itself. The gateway refuses a key deleted at the
// platform. Ctrl-C ends all processes.
func TestGatewayOnlyExample(t *testing.T) {
	t.Parallel()
	e := startExample(t, "gateway-only", "FAREBOX_PORT", "PLATFORM_PORT", "WEATHER_PORT", "PLATFORM_ADMIN", "GATEWAY_ADMIN")
	mustContain(t, e.output, "Oslo: snow showers", "charged   0.01 USD (chg_", "receipt   eyJ", "charged   0.10 USD (chg_", "balance 4.89\n",
		"refused   401 Unauthorized: Invalid agent token",
		"charge    0.10 at billing, create_invoice: captured (chg_", "charge    0.01 at weather, get_forecast: captured (chg_",
		"balance   5.00 before, 4.89 after", "earned    0.1075 by acme", "ledger    verified: 4 transactions")

	if got := pay(t, e.session(t), "climate_report").Balance; got != amount(t, "3.89") {
		t.Errorf("balance %s; want 3.89", got)
	}
	if n := e.charges(t, "PLATFORM_ADMIN"); n != 3 {
		t.Errorf("the platform has %d charges; want 3", n)
	}
	docs := regexp.MustCompile(`http://\S+/api/v1/docs`).FindString(e.output)
	resp, err := http.Get(docs)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("%s: %s", docs, resp.Status)
	}
	e.interrupt(t, 3)
}
