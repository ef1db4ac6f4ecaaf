package top

import (
	"bytes"
	"encoding/json"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/scrape"
)

var update = flag.Bool("update", false, "write the JSON of today into testdata")

// start is the time of the first sample. It is shifted by the same duration as the
// clock of this process.
var start = time.Date(2026, 11, 30, 10, 0, 0, 0, time.UTC).Add(clock.Shift())

// sampleOf parses a scrape that was made the given time after the first sample. If the
// text ends in ".prom", it is the name of a file with the scrape, in testdata.
func sampleOf(t *testing.T, at time.Duration, text string) *scrape.Sample {
	t.Helper()
	if strings.HasSuffix(text, ".prom") {
		file, err := os.ReadFile(filepath.Join("testdata", text))
		if err != nil {
			t.Fatal(err)
		}
		text = string(file)
	}
	s, err := scrape.Parse(strings.NewReader(text), start.Add(at))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func viewOf(t *testing.T, first, second string) *View {
	t.Helper()
	return New("localhost:2019", scrape.Interval{From: sampleOf(t, 0, first), To: sampleOf(t, 10*time.Second, second)})
}

// TestViewAsJSON compares the JSON of a busy gateway with a file, because the names in
// the JSON must not change.
func TestViewAsJSON(t *testing.T) {
	v := viewOf(t, "first.prom", "second.prom")
	v.At, *v.Gateway.StartedAt = v.At.Add(-clock.Shift()), v.Gateway.StartedAt.Add(-clock.Shift())
	got, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	path := filepath.Join("testdata", "view.json")
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("the JSON is different; if that is right, run the test with -update:\n%s", got)
	}
}

// TestFigures checks some numbers about the busy gateway against sums that were
// computed by hand from the scrapes.
func TestFigures(t *testing.T) {
	v := viewOf(t, "first.prom", "second.prom")
	near := func(name string, got *float64, want float64) {
		t.Helper()
		if got == nil || *got < want-1e-6 || *got > want+1e-6 {
			t.Errorf("%s: %v, want %v", name, value(got), want)
		}
	}
	near("charged requests", v.Requests.Kinds[0].PerSecond, (1201+96)/10.)
	near("all requests", v.Requests.PerSecond, 185.8)
	near("share of charged requests", v.Requests.Kinds[0].Share, 129.7/185.8)
	near("refusals for lack of money", v.Money.Lacking.PerSecond, 8.1)
	near("hit ratio", v.Keys.HitRatio, 1-7/1799.)
	near("rows of a commit", v.Store.RowsPerCommit, (4*150+5*160)/310.)
	near("uptime", v.Gateway.UptimeSeconds, 273610)
	if got, want := v.Money.Live.Charged.String(), "9279.7675"; got != want {
		t.Errorf("charged %s, want %s", got, want)
	}
	if got, want := v.Money.Live.ChargedPerMinute.String(), "377.505"; got != want {
		t.Errorf("charged in a minute %s, want %s", got, want)
	}
	if got, want := v.Money.Test.Charged.String(), "18.10"; got != want {
		t.Errorf("charged to test keys %s, want %s", got, want)
	}
	if v.Tools[0].Tool != "get_forecast" || v.Tools[len(v.Tools)-1].Tool != "search_*" {
		t.Errorf("tools are in the wrong order: %+v", v.Tools)
	}
}

// TestKinds checks that KindOf classifies the code of each refusal as Refused or
// Failed, and that it also classifies an unknown decision.
func TestKinds(t *testing.T) {
	for _, code := range gate.Codes() {
		if kind := KindOf(string(code)); kind != Refused && kind != Failed {
			t.Errorf("%s is %s", code, kind)
		}
	}
	for decision, want := range map[string]Kind{
		"charged": Charged, "not_charged": NotCharged, "allowed": Free, "replayed": Free, "not_found": Free, "registration": Free,
		"INSUFFICIENT_BALANCE": Refused, "UPSTREAM_FAILED": Failed, "CODE_OF_TOMORROW": Refused, "decision_of_tomorrow": Free, "": Free,
	} {
		if got := KindOf(decision); got != want {
			t.Errorf("%q is %s, want %s", decision, got, want)
		}
	}
}

