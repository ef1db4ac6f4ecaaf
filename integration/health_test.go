package integration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/integration/harness"
	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/ops"
	"github.com/fareboxhq/farebox/internal/pgtest"
)

// withHealth returns a Caddyfile of the harness with farebox_health in its site, and
// with more global options.
func withHealth(site string, options ...string) string {
	site = strings.Replace(site, "\tbind 127.0.0.1\n", "\tbind 127.0.0.1\n\tfarebox_health\n", 1)
	return strings.Replace(site, "\tgrace_period 1s\n", "\tgrace_period 10s\n\t"+strings.Join(options, "\n\t")+"\n", 1)
}

// healthAnswer is the answer to a probe.
type healthAnswer struct {
	status int
	body   string
	view   ops.HealthView
}

func (a *healthAnswer) codes() (codes []string) {
	for _, r := range a.view.Reasons {
		codes = append(codes, r.Code)
	}
	return codes
}

// probeHealth asks a gateway for its health.
func probeHealth(client *http.Client, g *harness.Gateway, path string) (*healthAnswer, error) {
	resp, err := client.Get("http://localhost:" + g.Port + path)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	a := &healthAnswer{status: resp.StatusCode, body: string(text)}
	if err := json.Unmarshal(text, &a.view); err != nil {
		return nil, fmt.Errorf("%d %s: %w", a.status, text, err)
	}
	if (a.status == http.StatusOK) == (a.view.Status == ops.StatusNotReady) || resp.Header.Get("Cache-Control") != "no-store" {
		return nil, fmt.Errorf("%d %s %v", a.status, text, resp.Header)
	}
	return a, nil
}

// awaitHealth waits until the gateway is ready or, with codes, until it is unready for
// exactly these reasons.
func awaitHealth(t *testing.T, g *harness.Gateway, codes ...string) *healthAnswer {
	t.Helper()
	var last *healthAnswer
	harness.Eventually(t, fmt.Sprintf("health %v", codes), func() (err error) {
		if last, err = probeHealth(http.DefaultClient, g, "/readyz"); err == nil && !slices.Equal(last.codes(), codes) {
			err = errors.New(last.body)
		}
		return err
	})
	return last
}

// healthCommand runs "farebox health" and returns its exit code and its output.
func healthCommand(t *testing.T, g *harness.Gateway) (exit int, output string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binaries.Farebox, "health", "--address", g.Admin)
	cmd.Env = append(os.Environ(), g.Environment()...)
	text, err := cmd.CombinedOutput()
	var failed *exec.ExitError
	if err != nil && !errors.As(err, &failed) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(text)
}

