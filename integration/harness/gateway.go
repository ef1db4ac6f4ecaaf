package harness

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// Gateway is a Farebox process with its files. It can be stopped or killed, and then
// started again on the same data and addresses.
type Gateway struct {
	Dir   string // the working directory, which has the config, the data and the log
	Port  string // the port of the gateway's site
	Admin string // Caddy's admin address

	binaries    *Binaries
	process     *Process
	environment []string // variables that this gateway gets in addition to those of all gateways

	mu      sync.Mutex
	secrets []string // secrets of the gateway's keys, which must not appear in the gateway's output
	answers []byte   // output of all commands, except the commands that show a new secret
}

// Site returns a Caddyfile with one site, which puts a gateway in front of the MCP
// server at the given base URL. directives are the lines inside the farebox block.
func Site(upstream string, directives ...string) string {
	return site(append([]string{"upstream " + host(upstream)}, directives...), "")
}

// SiteWithProxy is like Site, but a reverse_proxy behind farebox leads to the server.
func SiteWithProxy(upstream string, directives ...string) string {
	return site(directives, `
		reverse_proxy `+host(upstream)+` {
			header_up Host {upstream_hostport}
		}`)
}

func host(upstream string) string {
	u, err := url.Parse(upstream)
	if err != nil {
		panic(err) // cannot happen, because the harness made the URL
	}
	return u.Host
}

func site(directives []string, behind string) string {
	return fmt.Sprintf(`{
	admin {$CADDY_ADMIN}
	grace_period 1s
	log {
		level DEBUG
	}
	metrics
	farebox {
		store sqlite {$FAREBOX_DATA}/farebox.db
		currency USD
	}
}

http://localhost:{$FAREBOX_PORT} {
	bind 127.0.0.1
	log
	handle /mcp* {
		farebox {
			%s
		}%s
	}
	handle {
		error 404
	}
}
`, strings.Join(directives, "\n\t\t\t"), behind)
}

// StartGateway starts a gateway with that Caddyfile and further environment variables,
// and waits until its store is open. When the test ends, the gateway is stopped and its
// output and files are searched for secrets.
func (b *Binaries) StartGateway(t testing.TB, caddyfile string, environment ...string) *Gateway {
	t.Helper()
	g := b.newGateway(t, caddyfile, environment...)
	g.Start(t)
	return g
}

// newGateway prepares a gateway without starting it. If the gateway is started, it
// ends with the test.
func (b *Binaries) newGateway(t testing.TB, caddyfile string, environment ...string) *Gateway {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "Caddyfile"), []byte(caddyfile), 0o600); err != nil {
		t.Fatal(err)
	}
	g := &Gateway{Dir: dir, Port: FreePort(t), Admin: "127.0.0.1:" + FreePort(t), binaries: b, environment: environment}
	t.Cleanup(func() { g.finish(t) })
	return g
}

// Environment returns the environment variables of the gateway and its commands.
func (g *Gateway) Environment() []string {
	return append([]string{
		"FAREBOX_DATA=" + g.Data(), "FAREBOX_PORT=" + g.Port, "CADDY_ADMIN=" + g.Admin,
		"HOME=" + g.Dir, "XDG_DATA_HOME=" + filepath.Join(g.Dir, "xdg-data"), "XDG_CONFIG_HOME=" + filepath.Join(g.Dir, "xdg-config"),
		"GORACE=atexit_sleep_ms=0", // otherwise a command built with -race sleeps for a second when it exits
	}, g.environment...)
}

// Data returns the directory of the gateway's store.
func (g *Gateway) Data() string { return filepath.Join(g.Dir, "data") }

// Endpoint returns the URL at which MCP clients reach the gateway.
func (g *Gateway) Endpoint() string { return "http://localhost:" + g.Port + "/mcp" }

// Start starts the process and waits until it listens and its store is open.
func (g *Gateway) Start(t testing.TB) {
	t.Helper()
	g.launch(t)
	g.await(t)
}

func (g *Gateway) launch(t testing.TB) {
	t.Helper()
	g.process = launch(t, "farebox", filepath.Join(g.Dir, "farebox.log"), g.Environment(),
		g.binaries.Farebox, "run", "--config", "Caddyfile", "--adapter", "caddyfile")
}

func (g *Gateway) await(t testing.TB) {
	t.Helper()
	g.process.Await(t, "an answer", answering("http://localhost:"+g.Port+"/"))
	g.process.Await(t, "the store", func() error {
		_, err := g.Command("account", "list")
		if err != nil && strings.Contains(err.Error(), "no store of its own") { // the gateway uses a platform's store, and is ready
			return nil
		}
		return err
	})
}

// Stop ends the process as an operator would (SIGTERM).
func (g *Gateway) Stop(t testing.TB) {
	t.Helper()
	g.process.Stop(t)
}

// Kill ends the process immediately (SIGKILL).
func (g *Gateway) Kill() { g.process.Kill() }

// Process returns the running process.
func (g *Gateway) Process() *Process { return g.process }

// Command runs "farebox ARGS --json --address …" and returns its output.
func (g *Gateway) Command(args ...string) ([]byte, error) {
	cmd := exec.Command(g.binaries.Farebox, append(append([]string{"farebox"}, args...), "--json", "--address", g.Admin)...)
	cmd.Env = append(os.Environ(), g.Environment()...)
	cmd.Dir = g.Dir
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	g.keep(args, stdout.Bytes(), stderr.Bytes())
	if err != nil {
		return stdout.Bytes(), fmt.Errorf("farebox %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return stdout.Bytes(), nil
}

func (g *Gateway) keep(args []string, answers ...[]byte) {
	if len(args) > 1 && (args[0] == "key" && (args[1] == "create" || args[1] == "rotate") || args[0] == "console" && args[1] == "invite") {
		return // the output has a new secret
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, answer := range answers {
		g.answers = append(g.answers, answer...)
	}
}

// CLI runs a command, requires success, and decodes its output into v unless v is
// nil.
func (g *Gateway) CLI(t testing.TB, v any, args ...string) {
	t.Helper()
	out, err := g.Command(args...)
	if err != nil {
		t.Fatal(err)
	}
	if v == nil {
		return
	}
	if err := json.Unmarshal(out, v); err != nil {
		t.Fatalf("farebox %s: %v in %s", strings.Join(args, " "), err, out)
	}
}

// AddSecret registers a secret that must not appear in the gateway's output and files.
func (g *Gateway) AddSecret(secret string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.secrets = append(g.secrets, secret)
}

// finish stops the gateway, and searches its output and files for secrets and data
// races. If the gateway is running, finish first fetches some pages of Caddy's admin
// endpoint and searches these, too.
func (g *Gateway) finish(t testing.TB) {
	if g.process == nil {
		return
	}
	defer g.process.end(t)
	shown := map[string][]byte{commandAnswers: g.answers}
	if !g.process.Ended() {
		for _, path := range []string{"/metrics", "/config/", "/reverse_proxy/upstreams"} {
			if text, err := fetch("http://" + g.Admin + path); err != nil {
				t.Errorf("admin %s: %v", path, err)
			} else {
				shown["admin "+path] = text
			}
		}
		g.Stop(t)
	}
	g.search(t, shown)
}

func fetch(url string) ([]byte, error) {
	resp, err := http.Get(url)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %s", resp.Status)
	}
	return text, err
}
