package integration

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/integration/harness"
	"github.com/fareboxhq/farebox/internal/ledger"

	"github.com/fareboxhq/farebox/internal/clock"
)

// The tools that the spending tests call, with their prices in USD.
const (
	cheapest = "list_cities"    // price 0.01
	middling = "get_forecast"   // price 0.02
	dearest  = "climate_report" // price 0.03
)

// priced returns a Caddyfile with these prices and the given directives.
func priced(upstream string, directives ...string) string {
	return harness.Site(upstream, append([]string{"server weather", "provider acme", "environments live test",
		"price " + cheapest + " 0.01", "price " + middling + " 0.02", "price " + dearest + " 0.03", "price read_station 0.02"}, directives...)...)
}

// body returns a call of a tool of the weather server.
func body(id int, tool string) string {
	if tool == cheapest { // this tool takes no arguments
		return harness.ToolCall(id, tool, `{}`)
	}
	return harness.ToolCall(id, tool, `{"city":"Oslo"}`)
}

// pays makes a call that must be charged at this price.
func pays(t *testing.T, g *harness.Gateway, secret, tool, price string) *harness.Answer {
	t.Helper()
	answer := post(t, g, secret, body(1, tool))
	if answer.Result == nil || answer.Result.IsError || answer.Result.Meta.Charge == nil || answer.Result.Meta.Charge.Amount != amount(t, price) {
		t.Fatalf("%s for %s: %d %s", tool, price, answer.Status, answer.Body)
	}
	return answer
}

// capped makes a call that a cap must refuse, with the reason in the text and in
// _meta. The call must not reach the server.
func capped(t *testing.T, g *harness.Gateway, recorder *harness.Recorder, secret, tool string, want harness.Cap) {
	t.Helper()
	seen, earliest := len(recorder.Requests()), clock.Now()
	answer := post(t, g, secret, body(1, tool))
	if n := len(recorder.Requests()) - seen; n != 0 {
		t.Errorf("%s: the server was asked %d times", tool, n)
	}
	if answer.Status != http.StatusOK || answer.Code() != "SPENDING_CAP" || answer.Result == nil || !answer.Result.IsError || string(answer.ID) != "1" {
		t.Fatalf("%s: %d %s; want a tool result SPENDING_CAP", tool, answer.Status, answer.Body)
	}
	e := answer.Result.Meta.Error
	if e.Cap == nil || e.Tool != tool || e.Price == 0 {
		t.Fatalf("%s: the error is %+v", tool, e)
	}
	words := []string{tool, "nothing was charged", want.Amount.String() + " USD"}
	if want.Period == "call" {
		if e.Cap.Resets != nil {
			t.Errorf("%s: a cap for single calls resets at %s", tool, e.Cap.Resets)
		}
	} else {
		resets := resetsBetween(want.Period, earliest, clock.Now())
		if e.Cap.Resets == nil || !resets[*e.Cap.Resets] {
			t.Fatalf("%s: the cap resets at %v, want one of %v", tool, e.Cap.Resets, resets)
		}
		words = append(words, "begins anew at "+e.Cap.Resets.Format(time.DateTime)+" (UTC)", "only "+want.Left.String()+" USD are left")
	}
	got := *e.Cap
	got.Resets = nil
	if got != want {
		t.Errorf("%s: the cap is %+v, want %+v", tool, got, want)
	}
	for _, word := range words {
		if !strings.Contains(answer.Text(), word) {
			t.Errorf("%s: the model reads %q; want %q in it", tool, answer.Text(), word)
		}
	}
}

// resetsBetween returns the ends of the periods that contain these times. These ends
// can differ, because a test may run at midnight.
func resetsBetween(period string, times ...time.Time) map[time.Time]bool {
	ends := map[time.Time]bool{}
	for _, at := range times {
		year, month, day := at.UTC().Date()
		if period == "day" {
			ends[time.Date(year, month, day+1, 0, 0, 0, 0, time.UTC)] = true
		} else {
			ends[time.Date(year, month+1, 1, 0, 0, 0, 0, time.UTC)] = true
		}
	}
	return ends
}

