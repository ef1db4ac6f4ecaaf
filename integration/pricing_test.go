package integration

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/fareboxhq/farebox/integration/harness"
)

// TestPricesByRule checks the price book's rules with the real binary. Expressions
// price calls exactly, callers are not charged above their own maximum, and charge_on
// decides which outcomes of a call are charged.
func TestPricesByRule(t *testing.T) {
	t.Parallel()
	recorder := harness.Record(t, binaries.StartWeather(t, "-stateless"))
	g := binaries.StartGateway(t, harness.Site(recorder.URL, "server weather", "provider acme",
		`price get_forecast cel "size(args.city) * 1000" max 0.008`,
		"price read_station 0.02 charge_on success tool_error",
		"price climate_report 0.10 charge_on started"))
	_, key := g.NewAgent(t, "agent", "1.00")
	limited := func(most string) string {
		return strings.Replace(harness.ToolCall(1, "get_forecast", `{"city":"Oslo"}`), `"arguments"`, `"_meta":{"dev.farebox/max-price":`+most+`},"arguments"`, 1)
	}
	for _, c := range []struct {
		name, body string
		code       string // the code of the refusal; a refused call does not reach the server
		status     int
		balance    string // the account's balance after the call
		receipt    bool
	}{
		{"four letters", harness.ToolCall(1, "get_forecast", `{"city":"Oslo"}`), "", 200, "0.996", true},
		{"no city to price", harness.ToolCall(1, "get_forecast", `{}`), "PRICE_REFUSED", 200, "0.996", false},
		{"above the most", harness.ToolCall(1, "get_forecast", `{"city":"Reykjavik"}`), "PRICE_REFUSED", 200, "0.996", false},
		{"above the caller's maximum", limited(`"0.003"`), "PRICE_ABOVE_MAX", 200, "0.996", false},
		{"at the caller's maximum", limited(`"0.004"`), "", 200, "0.992", true},
		{"a maximum that is a number", limited(`0.004`), "PARAMS_INVALID", 200, "0.992", false},
		{"a maximum that is no amount", limited(`"4 mills"`), "PARAMS_INVALID", 200, "0.992", false},
		{"a tool error that costs", harness.ToolCall(1, "read_station", `{"city":"Oslo"}`), "", 200, "0.972", true},
		{"started, and a result", harness.ToolCall(1, "climate_report", `{"city":"Oslo"}`), "", 200, "0.872", true},
		{"started, and failed", harness.ToolCall(1, "climate_report", `{"city":7}`), "", 200, "0.772", true},
	} {
		before := len(recorder.Requests())
		answer := post(t, g, key.Secret, c.body)
		if answer.Status != c.status || answer.Code() != c.code {
			t.Errorf("%s: %d %s", c.name, answer.Status, answer.Body)
		}
		if asked := len(recorder.Requests()) > before; asked != (c.code == "") {
			t.Errorf("%s: the server was asked: %v", c.name, asked)
		}
		if got := answer.Result != nil && answer.Result.Meta.Receipt != ""; got != c.receipt {
			t.Errorf("%s: receipt is %v in %s", c.name, got, answer.Body)
		}
		if a := g.Account(t, "agent"); a.Balance != amount(t, c.balance) || a.Reserved != 0 {
			t.Errorf("%s: balance %s, reserved %s; want %s", c.name, a.Balance, a.Reserved, c.balance)
		}
	}
	g.VerifyLedger(t)
}

// TestAbandonedCalls checks that a caller that leaves before the answer is charged only
// if the price says so. After ten abandoned calls, the gateway refuses further calls to
// those tools for which a caller that leaves is not charged.
func TestAbandonedCalls(t *testing.T) {
	t.Parallel()
	recorder := harness.Record(t, binaries.StartWeather(t))
	g := binaries.StartGateway(t, harness.Site(recorder.URL, "server weather", "provider acme",
		"price get_forecast 0.01", "price climate_report 0.10 charge_on success abandoned", "price read_station 0.02 charge_on success abandoned"))
	_, key := g.NewAgent(t, "agent", "1.00")
	session := g.Connect(t, key.Secret, nil)
	release := recorder.HoldAnswers()
	defer release()
	left := 0
	leave := func(tool string) {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		before := recorder.Calls(tool)
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, g.Endpoint(), strings.NewReader(harness.ToolCall(1000+left, tool, `{"city":"Oslo"}`)))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Mcp-Session-Id", session.ID())
		go func() {
			_, err := g.Send(http.DefaultClient, key.Secret, req)
			done <- err
		}()
		harness.Eventually(t, "the call at the server", func() error {
			if recorder.Calls(tool) == before {
				return fmt.Errorf("%s was not called", tool)
			}
			return nil
		})
		cancel()
		if err := <-done; err == nil {
			t.Fatal("the answer came before the client left")
		}
		left++
		harness.Eventually(t, "the leave to be noticed", func() error {
			if n := g.Metrics(t)[`farebox_abandoned_total{server="weather"}`]; n != float64(left) {
				return fmt.Errorf("%v calls abandoned, want %d", n, left)
			}
			return nil
		})
	}
	leave("climate_report")
	leave("read_station") // not charged, because its answer is an error
	for range 10 {
		leave("get_forecast")
	}
	answer := post(t, g, key.Secret, harness.ToolCall(1, "get_forecast", `{"city":"Oslo"}`))
	if answer.Status != 200 || answer.Code() != "RATE_LIMITED" || answer.Result == nil || !answer.Result.IsError || !strings.Contains(answer.Body, `"retry_after_ms":`) {
		t.Errorf("the eleventh: %d %s", answer.Status, answer.Body)
	}
	release()
	harness.Eventually(t, "the calls to end", func() error {
		if a := g.Account(t, "agent"); a.Balance != amount(t, "0.90") || a.Reserved != 0 {
			return fmt.Errorf("balance %s, reserved %s; want 0.90 and nothing", a.Balance, a.Reserved)
		}
		return nil
	})
	if charges := g.Charges(t, "agent"); len(charges) != 1 || charges[0].Tool != "climate_report" {
		t.Errorf("charges %+v", charges)
	}
	g.VerifyLedger(t)
}