// TestFailures checks that the counter of failures counts each failed request once,
// whether the request failed before or after it was forwarded.
func TestFailures(t *testing.T) {
	const before = "farebox_requests_total{server=\"a\",decision=\"STORE_UNAVAILABLE\"} 10\nfarebox_requests_total{server=\"a\",decision=\"not_charged\"} 20\n"
	const counted = "farebox_failures_total{server=\"a\",code=\"STORE_UNAVAILABLE\"} 10\nfarebox_failures_total{server=\"a\",code=\"UPSTREAM_FAILED\"} 20\n"
	for second, want := range map[string]float64{before: 1, before + counted: 3} {
		v := viewOf(t, "", second)
		if got := v.Requests.Kinds[4]; got.Kind != Failed || *got.PerSecond != want || *v.Servers[0].Failed.PerSecond != want || *v.Requests.PerSecond != 3 {
			t.Errorf("%s: %+v, server %+v; want %v per second", second, got, v.Servers[0].Failed, want)
		}
	}
}

// TestUnknownIsNil checks that a number that the gateway lacks is nil and not 0. It
// uses an older gateway, a gateway without a store of its own, and a single scrape.
func TestUnknownIsNil(t *testing.T) {
	older := viewOf(t, "older.prom", "older.prom")
	remote := viewOf(t, "farebox_build_info{version=\"v1\"} 1\nfarebox_store_up 1\n", "farebox_build_info{version=\"v1\"} 1\nfarebox_store_up 1\n")
	single := New("localhost:2019", scrape.Interval{To: sampleOf(t, 0, "first.prom")})
	for name, figure := range map[string]any{
		"older: charged": older.Money.Live.Charged, "older: a minute": older.Money.Live.ChargedPerMinute, "older: version": older.Gateway.Version,
		"older: currency": older.Currency, "older: commits": older.Store.CommitsPerSecond, "older: uptime": older.Gateway.UptimeSeconds,
		"older: hits": older.Keys.HitRatio, "older: p99": older.Time.Added.P99, "older: lookups": older.Keys.LookupsPerSecond,
		"remote: commits": remote.Store.CommitsPerSecond, "remote: disk": remote.Store.DiskFreeBytes, "remote: queue": remote.Store.QueueLength,
		"remote: rows": remote.Store.RowsPerCommit, "remote: expiring": remote.Keys.Expiring, "remote: share": remote.Requests.Kinds[0].Share,
		"single: requests": single.Requests.PerSecond, "single: seconds": single.Seconds, "single: p50": single.Time.Upstream.P50,
		"single: a minute": single.Money.Live.ChargedPerMinute, "single: mean": single.Tools[0].MeanSeconds, "single: CPU": single.Gateway.CPU,
	} {
		if !reflect.ValueOf(figure).IsNil() {
			t.Errorf("%s is %v, want nil", name, reflect.ValueOf(figure).Elem())
		}
	}
	if got := older.Requests.Total; got == nil || *got != 12 {
		t.Errorf("older: requests %v, want 12", value(got))
	}
	if got := older.Requests.PerSecond; got == nil || *got != 0 {
		t.Errorf("older: requests per second %v, want 0", got)
	}
	const zero = "farebox_build_info{version=\"v1\"} 1\nfarebox_failures_total{server=\"a\",code=\"CHARGE_FAILED\"} 0\n"
	idle := viewOf(t, zero, zero)
	if len(idle.Requests.Decisions) != 0 || *idle.Requests.Kinds[4].PerSecond != 0 || len(idle.Servers) != 1 || *idle.Servers[0].Requests.Total != 0 {
		t.Errorf("idle: %+v, %+v, want a server without a decision", idle.Requests, idle.Servers)
	}
	// If a gateway has all metrics, but no series of requests yet, it has had no
	// requests.
	if got := remote.Requests.Total; got == nil || *got != 0 {
		t.Errorf("fresh: requests %v, want 0", got)
	}
	if got := remote.Money.Live.Charged; got == nil || *got != 0 {
		t.Errorf("fresh: charged %v, want 0.00", got)
	}
	if got := single.Tools[0].MeanSinceStart; got == nil {
		t.Error("single: the mean since the start is not known")
	}
}