// TestHealth checks that probes are answered without a key, both on a site that also
// has farebox and on a site of their own. Probes are not counted as requests, and
// requests for other paths reach the site.
func TestHealth(t *testing.T) {
	t.Parallel()
	own := harness.FreePort(t)
	g := binaries.StartGateway(t, withHealth(harness.Site(binaries.StartWeather(t), "server weather", "provider acme", "price get_forecast 0.01"))+
		"\nhttp://localhost:"+own+" {\n\tbind 127.0.0.1\n\tfarebox_health /healthz\n}\n")
	before := g.Metrics(t)
	for target, want := range map[string]string{
		"GET http://localhost:" + g.Port + "/readyz":  `200 {"status":"ready"}`,
		"GET http://localhost:" + g.Port + "/livez":   `200 {"status":"live"}`,
		"HEAD http://localhost:" + g.Port + "/readyz": "200",
		"POST http://localhost:" + g.Port + "/readyz": "405",
		"GET http://localhost:" + g.Port + "/healthz": "404",
		"GET http://localhost:" + own + "/healthz":    `200 {"status":"ready"}`,
		"GET http://localhost:" + own + "/livez":      `200 {"status":"live"}`,
		"GET http://" + g.Admin + "/farebox/health":   "401", // this endpoint requires the admin token
	} {
		method, address, _ := strings.Cut(target, " ")
		req, err := http.NewRequestWithContext(t.Context(), method, address, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if got := strings.TrimSpace(strconv.Itoa(resp.StatusCode) + " " + string(text)); err != nil || got != want && !strings.HasPrefix(got, want+" {\"status\":401") {
			t.Errorf("%s: %s, %v; want %s", target, got, err, want)
		}
	}
	for name, value := range g.Metrics(t) {
		if strings.HasPrefix(name, "farebox_requests_total") && value != before[name] {
			t.Errorf("%s went from %v to %v", name, before[name], value)
		}
	}
	if exit, output := healthCommand(t, g); exit != 0 || output != "Ready.\n" {
		t.Errorf("farebox health: exit %d, %s", exit, output)
	}
	g.Stop(t)
	if exit, output := healthCommand(t, g); exit != 5 || !strings.Contains(output, "no server answers") {
		t.Errorf("farebox health: exit %d, %s", exit, output)
	}
}

// TestProbesAreCheap checks that many probes a second do not disturb a gateway. The
// test has only a loose bound for the time, and logs the rate.
func TestProbesAreCheap(t *testing.T) {
	const callers, each = 4, 2500
	g := binaries.StartGateway(t, strings.Replace(withHealth(harness.Site(binaries.StartWeather(t), "server weather", "provider acme", "price get_forecast 0.01")), "\tlog\n", "", 1))
	client := manyCalls(t, callers)
	began := clock.Now()
	var probing sync.WaitGroup
	for range callers {
		probing.Go(func() {
			for range each {
				if _, err := probeHealth(client, g, "/readyz"); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	probing.Wait()
	took := clock.Since(began)
	t.Logf("%d probes took %s: %.0f a second", callers*each, took.Round(time.Millisecond), callers*each/took.Seconds())
	if took > time.Minute {
		t.Errorf("%d probes took %s", callers*each, took)
	}
}

// TestHealthOfDatabase checks that gateways on a database are unready while the
// database is stopped, and ready again without a restart when it is back. Probes do not
// show the cause, but operators see it. A balancer can ignore failures of the shared
// store by excluding their codes from its probes.
func TestHealthOfDatabase(t *testing.T) {
	server := pgtest.New(t)
	dsn := server.Database(t, func(context.Context, string) error { return nil })
	c := binaries.StartCluster(t, 2, dsn, withHealth(workerSite(startWorker(t))))
	for _, g := range c.Nodes {
		awaitHealth(t, g)
	}
	server.Kill(t)
	for _, g := range c.Nodes {
		a := awaitHealth(t, g, "STORE_DOWN", "KEYS_STALE")
		if strings.Contains(a.body, "detail") || strings.Contains(a.body, "/") {
			t.Errorf("a probe shows a cause: %s", a.body)
		}
		if a, err := probeHealth(http.DefaultClient, g, "/readyz?exclude=STORE_DOWN&exclude=KEYS_STALE"); err != nil || a.status != http.StatusOK {
			t.Errorf("without the store: %+v, %v", a, err)
		}
		if a, err := probeHealth(http.DefaultClient, g, "/livez"); err != nil || a.status != http.StatusOK {
			t.Errorf("live: %+v, %v", a, err)
		}
	}
	if exit, output := healthCommand(t, c.Nodes[0]); exit != 5 || !strings.Contains(output, "STORE_DOWN: the store cannot write") || !strings.Contains(output, ".s.PGSQL") {
		t.Errorf("farebox health: exit %d, %s", exit, output)
	}
	server.Start(t)
	for _, g := range c.Nodes {
		awaitHealth(t, g)
	}
}

// TestHealthOfPlatform checks that a gateway without a store is unready while its
// platform cannot be reached, even if the gateway starts in that time. The gateway is
// ready again when the platform is back.
func TestHealthOfPlatform(t *testing.T) {
	t.Parallel()
	platform, gateway := startGatewayOnly(t, binaries.StartWeather(t, "-stateless"), func(site string) string { return withHealth(site) })
	awaitHealth(t, gateway)
	platform.Stop(t)
	awaitHealth(t, gateway, "STORE_DOWN", "KEYS_STALE")
	if exit, output := healthCommand(t, gateway); exit != 5 || !strings.Contains(output, "the platform cannot be reached") {
		t.Errorf("farebox health: exit %d, %s", exit, output)
	}
	gateway.Stop(t)
	gateway.Start(t)
	awaitHealth(t, gateway, "STORE_DOWN", "KEYS_STALE")
	platform.Start(t)
	awaitHealth(t, gateway)
}

// TestHealthOfMovedFile checks that a gateway refuses paid calls and is unready while
// the file of its store is moved away, because charges would be lost when the process
// ends. The gateway goes on by itself when the file is back.
func TestHealthOfMovedFile(t *testing.T) {
	t.Parallel()
	g := binaries.StartGateway(t, withHealth(harness.Site(startWorker(t).url, "server worker", "provider acme", "price * 0.01")))
	_, key := g.NewAgent(t, "agent", "1.00")
	file := filepath.Join(g.Data(), "farebox.db")
	if err := os.Rename(file, file+".away"); err != nil {
		t.Fatal(err)
	}
	awaitHealth(t, g, "STORE_DOWN")
	if exit, output := healthCommand(t, g); exit != 5 || !strings.Contains(output, "the file was removed, moved or replaced: put it back") {
		t.Errorf("farebox health: exit %d, %s", exit, output)
	}
	if answer := callOf(t, g, key.Secret); answer.Code() != "STORE_UNAVAILABLE" {
		t.Errorf("a call without the file: %d %s", answer.Status, answer.Body)
	}
	if err := os.Rename(file+".away", file); err != nil {
		t.Fatal(err)
	}
	awaitHealth(t, g)
	if answer := callOf(t, g, key.Secret); paidFor(answer) == "" {
		t.Errorf("a call with the file back: %d %s", answer.Status, answer.Body)
	}
	g.VerifyLedger(t)
}

// TestHealthOverReloads checks that no probe finds a gateway unready while configs are
// loaded one after another, with other prices, with another store, and with errors.
func TestHealthOverReloads(t *testing.T) {
	upstream := binaries.StartWeather(t, "-stateless")
	site := func(price, store string) string {
		return strings.Replace(withHealth(harness.Site(upstream, "server weather", "provider acme", "price get_forecast "+price), "shutdown_delay 5s"), "/farebox.db", "/"+store, 1)
	}
	g := binaries.StartGateway(t, site("0.01", "farebox.db"))
	var probes, unread atomic.Int64
	var probing sync.WaitGroup
	halt := make(chan struct{})
	for i := range 4 {
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: i%2 == 0}}
		probing.Go(func() {
			defer client.CloseIdleConnections()
			for open := true; open; {
				a, err := probeHealth(client, g, "/readyz")
				var closed *url.Error // Caddy closes idle connections at a reload
				switch {
				case errors.As(err, &closed):
					unread.Add(1)
				case err != nil || a.status != http.StatusOK:
					t.Errorf("%+v, %v", a, err)
				default:
					probes.Add(1)
				}
				select {
				case <-halt:
					open = false
				default:
				}
			}
		})
	}
	for i := range *reloads {
		store := "farebox.db"
		if i%4 == 3 {
			store = "other.db"
		}
		if i%5 == 4 {
			if status, answer := reload(t, g, strings.Replace(site("0.01", store), "server weather", "server wea/ther", 1)); status == http.StatusOK {
				t.Errorf("a broken config was accepted: %s", answer)
			}
			if status, answer := reload(t, g, strings.Replace(site("0.01", "farebox.db"), "currency USD", "currency EUR", 1)); status == http.StatusOK {
				t.Errorf("a config that cannot start was accepted: %s", answer)
			}
		}
		if status, answer := reload(t, g, site("0.0"+strconv.Itoa(1+i%9), store)); status != http.StatusOK {
			t.Fatalf("reload %d: %d %s", i, status, answer)
		}
	}
	close(halt)
	probing.Wait()
	t.Logf("%d probes through %d reloads; %d met a connection that was being closed", probes.Load(), *reloads, unread.Load())
	if probes.Load() < int64(*reloads) {
		t.Errorf("only %d probes", probes.Load())
	}
}

// TestDraining checks that a gateway that gets SIGTERM is unready at once, and stays
// live. For the time shutdown_delay it serves calls as before, and shows operators the
// reason. A call that is running then gets its result, and the process ends by itself.
func TestDraining(t *testing.T) {
	t.Parallel()
	w := startWorker(t)
	g := binaries.StartGateway(t, withHealth(harness.Site(w.url, "server worker", "provider acme", "price * 0.01"), "shutdown_delay 3s"))
	_, key := g.NewAgent(t, "agent", "1.00")
	begun, proceed := make(chan struct{}), make(chan struct{})
	w.work = func(_ context.Context, run int64) {
		if run == 1 {
			close(begun)
			<-proceed
		}
	}
	done := make(chan *harness.Answer, 1)
	go func() { done <- callOf(t, g, key.Secret) }()
	<-begun
	awaitHealth(t, g)
	g.Process().Signal(t, syscall.SIGTERM)
	awaitHealth(t, g, "DRAINING")
	if a, err := probeHealth(http.DefaultClient, g, "/livez"); err != nil || a.status != http.StatusOK {
		t.Errorf("live: %+v, %v", a, err)
	}
	if answer := callOf(t, g, key.Secret); paidFor(answer) == "" {
		t.Errorf("a call in shutdown_delay: %d %s", answer.Status, answer.Body)
	}
	if exit, output := healthCommand(t, g); exit != 5 || !strings.Contains(output, "DRAINING") {
		t.Errorf("farebox health: exit %d, %s", exit, output)
	}
	if a := g.Account(t, "agent"); a.Reserved != amount(t, "0.01") {
		t.Errorf("a command while draining shows %s reserved", a.Reserved)
	}
	harness.Eventually(t, "the listener to close", func() error {
		if _, err := probeHealth(&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, g, "/readyz"); err == nil {
			return errors.New("it is open")
		}
		return nil
	})
	if exit, output := healthCommand(t, g); exit != 5 || !strings.Contains(output, "DRAINING") {
		t.Errorf("farebox health with the listener closed: exit %d, %s", exit, output)
	}
	close(proceed)
	if answer := <-done; paidFor(answer) == "" {
		t.Errorf("the open call: %d %s", answer.Status, answer.Body)
	}
	if code := g.Process().Wait(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// callOf makes a paid call of a worker's tool.
func callOf(t *testing.T, g *harness.Gateway, secret string) *harness.Answer {
	t.Helper()
	answer, err := g.Post(t.Context(), http.DefaultClient, secret, harness.ToolCall(1, "weave", `{}`))
	if err != nil {
		t.Error(err)
		return &harness.Answer{}
	}
	return answer
}

// startBalancer starts the balancer of examples/postgres in front of two gateways, with
// three changes. It repeats no call, so that a call to a gateway that has closed its
// port fails. It waits longer for the answers to probes, because the machine may be
// slow. And it takes a random gateway: with concurrent requests, Caddy's round_robin
// sometimes finds no gateway although only one of the two is down.
func startBalancer(t *testing.T, nodes []*harness.Gateway) *harness.Gateway {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(binaries.Root, "examples", "postgres", "balancer.Caddyfile"))
	if err != nil {
		t.Fatal(err)
	}
	for line, instead := range map[string]string{"\t\tlb_try_duration 2s\n": "", "\t\tfail_duration 5s\n": "", "health_timeout 1s\n": "health_timeout 10s\n", "lb_policy round_robin\n": "lb_policy random\n"} {
		if !strings.Contains(string(text), line) {
			t.Fatalf("the balancer has no line %q", line)
		}
		text = []byte(strings.Replace(string(text), line, instead, 1))
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "Caddyfile")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	b := &harness.Gateway{Port: harness.FreePort(t)}
	process := harness.Start(t, "balancer", filepath.Join(dir, "log"),
		append(nodes[0].Environment(), "BALANCER_PORT="+b.Port, "NODE1_PORT="+nodes[0].Port, "NODE2_PORT="+nodes[1].Port),
		binaries.Farebox, "run", "--config", file)
	process.AwaitHTTP(t, "http://localhost:"+b.Port+"/livez")
	return b
}

// TestBalancerLosesNoCall checks that, behind a balancer that asks /readyz, no call
// fails while a gateway is stopped and started again, and each result has one charge.
func TestBalancerLosesNoCall(t *testing.T) {
	const callers = 8
	w := startWorker(t)
	dsn := postgres.Database(t, func(context.Context, string) error { return nil })
	c := binaries.StartCluster(t, 2, dsn, withHealth(workerSite(w), "shutdown_delay 2s"))
	key := c.NewAgent(t, "agent", outageCredit)
	balancer := startBalancer(t, c.Nodes)
	client := manyCalls(t, callers)
	var mu sync.Mutex
	charges, failed := map[string]bool{}, []string{}
	served := map[string]int{} // number of results by gateway
	ctx, stop := context.WithCancel(t.Context())
	var calling sync.WaitGroup
	for caller := range callers {
		calling.Go(func() {
			for id := caller; ctx.Err() == nil; id++ {
				answer, err := balancer.Post(t.Context(), client, key.Secret, harness.ToolCall(id, "weave", `{}`))
				mu.Lock()
				switch {
				case err != nil:
					failed = append(failed, err.Error())
				case paidFor(answer) == "" || charges[paidFor(answer)]:
					failed = append(failed, fmt.Sprintf("%d %s", answer.Status, answer.Body))
				default:
					charges[paidFor(answer)] = true
					served[answer.Header.Get("X-Served-By")]++
				}
				mu.Unlock()
			}
		})
	}
	awaitShare := func(node *harness.Gateway) {
		t.Helper()
		mu.Lock()
		before := served["localhost:"+node.Port]
		mu.Unlock()
		harness.Eventually(t, "calls at a gateway", func() error {
			mu.Lock()
			defer mu.Unlock()
			if n := served["localhost:"+node.Port] - before; n < 20 {
				return fmt.Errorf("%d calls", n)
			}
			return nil
		})
	}
	for _, node := range c.Nodes {
		awaitShare(node)
		node.Process().Signal(t, syscall.SIGTERM)
		if code := node.Process().Wait(t); code != 0 {
			t.Errorf("exit code %d", code)
		}
		node.Start(t)
		awaitShare(node)
	}
	stop()
	calling.Wait()
	for i, failure := range failed {
		if i < 5 {
			t.Errorf("a call failed: %s", failure)
		}
	}
	if all := chargesOf(t, c.Nodes[0], "agent"); len(all) != len(charges) {
		t.Errorf("%d charges for %d results", len(all), len(charges))
	}
	t.Logf("%d results while each gateway was stopped once, %d failures: %v", len(charges), len(failed), served)
}