// TestCaps checks promise 3 of docs/promises.md for the caps that operators set.
// Whatever the cap's holder and period, a call beyond the cap never reaches the server,
// and its refusal states the figures of the cap. An updated cap applies to the next
// call.
func TestCaps(t *testing.T) {
	t.Parallel()
	recorder := harness.Record(t, binaries.StartWeather(t, "-stateless"))
	for _, period := range []string{"call", "day", "month"} {
		t.Run(period, func(t *testing.T) {
			// The server's cap on each account is 0.03 a day or month, or 0.025 a
			// call.
			site, own, raised := "0.03", "0.02", "0.03"
			if period == "call" {
				site, own, raised = "0.025", "0.015", "0.02"
			}
			g := binaries.StartGateway(t, priced(recorder.URL, "cap "+period+" "+site))
			flag := func(amount string) string { return period + "=" + amount }

			_, key := g.NewAgent(t, "byserver", "5.00")
			if period == "call" {
				capped(t, g, recorder, key.Secret, dearest, harness.Cap{Holder: "server", Period: period, Amount: amount(t, site), Left: amount(t, site)})
			} else {
				pays(t, g, key.Secret, middling, "0.02")
				capped(t, g, recorder, key.Secret, middling, harness.Cap{Holder: "server", Period: period, Amount: amount(t, site), Left: amount(t, "0.01")})
				capped(t, g, recorder, g.NewKey(t, "byserver").Secret, middling, harness.Cap{Holder: "server", Period: period, Amount: amount(t, site), Left: amount(t, "0.01")})
				pays(t, g, key.Secret, cheapest, "0.01")
			}

			g.NewAgent(t, "bykey", "5.00")
			limited := g.NewKey(t, "bykey", "--cap", flag(own))
			exhaust(t, g, recorder, limited.Secret, harness.Cap{Holder: "key", Period: period, Amount: amount(t, own)})
			g.CLI(t, nil, "key", "update", limited.ID, "--cap", flag(raised))
			if period == "call" {
				pays(t, g, limited.Secret, middling, "0.02")
			} else {
				pays(t, g, limited.Secret, cheapest, "0.01")
			}
			// The raised cap for each call would allow the next call. Lower the cap again,
			// so that the call passes only because the cap is removed.
			if period == "call" {
				g.CLI(t, nil, "key", "update", limited.ID, "--cap", flag(own))
				capped(t, g, recorder, limited.Secret, middling, harness.Cap{Holder: "key", Period: period, Amount: amount(t, own), Left: amount(t, own)})
			}
			g.CLI(t, nil, "key", "update", limited.ID, "--cap", flag("none"))
			if period == "call" {
				pays(t, g, limited.Secret, middling, "0.02")
			} else {
				capped(t, g, recorder, limited.Secret, cheapest, harness.Cap{Holder: "server", Period: period, Amount: amount(t, site)})
			}

			_, key = g.NewAgent(t, "byaccount", "5.00")
			g.CLI(t, nil, "account", "update", "byaccount", "--cap", flag(own))
			exhaust(t, g, recorder, key.Secret, harness.Cap{Holder: "account", Period: period, Amount: amount(t, own)})
			exhaust(t, g, recorder, g.NewKey(t, "byaccount").Secret, harness.Cap{Holder: "account", Period: period, Amount: amount(t, own)})
			g.CLI(t, nil, "account", "update", "byaccount", "--cap", flag(raised))
			if period == "call" {
				pays(t, g, key.Secret, middling, "0.02")
			} else {
				pays(t, g, key.Secret, cheapest, "0.01")
			}
			g.VerifyLedger(t)
		})
	}
}

// exhaust spends the rest of the cap, and makes one more call that must be
// refused.
func exhaust(t *testing.T, g *harness.Gateway, recorder *harness.Recorder, secret string, want harness.Cap) {
	t.Helper()
	if want.Period == "call" {
		pays(t, g, secret, cheapest, "0.01")
		want.Left = want.Amount
		capped(t, g, recorder, secret, middling, want)
		return
	}
	for left := want.Amount; left > 0; left -= amount(t, "0.01") {
		answer := post(t, g, secret, body(1, cheapest))
		if answer.Code() == "SPENDING_CAP" { // another key of the account has spent the cap
			break
		}
	}
	capped(t, g, recorder, secret, cheapest, want)
}

