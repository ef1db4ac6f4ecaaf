package integration

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/fareboxhq/farebox/integration/harness"
)

var reloads = flag.Int("reloads", 20, "how often TestReload loads another config")

const reloadCallers = 8

// TestReload checks promise 11 of docs/promises.md. Under load, the config is reloaded
// again and again with other prices, and with broken configs in between. No call fails,
// each result has exactly one charge, the cache keeps its keys, no counter goes back,
// and nothing remains of the old configs.
func TestReload(t *testing.T) {
	recorder := harness.Record(t, binaries.StartWeather(t, "-stateless"))
	site := func(price string) string {
		return harness.Site(recorder.URL, "server weather", "provider acme", "price get_forecast "+price)
	}
	g := binaries.StartGateway(t, site("0.01"))
	_, key := g.NewAgent(t, "alice", "1000.00")
	paidCallWorks(t, g, key.Secret) // starts the goroutines and connections that stay after a first call
	goroutines := g.Goroutines(t)
	loads := g.Metrics(t)[`farebox_key_lookups_total{result="found",source="store"}`]

	load := startLoad(g, key.Secret)
	before := g.Metrics(t)
	for i := range *reloads {
		if i%5 == 4 {
			if status, answer := reload(t, g, strings.Replace(site("0.01"), "provider", "pro_vider", 1)); status == http.StatusOK {
				t.Errorf("a broken config was accepted: %s", answer)
			}
			if status, answer := reload(t, g, strings.Replace(site("0.01"), "server weather", "server wea/ther", 1)); status == http.StatusOK {
				t.Errorf("a config that cannot be provisioned was accepted: %s", answer)
			}
		}
		if status, answer := reload(t, g, site("0.0"+strconv.Itoa(1+i%9))); status != http.StatusOK {
			t.Fatalf("reload %d: %d %s", i, status, answer)
		}
		before = monotonic(t, before, g.Metrics(t))
		load.await(t, int64(i+1)*10) // so that calls run between the reloads
	}
	charges := load.stop(t)

	listed := make(map[string]bool)
	for _, c := range g.Charges(t, "alice") {
		if listed[c.ID] {
			t.Errorf("%s is listed twice", c.ID)
		}
		listed[c.ID] = true
	}
	for id := range charges {
		if !listed[id] {
			t.Errorf("the charge %s of a result is lost", id)
		}
	}
	if extra := len(listed) - len(charges) - 1; extra != 0 {
		t.Errorf("%d charges have no result", extra)
	}
	if ran := recorder.Calls("get_forecast"); ran != len(listed) {
		t.Errorf("the server ran %d calls for %d charges", ran, len(listed))
	}
	g.VerifyLedger(t)

	end := g.Metrics(t)
	// The cache keeps the key for a minute. So a cache that survives the reloads loads
	// the key from the store at most once a minute.
	if n := end[`farebox_key_lookups_total{result="found",source="store"}`] - loads; n > 3 {
		t.Errorf("the key was loaded %v times: the cache was lost", n)
	}
	harness.Eventually(t, "no reservation and no goroutine of an old config", func() error {
		if open := g.Metrics(t)["farebox_reservations_open"]; open != 0 {
			return fmt.Errorf("%v reservations are open", open)
		}
		if n := g.Goroutines(t); n > goroutines+5 { // allow for a few more, because the number of idle connections varies
			return fmt.Errorf("%d goroutines, %d before:\n%s", n, goroutines, g.GoroutineDump(t))
		}
		return nil
	})
	t.Logf("%d results through %d reloads; %d calls met a connection that was being closed", len(charges), *reloads, load.unread.Load())
}

func paidCallWorks(t *testing.T, g *harness.Gateway, secret string) {
	t.Helper()
	if answer := postAfterReload(t, g, secret, harness.ToolCall(1, "get_forecast", `{"city":"Oslo"}`)); answer.Result == nil || answer.Result.Meta.Charge == nil {
		t.Fatalf("a paid call: %s", answer.Body)
	}
}

// postAfterReload posts a request, and posts it again if its connection was
// closed at a reload; see load.
func postAfterReload(t *testing.T, g *harness.Gateway, secret, body string) *harness.Answer {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for tries := 1; ; tries++ {
		answer, err := g.Post(t.Context(), client, secret, body)
		if err == nil {
			return answer
		}
		if tries == 10 {
			t.Fatal(err)
		}
	}
}