// TestAmountsAreExact checks that a sum of many floats becomes the exact amount in
// micro-units.
func TestAmountsAreExact(t *testing.T) {
	sum := 0.0
	for range 1_000_000 {
		sum += .01
	}
	if got := toAmount(&sum, 1); *got != 10_000*ledger.Unit {
		t.Errorf("%s, want 10000.00", got)
	}
	large := 123_456_789.123456
	if got := toAmount(&large, 1).String(); got != "123456789.123456" {
		t.Errorf("%s, want 123456789.123456", got)
	}
}

// TestAttention checks which metrics cause each notice, and that a gateway with similar
// but acceptable metrics causes no notice.
func TestAttention(t *testing.T) {
	const quiet = "farebox_build_info{version=\"v1\"} 1\nfarebox_store_up 1\nprocess_start_time_seconds 1000\n"
	raised := make(map[string]bool)
	for _, c := range []struct {
		code          string
		level         Level
		first, second string
	}{
		{"STORE_DOWN", Critical, "", "farebox_store_up 0\n"},
		{"COMMITS_FAIL", Critical, "farebox_store_commits_total{result=\"failed\"} 1\n", "farebox_store_commits_total{result=\"failed\"} 2\n"},
		{"QUEUE_NEARLY_FULL", Warning, "", "farebox_store_queue_length 80\nfarebox_store_queue_limit 100\n"},
		{"DISK_NEARLY_FULL", Warning, "", "farebox_store_disk_free_bytes 9\nfarebox_store_disk_bytes 100\n"},
		{"DISK_NEARLY_FULL", Critical, "", "farebox_store_disk_free_bytes 2\nfarebox_store_disk_bytes 100\n"},
		{"LEDGER_DIFFERS", Critical, "", "farebox_ledger_differences 1\n"},
		{"REVOCATION_LAG", Warning, "", "farebox_revocation_lag_seconds 1\nfarebox_revocation_lag_limit_seconds 2\n"},
		{"REVOCATION_LAG", Critical, "", "farebox_revocation_lag_seconds 2\nfarebox_revocation_lag_limit_seconds 2\n"},
		{"CHARGES_FAIL", Critical, "", "farebox_charges_total{result=\"failed\"} 1\n"},
		{"REFUNDS_OWED", Warning, "", "farebox_refunds_owed 1\n"},
		{"REQUESTS_FAIL", Warning, "", "farebox_requests_total{decision=\"charged\"} 90\nfarebox_requests_total{decision=\"STORE_UNAVAILABLE\"} 10\n"},
		{"REQUESTS_FAIL", Warning, "", "farebox_requests_total{decision=\"not_charged\"} 100\nfarebox_failures_total{code=\"UPSTREAM_FAILED\"} 5\n"},
		{"FEW_CACHE_HITS", Warning, "", "farebox_key_lookups_total{source=\"store\"} 50\nfarebox_key_lookups_total{source=\"cache\"} 50\n"},
		{"KEYS_EXPIRE", Note, "", "farebox_keys_expiring{within=\"1d\"} 1\n"},
		{"SHARE_NEARLY_USED", Warning, "", "farebox_share_used{of=\"streams\"} 95\nfarebox_share_limit{of=\"streams\"} 100\n"},
		{"RELOAD_FAILED", Warning, "", "farebox_config_loads_total{result=\"failed\"} 1\n"},
		{"CLOCK_STEPPED", Warning, "", "farebox_clock_offset_seconds -3600\n"},
		{"RESTARTED", Note, "", "process_start_time_seconds 2000\n"},
		// These metrics are acceptable, so they cause no notice.
		{"", "", "", "farebox_store_queue_length 79\nfarebox_store_queue_limit 100\nfarebox_store_disk_free_bytes 10\nfarebox_store_disk_bytes 100\n"},
		{"", "", "", "farebox_revocation_lag_seconds 1\nfarebox_revocation_lag_limit_seconds 0\nfarebox_refunds_owed 0\nfarebox_clock_offset_seconds 0.5\n"},
		{"", "", "", "farebox_requests_total{decision=\"INSUFFICIENT_BALANCE\"} 1000\nfarebox_keys_expiring{within=\"1d\"} 0\nfarebox_keys_expiring{within=\"7d\"} 5\n"},
		{"", "", "farebox_charges_total{result=\"failed\"} 1\n", "farebox_charges_total{result=\"failed\"} 1\n"},
		{"", "", "", "farebox_requests_total{decision=\"UPSTREAM_FAILED\"} 10\n"},
	} {
		with := func(text string) string { // each line of the argument replaces the line of quiet that has the same name
			lines := strings.SplitAfter(quiet, "\n")
			return strings.Join(slices.DeleteFunc(lines, func(line string) bool {
				name, _, _ := strings.Cut(line, " ")
				return name != "" && strings.Contains(text, name+" ")
			}), "") + text
		}
		raised[c.code] = true
		got := viewOf(t, with(c.first), with(c.second)).Attention
		switch {
		case c.code == "" && len(got) > 0:
			t.Errorf("%q: %+v, want no notice", c.second, got)
		case c.code != "" && (len(got) != 1 || got[0].Code != c.code || got[0].Level != c.level || got[0].Text == ""):
			t.Errorf("%q: %+v, want %s %s", c.second, got, c.level, c.code)
		}
	}
	delete(raised, "")
	if described := describedNotices(t); !maps.Equal(raised, described) {
		t.Errorf("docs/top.md describes %v, want %v", described, raised)
	}
}

