package integration

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/fareboxhq/farebox/integration/harness"
	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/pgtest"
)

var pictures = flag.String("pictures", "", "the folder into which TestPrometheusMonitoring draws the dashboards, or none")

// The jobs of the test: a gateway on SQLite, and two on one PostgreSQL.
const (
	sqliteJob   = "farebox-sqlite"
	postgresJob = "farebox-postgres"
)

// monitored is a Prometheus that scrapes the gateways of both deployments.
type monitored struct {
	prometheus *harness.Prometheus
	sqlite     *market
	postgres   *market
	server     *pgtest.Cluster // the PostgreSQL server that the gateways of the market "postgres" share
	dsn        string
	disk       string          // the directory of the SQLite store
	mounted    bool            // true if the directory is a file system of its own
	fired      map[string]bool // the alerts that have fired and stopped
}

// unmade lists alerts for which the test cannot make the fault, with the reason. The
// tests of the rules cover these alerts.
var unmade = map[string]string{
	"FareboxClockStepped": "it would set the clock of the machine",
}

// TestPrometheusMonitoring runs everything of config/prometheus and config/grafana
// against real gateways under a load with every kind of outcome. It checks that each
// expression of each panel and rule has data. For each alert, it causes the fault,
// waits until the alert fires, ends the fault, and waits until the alert stops. All
// durations in the rules are divided by 60, and Prometheus scrapes each second, so that
// a minute passes in a second.
func TestPrometheusMonitoring(t *testing.T) {
	m := startMonitored(t)
	m.promtoolChecks(t)
	m.panelsHaveData(t)
	m.rulesHaveData(t)
	m.quiet(t)
	m.faultsOfSQLite(t)
	m.slowPostgres(t)
	m.wrongBooks(t)
	m.postgresDown(t)
	m.lostNodes(t)
	m.stop(t, "FareboxRefundsJump")
	for _, r := range readRules(t) {
		if r.Alert != "" && !m.fired[r.Alert] && unmade[r.Alert] == "" {
			t.Errorf("the test made no fault for %s", r.Alert)
		}
	}
	m.draw(t)
}

func startMonitored(t *testing.T) *monitored {
	t.Helper()
	m := &monitored{server: pgtest.New(t), disk: t.TempDir(), fired: map[string]bool{}}
	m.mounted = mountSmallDisk(t, m.disk)
	m.sqlite, m.postgres = newMarket(t), newMarket(t)
	m.sqlite.Cluster = &harness.Cluster{Nodes: []*harness.Gateway{binaries.StartGateway(t, m.sqlite.site(filepath.Join(m.disk, "farebox.db")))}}
	m.dsn = m.server.Database(t, func(context.Context, string) error { return nil })
	m.postgres.Cluster = binaries.StartCluster(t, 2, m.dsn, harness.OnPostgres(m.postgres.site("{$FAREBOX_DATA}/farebox.db")))
	m.prometheus = binaries.StartPrometheus(t, m.config(t))
	harness.Eventually(t, "a scrape before the first call", func() error {
		samples, err := m.prometheus.Query("farebox_build_info")
		if err == nil && len(samples) < 3 {
			err = fmt.Errorf("%d gateways", len(samples))
		}
		return err
	})
	m.sqlite.open(t)
	m.postgres.open(t)
	return m
}