// TestCapOfALineage checks promise 3 of docs/promises.md across a rotation. A key and
// its successor share one cap. Other keys of the account do not count toward it.
func TestCapOfALineage(t *testing.T) {
	t.Parallel()
	recorder := harness.Record(t, binaries.StartWeather(t, "-stateless"))
	g := binaries.StartGateway(t, priced(recorder.URL))
	g.NewAgent(t, "alice", "5.00")
	old := g.NewKey(t, "alice", "--cap", "day=0.03")
	pays(t, g, old.Secret, cheapest, "0.01")
	var next harness.Key
	g.CLI(t, &next, "key", "rotate", old.ID, "--grace", "1h")
	g.AddSecret(next.Secret)
	pays(t, g, next.Secret, cheapest, "0.01")
	pays(t, g, old.Secret, cheapest, "0.01")
	spent := harness.Cap{Holder: "key", Period: "day", Amount: amount(t, "0.03")}
	capped(t, g, recorder, old.Secret, cheapest, spent)
	capped(t, g, recorder, next.Secret, cheapest, spent)
	pays(t, g, g.NewKey(t, "alice").Secret, dearest, "0.03")

	// The amount counted against the cap survives a crash, and a refund does not
	// lower it.
	g.Kill()
	g.Start(t)
	capped(t, g, recorder, next.Secret, cheapest, spent)
	for _, c := range g.Charges(t, "alice") {
		g.CLI(t, nil, "charge", "refund", c.ID, "--reason", "for the test")
	}
	capped(t, g, recorder, next.Secret, cheapest, spent)
	g.VerifyLedger(t)
}

// TestConcurrentCallersMeetACap checks promise 3 of docs/promises.md. If 64 callers
// share a daily cap of ten calls, exactly ten calls succeed, whatever the cap's holder.
// The operator is warned once.
func TestConcurrentCallersMeetACap(t *testing.T) {
	const callers, calls = 64, 10
	recorder := harness.Record(t, binaries.StartWeather(t, "-stateless"))
	g := binaries.StartGateway(t, priced(recorder.URL, "cap day 0.20"))
	for _, c := range []struct {
		holder string
		limit  func(name string) harness.Key
		tool   string
	}{
		{"key", func(name string) harness.Key { return g.NewKey(t, name, "--cap", "day=0.10") }, cheapest},
		{"account", func(name string) harness.Key {
			g.CLI(t, nil, "account", "update", name, "--cap", "day=0.10")
			return g.NewKey(t, name)
		}, cheapest},
		{"server", func(name string) harness.Key { return g.NewKey(t, name) }, middling},
	} {
		t.Run(c.holder, func(t *testing.T) {
			name := "by-" + c.holder
			g.NewAgent(t, name, "100.00")
			secret := c.limit(name).Secret
			before := recorder.Calls(c.tool)
			client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: callers}}
			defer client.CloseIdleConnections()
			var mu sync.Mutex
			var group sync.WaitGroup
			paid, refused := 0, 0
			for i := range callers {
				group.Go(func() {
					answer, err := g.Post(t.Context(), client, secret, body(i+1, c.tool))
					mu.Lock()
					defer mu.Unlock()
					switch {
					case err != nil:
						t.Error(err)
					case answer.Result != nil && answer.Result.Meta.Charge != nil:
						paid++
					case answer.Code() == "SPENDING_CAP" && answer.Result.Meta.Error.Cap.Holder == c.holder:
						refused++
					default:
						t.Errorf("%d %s", answer.Status, answer.Body)
					}
				})
			}
			group.Wait()
			if reached := recorder.Calls(c.tool) - before; paid != calls || refused != callers-calls || reached != calls {
				t.Errorf("%d paid, %d refused, %d reached the server; want %d, %d, %d", paid, refused, reached, calls, callers-calls, calls)
			}
			if n := len(g.Charges(t, name)); n != calls {
				t.Errorf("%d charges", n)
			}
			if n := g.Metrics(t)[fmt.Sprintf(`farebox_caps_near_total{holder=%q,period="day"}`, c.holder)]; n != 1 {
				t.Errorf("the operator was warned %v times", n)
			}
		})
	}
	if n := strings.Count(g.Process().Output(t), "80 % of a spending cap are spent"); n != 3 {
		t.Errorf("the log has %d warnings for three caps", n)
	}
	g.VerifyLedger(t)
}