// load calls a gateway without pause. Half of the callers open a connection for
// each call, and the others keep theirs alive. At a reload, Caddy closes idle
// connections, and the kernel resets connections that the old listener has not
// accepted. A call sent at that moment fails before the gateway has read it. The
// caller then makes another call. The counts of charges and of requests at the
// server prove that the failed call had no effect.
type load struct {
	fresh, kept *http.Client
	callers     sync.WaitGroup
	halt        atomic.Bool
	results     atomic.Int64
	unread      atomic.Int64
	mu          sync.Mutex
	charges     map[string]bool
	failed      []string
}

func startLoad(g *harness.Gateway, secret string) *load {
	l := &load{
		fresh:   &http.Client{Transport: &http.Transport{DisableKeepAlives: true}},
		kept:    &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: reloadCallers}},
		charges: make(map[string]bool),
	}
	for i := range reloadCallers {
		client := l.fresh
		if i%2 == 0 {
			client = l.kept
		}
		l.callers.Go(func() {
			for !l.halt.Load() {
				l.call(g, client, secret)
			}
		})
	}
	return l
}

func (l *load) call(g *harness.Gateway, client *http.Client, secret string) {
	answer, err := g.Post(context.Background(), client, secret, harness.ToolCall(1, "get_forecast", `{"city":"Oslo"}`))
	l.mu.Lock()
	defer l.mu.Unlock()
	var closed *url.Error // the connection was closed before an answer began
	switch {
	case errors.As(err, &closed):
		l.unread.Add(1)
	case err != nil:
		l.failed = append(l.failed, err.Error())
	case answer.Result == nil || answer.Result.IsError || answer.Result.Meta.Charge == nil:
		l.failed = append(l.failed, answer.Body)
	case l.charges[answer.Result.Meta.Charge.ID]:
		l.failed = append(l.failed, "two results of one charge")
	default:
		l.charges[answer.Result.Meta.Charge.ID] = true
		l.results.Add(1)
	}
}

func (l *load) await(t *testing.T, results int64) {
	t.Helper()
	harness.Eventually(t, "calls between the reloads", func() error {
		if n := l.results.Load(); n < results {
			return fmt.Errorf("%d results, want %d", n, results)
		}
		return nil
	})
}

// stop ends the load and returns the charges of its results.
func (l *load) stop(t *testing.T) map[string]bool {
	t.Helper()
	l.halt.Store(true)
	l.callers.Wait()
	l.kept.CloseIdleConnections()
	for i, failure := range l.failed {
		if i < 5 {
			t.Errorf("a call failed: %s", failure)
		}
	}
	if n := len(l.failed); n > 5 {
		t.Errorf("%d calls failed", n)
	}
	return l.charges
}