// config writes the config of Prometheus with the rules into a directory, and returns
// the name of the file.
func (m *monitored) config(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"recording.yml", "alerts.yml"} {
		rules := readText(t, filepath.Join(binaries.Root, "config", "prometheus", "rules", name))
		if err := os.WriteFile(filepath.Join(dir, name), []byte(quickened(t, rules)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	target := func(market *market) string {
		var addresses []string
		for _, g := range market.Nodes {
			addresses = append(addresses, strconv.Quote(g.Admin))
		}
		return "[{targets: [" + strings.Join(addresses, ", ") + "]}]"
	}
	text := fmt.Sprintf(`global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: ["*.yml"]
scrape_configs:
  - {job_name: %s, static_configs: %s}
  - {job_name: %s, static_configs: %s}
`, sqliteJob, target(m.sqlite), postgresJob, target(m.postgres))
	file := filepath.Join(dir, "prometheus.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

var (
	inBrackets = regexp.MustCompile(`\[(\d+)([mhd])\]|offset (\d+)([mhd])|for: (\d+)([mhd])`)
	number     = regexp.MustCompile(`\d+[mhd]`)
)

// quickened divides all durations in the rules by 60. It also lowers the limit of the
// queue, because the test has fewer callers than places in the queue.
func quickened(t *testing.T, rules string) string {
	t.Helper()
	rules = inBrackets.ReplaceAllStringFunc(rules, func(duration string) string {
		return number.ReplaceAllStringFunc(duration, func(n string) string {
			unit := map[byte]string{'m': "s", 'h': "m", 'd': ""}[n[len(n)-1]]
			if unit == "" { // the only duration in days is 1d, which becomes 24 minutes
				return "24m"
			}
			return n[:len(n)-1] + unit
		})
	})
	const queue = "farebox_store_queue_length > 0.8 * farebox_store_queue_limit"
	if strings.Contains(rules, "alert: FareboxQueueNearlyFull") && !strings.Contains(rules, queue) {
		t.Fatal("the alert of the queue has changed")
	}
	return strings.Replace(rules, queue, "farebox_store_queue_length > 0.0001 * farebox_store_queue_limit", 1)
}

// promtoolChecks has promtool check the metrics of Farebox. It leaves out the
// metrics of Caddy and Go, because Farebox does not define them.
func (m *monitored) promtoolChecks(t *testing.T) {
	t.Helper()
	for _, market := range []*market{m.sqlite, m.postgres} {
		var ours strings.Builder
		for line := range strings.Lines(market.Nodes[0].MetricsText(t)) {
			if strings.HasPrefix(strings.TrimPrefix(strings.TrimPrefix(line, "# HELP "), "# TYPE "), "farebox_") {
				ours.WriteString(line)
			}
		}
		cmd := exec.Command(binaries.PrometheusTool(t, "promtool"), "check", "metrics")
		cmd.Stdin = strings.NewReader(ours.String())
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool check metrics: %v\n%s", err, out)
		}
	}
}

// firing returns the names of the alerts that fire.
func (m *monitored) firing(t *testing.T) []string {
	t.Helper()
	samples, err := m.prometheus.Query(`ALERTS{alertstate="firing"}`)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range samples {
		names = append(names, s.Labels["alertname"])
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// quiet waits until no alert fires.
func (m *monitored) quiet(t *testing.T) {
	t.Helper()
	harness.Eventually(t, "all alerts to be quiet", func() error {
		if names := m.firing(t); len(names) > 0 {
			return fmt.Errorf("%v fire", names)
		}
		return nil
	})
}

// fire waits until each of these alerts has fired. It does not require that they still
// fire: some alerts compare with the past and soon stop by themselves, because in this
// test the past is only minutes long.
func (m *monitored) fire(t *testing.T, names ...string) {
	t.Helper()
	var seen []string
	harness.Eventually(t, "alerts to fire", func() error {
		seen = append(seen, m.firing(t)...)
		slices.Sort(seen)
		seen = slices.Compact(seen)
		for _, name := range names {
			if !slices.Contains(seen, name) {
				return fmt.Errorf("%s has not fired; %v have; %s", name, seen, m.explain(t, name))
			}
		}
		return nil
	})
}

// explain returns the current values of the parts of an alert's expression.
func (m *monitored) explain(t *testing.T, alert string) string {
	t.Helper()
	var parts []string
	for _, r := range readRules(t) {
		if r.Alert != alert {
			continue
		}
		expr := quickened(t, r.Expr)
		for _, part := range append(comparison.Split(expr, -1), expr) {
			if samples, err := m.prometheus.Query(part); err == nil {
				parts = append(parts, fmt.Sprintf("%s is %v", strings.Join(strings.Fields(part), " "), samples))
			}
		}
	}
	return strings.Join(parts, "\n")
}

// comparison matches the operators at which explain splits an expression.
var comparison = regexp.MustCompile(`\band\b|\bunless\b|[<>/]`)

// stop waits until none of these alerts fires.
func (m *monitored) stop(t *testing.T, names ...string) {
	t.Helper()
	harness.Eventually(t, "alerts to stop", func() error {
		for _, name := range m.firing(t) {
			if slices.Contains(names, name) {
				return fmt.Errorf("%s fires", name)
			}
		}
		return nil
	})
	for _, name := range names {
		m.fired[name] = true
	}
}

// draw draws the dashboards if the flag -pictures names a folder.
func (m *monitored) draw(t *testing.T) {
	t.Helper()
	if *pictures == "" {
		return
	}
	folder, err := filepath.Abs(*pictures)
	if err == nil {
		err = os.MkdirAll(folder, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	boards, err := filepath.Glob(filepath.Join(binaries.Root, "config", "grafana", "dashboards", "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", append([]string{"run", "./draw", "-prometheus", m.prometheus.URL, "-range", "4m", "-rate", "10s", "-out", folder}, boards...)...)
	cmd.Dir = filepath.Join(binaries.Root, "config", "grafana", "generate")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("draw: %v\n%s", err, out)
	}
}

// refund refunds charges of the server "search", as an operator would.
func (m *market) refund(t *testing.T, count int) {
	t.Helper()
	admin := m.Nodes[0].AdminClient()
	harness.Eventually(t, "charges to refund", func() error { // the load makes more of them
		var list struct{ Items []harness.Charge }
		harness.Ask(t, admin, http.MethodGet, "charges?server=search&limit=500", nil, &list)
		for _, c := range list.Items {
			if count > 0 && c.Refunded == 0 && c.Amount > 0 {
				harness.Ask(t, admin, http.MethodPost, "charges/"+c.ID+"/refunds", map[string]any{"reason": "for the test"}, nil)
				count--
			}
		}
		if count > 0 {
			return fmt.Errorf("too few charges for %d more refunds", count)
		}
		return nil
	})
}

// holdStreams keeps streams open with several keys, so that most of the limit is used,
// and returns a function that closes them.
func (m *market) holdStreams(t *testing.T) (leave func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var listeners sync.WaitGroup
	g := m.Nodes[0]
	for i := range 10 {
		secret := m.NewAgent(t, fmt.Sprint("listener", i), ledger.Unit).Secret
		_, _ = postAt(ctx, g, m.client, "/mcp", secret, harness.ToolCall(i, "get_forecast", `{}`)) // a paid call, because a caller that pays may hold a larger share of the streams
		for range 6 {
			listeners.Go(func() {
				for ctx.Err() == nil { // the gateway may cut the stream to make room for another caller
					if resp, err := m.stream(ctx, g, secret); err == nil {
						_, _ = io.Copy(io.Discard, resp.Body)
						_ = resp.Body.Close()
					}
					_ = clock.Sleep(ctx, rarely)
				}
			})
		}
	}
	leave = func() {
		cancel()
		listeners.Wait()
	}
	t.Cleanup(leave)
	return leave
}