// describedNotices returns the codes of the notices that are described in docs/top.md.
func describedNotices(t *testing.T) map[string]bool {
	t.Helper()
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "top.md"))
	if err != nil {
		t.Fatal(err)
	}
	codes := make(map[string]bool)
	for _, row := range regexp.MustCompile("(?m)^\\| `([A-Z_]+)` \\|").FindAllStringSubmatch(string(page), -1) {
		codes[row[1]] = true
	}
	return codes
}

// TestAttentionBeginsWithTheWorst checks that the most urgent notices come first.
func TestAttentionBeginsWithTheWorst(t *testing.T) {
	v := viewOf(t, "", "farebox_keys_expiring{within=\"1d\"} 1\nfarebox_refunds_owed 1\nfarebox_store_up 0\n")
	var levels []Level
	for _, n := range v.Attention {
		levels = append(levels, n.Level)
	}
	if want := []Level{Critical, Warning, Note}; !slices.Equal(levels, want) {
		t.Errorf("%v, want %v", levels, want)
	}
}

// TestServerThatRestarted checks that no number is negative after a restart, and that
// rates are those of the new process.
func TestServerThatRestarted(t *testing.T) {
	process := func(started int64, requests string) string {
		return "process_start_time_seconds " + strconv.FormatInt(start.Add(-clock.Shift()).Unix()+started, 10) + "\nfarebox_requests_total{server=\"a\",decision=\"charged\"} " + requests + "\n"
	}
	v := viewOf(t, process(-1000, "5000"), process(6, "40"))
	if got := v.Requests.PerSecond; got == nil || *got != 10 || !v.Gateway.Restarted {
		t.Errorf("%v requests per second, restarted %v; want 10", value(got), v.Gateway.Restarted)
	}
	if got := v.Servers[0].Charged.PerSecond; got == nil || *got != 10 {
		t.Errorf("%v charged per second, want 10", value(got))
	}
}