// TestFreeQuota checks that calls within the daily free quota are captured at no cost,
// with a receipt, and need no balance. The quota belongs to the account and survives a
// crash. The call after the last free one is paid. Failed calls do not count.
func TestFreeQuota(t *testing.T) {
	t.Parallel()
	recorder := harness.Record(t, binaries.StartWeather(t, "-stateless"))
	g := binaries.StartGateway(t, priced(recorder.URL, "free_quota 3/day", "fee 10% operator", "cap day 0.02"))
	_, key := g.NewAgent(t, "alice", "")
	second := g.NewKey(t, "alice")
	if answer := post(t, g, key.Secret, body(1, "read_station")); answer.Result == nil || !answer.Result.IsError || answer.Code() != "" {
		t.Fatalf("a call that fails: %s", answer.Body)
	}
	for i, secret := range []string{key.Secret, second.Secret, key.Secret} {
		if i == 2 {
			g.Kill()
			g.Start(t)
		}
		meta := pays(t, g, secret, dearest, "0.00").Result.Meta // the price is above the cap, but a free call spends nothing
		receipt := readReceipt(t, meta.Receipt)
		if !meta.Charge.Free || receipt.Amount != 0 || !receipt.Free || receipt.Charge != meta.Charge.ID {
			t.Errorf("charge %+v, receipt %+v", meta.Charge, receipt)
		}
	}
	seen := len(recorder.Requests())
	if answer := post(t, g, key.Secret, body(1, cheapest)); answer.Code() != "INSUFFICIENT_BALANCE" || len(recorder.Requests()) != seen {
		t.Errorf("the fourth without a balance: %s", answer.Body)
	}
	_, other := g.NewAgent(t, "bob", "")
	pays(t, g, other.Secret, dearest, "0.00") // each account has its own quota
	g.CLI(t, nil, "credit", "alice", "1.00", "--reason", "for the test")
	if meta := pays(t, g, second.Secret, cheapest, "0.01").Result.Meta; meta.Charge.Free || meta.Charge.Balance != amount(t, "0.99") {
		t.Errorf("the fourth: %+v", meta.Charge)
	}
	capped(t, g, recorder, key.Secret, middling, harness.Cap{Holder: "server", Period: "day", Amount: amount(t, "0.02"), Left: amount(t, "0.01")})
	charges := g.Charges(t, "alice")
	if len(charges) != 4 || charges[0].Free || charges[0].Fee != amount(t, "0.001") {
		t.Fatalf("charges %+v", charges)
	}
	for _, c := range charges[1:] {
		if !c.Free || c.Amount != 0 || c.Fee != 0 || c.State != "captured" {
			t.Errorf("charge %+v", c)
		}
	}
	for name, balance := range map[string]string{"alice": "0.99", "bob": "0.00", "acme": "0.009", "operator": "0.001"} {
		if a := g.Account(t, name); a.Balance != amount(t, balance) || a.Reserved != 0 {
			t.Errorf("%s has %s, want %s", name, a.Balance, balance)
		}
	}
	g.VerifyLedger(t)
}

// TestFee checks promise 5 of docs/promises.md with an operator's share of each charge.
// By the time that the client has the answer, the share is on the operator's account. A
// refund takes the share back in proportion. The books balance at all times, even after
// a crash.
func TestFee(t *testing.T) {
	t.Parallel()
	g := binaries.StartGateway(t, priced(binaries.StartWeather(t, "-stateless"), "price watch_storm 1.00", "fee 2.5% operator"))
	_, key := g.NewAgent(t, "alice", "5.00")
	expect := func(what, alice, acme, operator string) {
		t.Helper()
		for name, balance := range map[string]string{"alice": alice, "acme": acme, "operator": operator} {
			if a := g.Account(t, name); a.Balance != amount(t, balance) || a.Reserved != 0 {
				t.Errorf("%s: %s has %s, want %s", what, name, a.Balance, balance)
			}
		}
		g.VerifyLedger(t)
	}
	storm := harness.ToolCall(1, "watch_storm", `{"city":"Oslo","steps":1}`)
	answer := post(t, g, key.Secret, storm)
	if answer.Result == nil || answer.Result.Meta.Charge == nil || answer.Result.Meta.Charge.Amount != ledger.Unit {
		t.Fatalf("%s", answer.Body)
	}
	id := answer.Result.Meta.Charge.ID
	expect("charged", "4.00", "0.975", "0.025")
	g.Kill()
	g.Start(t)
	expect("after a crash", "4.00", "0.975", "0.025")
	for _, step := range []struct{ refund, alice, acme, operator string }{
		{"0.333333", "4.333333", "0.65", "0.016667"},
		{"0.333333", "4.666666", "0.325", "0.008334"},
		{"0.333334", "5.00", "0.00", "0.00"},
	} {
		g.CLI(t, nil, "charge", "refund", id, "--amount", step.refund, "--reason", "for the test")
		expect("refunded "+step.refund, step.alice, step.acme, step.operator)
	}
	pays(t, g, key.Secret, cheapest, "0.01")
	expect("a small one", "4.99", "0.00975", "0.00025")
	if answer := post(t, g, key.Secret, body(1, "read_station")); answer.Result == nil || !answer.Result.IsError {
		t.Fatalf("%s", answer.Body)
	}
	expect("a call that failed", "4.99", "0.00975", "0.00025")
}