// reload loads a Caddyfile as `caddy reload` does.
func reload(t *testing.T, g *harness.Gateway, caddyfile string) (int, string) {
	t.Helper()
	for _, pair := range g.Environment() {
		name, value, _ := strings.Cut(pair, "=")
		caddyfile = strings.ReplaceAll(caddyfile, "{$"+name+"}", value)
	}
	resp, err := postConfig(g, caddyfile)
	for range 2 {
		// The admin server that the last reload has replaced may accept a connection, and
		// reset it unread.
		if !errors.Is(err, syscall.ECONNRESET) {
			break
		}
		resp, err = postConfig(g, caddyfile)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(answer)
}

func postConfig(g *harness.Gateway, caddyfile string) (*http.Response, error) {
	resp, err := http.Post("http://"+g.Admin+"/load", "text/caddyfile", strings.NewReader(caddyfile))
	http.DefaultClient.CloseIdleConnections() // the gateway has closed these connections, too
	return resp, err
}

// monotonic checks that no counter decreased, and returns the current values.
func monotonic(t *testing.T, before, now map[string]float64) map[string]float64 {
	t.Helper()
	for name, value := range before {
		if strings.HasPrefix(name, "farebox_") && strings.Contains(name, "_total") && now[name] < value {
			t.Errorf("%s went from %v back to %v", name, value, now[name])
		}
	}
	return now
}

// TestOneRuntimeForAllSpellings checks that configs that spell the path of the store
// differently share one store.
func TestOneRuntimeForAllSpellings(t *testing.T) {
	upstream := binaries.StartWeather(t, "-stateless")
	site := harness.Site(upstream, "server weather", "provider acme", "price get_forecast 0.01")
	g := binaries.StartGateway(t, site)
	_, key := g.NewAgent(t, "alice", "1.00")
	if err := os.Symlink(g.Data(), filepath.Join(g.Dir, "link")); err != nil {
		t.Fatal(err)
	}
	for _, spelling := range []string{filepath.Join(g.Dir, "link"), g.Data() + "/../data", "data", g.Data()} {
		if status, answer := reload(t, g, strings.Replace(site, "{$FAREBOX_DATA}", spelling, 1)); status != http.StatusOK {
			t.Fatalf("%s: %d %s", spelling, status, answer)
		}
		paidCallWorks(t, g, key.Secret)
	}
	if charges := g.Charges(t, "alice"); len(charges) != 4 {
		t.Errorf("%d charges", len(charges))
	}
}

// TestAnotherStoreAndBack checks that a config with another store takes over. A reload
// can return to the first store immediately, while the old config may still be closing
// that store.
func TestAnotherStoreAndBack(t *testing.T) {
	upstream := binaries.StartWeather(t, "-stateless")
	site := harness.Site(upstream, "server weather", "provider acme", "price get_forecast 0.01")
	other := strings.Replace(site, "/farebox.db", "/other.db", 1)
	g := binaries.StartGateway(t, site)
	_, key := g.NewAgent(t, "alice", "1.00")
	for range 3 {
		if status, answer := reload(t, g, other); status != http.StatusOK {
			t.Fatalf("%d %s", status, answer)
		}
		if answer := postAfterReload(t, g, key.Secret, harness.ToolCall(1, "get_forecast", `{}`)); answer.Code() != "TOKEN_INVALID" {
			t.Errorf("a key of the other store: %s", answer.Body)
		}
		if status, answer := reload(t, g, site); status != http.StatusOK {
			t.Fatalf("%d %s", status, answer)
		}
		paidCallWorks(t, g, key.Secret)
	}
}

// TestCurrencyIsKept checks that a config with a currency other than the store's is
// refused at a reload, at a start and by --offline, with a remedy. So no balance is
// ever taken for an amount of another currency.
func TestCurrencyIsKept(t *testing.T) {
	upstream := binaries.StartWeather(t, "-stateless")
	site := harness.Site(upstream, "server weather", "provider acme", "price get_forecast 0.01")
	yen := strings.Replace(site, "currency USD", "currency JPY", 1)
	g := binaries.StartGateway(t, site)
	_, key := g.NewAgent(t, "alice", "1.00")
	if status, answer := reload(t, g, yen); status == http.StatusOK || !strings.Contains(answer, "in USD") || !strings.Contains(answer, "name a new store") {
		t.Errorf("a reload: %d %s", status, answer)
	}
	paidCallWorks(t, g, key.Secret)
	g.Stop(t)
	if err := os.WriteFile(filepath.Join(g.Dir, "Caddyfile"), []byte(yen), 0o600); err != nil {
		t.Fatal(err)
	}
	second := harness.Start(t, "yen", filepath.Join(t.TempDir(), "log"), g.Environment(),
		binaries.Farebox, "run", "--config", filepath.Join(g.Dir, "Caddyfile"), "--adapter", "caddyfile")
	if status := second.Wait(t); status == 0 || !strings.Contains(second.Output(t), "in USD") {
		t.Errorf("a start: %d %s", status, second.Output(t))
	}
	if out, err := g.Command("account", "list", "--offline", "--config", "Caddyfile"); err == nil || !strings.Contains(err.Error(), "in USD") {
		t.Errorf("--offline: %s %v", out, err)
	}
}

// TestTwoProcesses checks that a second process on the same store is refused with an
// error that has the PID of the first. A command with --offline is refused, too.
func TestTwoProcesses(t *testing.T) {
	upstream := binaries.StartWeather(t, "-stateless")
	g := binaries.StartGateway(t, harness.Site(upstream, "server weather", "provider acme"))
	second := harness.Start(t, "second", filepath.Join(t.TempDir(), "log"),
		append(g.Environment(), "CADDY_ADMIN=127.0.0.1:"+harness.FreePort(t), "FAREBOX_PORT="+harness.FreePort(t)),
		binaries.Farebox, "run", "--config", filepath.Join(g.Dir, "Caddyfile"), "--adapter", "caddyfile")
	if status := second.Wait(t); status == 0 {
		t.Error("two processes opened the same store")
	}
	pid := strconv.Itoa(g.Process().PID())
	if out := second.Output(t); !strings.Contains(out, "store is in use") || !strings.Contains(out, pid) {
		t.Errorf("the error does not name process %s as the store's user: %s", pid, out)
	}
	if _, err := g.Command("account", "list", "--offline", "--config", "Caddyfile"); err == nil || !strings.Contains(err.Error(), pid) || !strings.Contains(err.Error(), "stop the server first") {
		t.Errorf("--offline: %v", err)
	}
}