// TestTestKeys checks that test keys spend test credits. Their caps, quotas and fees
// are counted separately from those of live keys, and every view of a charge shows its
// environment.
func TestTestKeys(t *testing.T) {
	t.Parallel()
	recorder := harness.Record(t, binaries.StartWeather(t, "-stateless"))
	g := binaries.StartGateway(t, priced(recorder.URL, "cap day 0.04", "fee 10% operator"))
	_, live := g.NewAgent(t, "alice", "5.00")
	test := g.NewKey(t, "alice", "--test")
	answer := post(t, g, test.Secret, body(1, cheapest))
	if answer.Code() != "INSUFFICIENT_BALANCE" || !strings.Contains(answer.Text(), "test balance") {
		t.Errorf("without test credits: %s", answer.Body)
	}
	g.CLI(t, nil, "credit", "alice", "1.00", "--test", "--reason", "to play with")
	g.CLI(t, nil, "account", "update", "alice", "--cap", "day=0.03")
	meta := pays(t, g, test.Secret, dearest, "0.03").Result.Meta
	if receipt := readReceipt(t, meta.Receipt); receipt.Environment != "test" || meta.Charge.Environment != "test" || meta.Charge.Balance != amount(t, "0.97") {
		t.Errorf("charge %+v, receipt %+v", meta.Charge, receipt)
	}
	spent := harness.Cap{Holder: "account", Period: "day", Amount: amount(t, "0.03")}
	capped(t, g, recorder, test.Secret, cheapest, spent)
	if meta := pays(t, g, live.Secret, dearest, "0.03").Result.Meta; readReceipt(t, meta.Receipt).Environment != "live" || meta.Charge.Environment != "live" {
		t.Errorf("charge %+v", meta.Charge)
	}
	capped(t, g, recorder, live.Secret, cheapest, spent)
	g.CLI(t, nil, "account", "update", "alice", "--cap", "day=none")
	left := harness.Cap{Holder: "server", Period: "day", Amount: amount(t, "0.04"), Left: amount(t, "0.01")}
	capped(t, g, recorder, test.Secret, middling, left)
	capped(t, g, recorder, live.Secret, middling, left)

	charges := g.Charges(t, "alice")
	if len(charges) != 2 || charges[0].Environment != "live" || charges[1].Environment != "test" {
		t.Errorf("charges %+v", charges)
	}
	for name, want := range map[string][2]string{"alice": {"4.97", "0.97"}, "acme": {"0.027", "0.027"}, "operator": {"0.003", "0.003"}} {
		if a := g.Account(t, name); a.Balance != amount(t, want[0]) || a.TestBalance != amount(t, want[1]) {
			t.Errorf("%s has %s and %s, want %s", name, a.Balance, a.TestBalance, want)
		}
	}
	for _, environment := range []string{"live", "test"} {
		sample := fmt.Sprintf(`farebox_charged_amount_total{environment=%q,server="weather",tool=%q}`, environment, dearest)
		if n := g.Metrics(t)[sample]; n != 0.03 {
			t.Errorf("%s is %v", sample, n)
		}
	}
	g.VerifyLedger(t)
}
