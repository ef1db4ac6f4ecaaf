package integration

import (
	"strings"
	"testing"

	"github.com/fareboxhq/farebox/integration/harness"
)

// TestChargeIf checks promise 2 of docs/promises.md for results that report a failure
// only in their content. A result rejected by charge_if is passed on unchanged and
// costs nothing, and its idempotency key can be used again. A result accepted by
// charge_if is charged and stored. A result that charge_if cannot evaluate is charged
// and counted in a metric. JSON answers and event streams behave the same.
func TestChargeIf(t *testing.T) {
	t.Parallel()
	server, upstream := newCounted(t)
	g := binaries.StartGateway(t, harness.Site(upstream, "server counted", "provider acme", "unpriced 0.01",
		`price json_odd 0.02 charge_if "result.structuredContent.ok"`, `price json_always 0.04 charge_if "true"`,
		`charge_if "!result.content[0].text.startsWith('run 1 of ')"`))
	for _, tool := range []string{"json_ok", "events_ok"} {
		account := "agent-" + strings.ReplaceAll(tool, "_", "-")
		_, key := g.NewAgent(t, account, "1.00")
		soft := withKey(t, g, key.Secret, "k", harness.ToolCall(1, tool, `{}`))
		if soft.Result == nil || soft.Result.Meta.Charge != nil || soft.Text() != "run 1 of "+tool {
			t.Fatalf("a failure reported in the text: %d %s", soft.Status, soft.Body)
		}
		if a := g.Account(t, account); a.Balance != amount(t, "1.00") || a.Reserved != 0 {
			t.Errorf("balance %s, reserved %s after it", a.Balance, a.Reserved)
		}
		paid := withKey(t, g, key.Secret, "k", harness.ToolCall(2, tool, `{}`))
		if paid.Result == nil || paid.Result.Meta.Charge == nil || paid.Result.Meta.Replayed || paid.Text() != "run 2 of "+tool {
			t.Fatalf("the other try: %d %s", paid.Status, paid.Body)
		}
		again := withKey(t, g, key.Secret, "k", harness.ToolCall(3, tool, `{}`))
		if again.Result == nil || !again.Result.Meta.Replayed || again.Text() != paid.Text() || server.ran(tool) != 2 {
			t.Errorf("the kept answer: %d %s", again.Status, again.Body)
		}
		if a := g.Account(t, account); a.Balance != amount(t, "0.99") || len(g.Charges(t, account)) != 1 {
			t.Errorf("balance %s, charges %+v", a.Balance, g.Charges(t, account))
		}
	}
	_, key := g.NewAgent(t, "alice", "1.00")
	// The charge_if of json_odd names a missing member, and the charge_if of
	// json_always is always true. The answer of json_long is too long to buffer.
	for _, tool := range []string{"json_odd", "json_always", "json_long"} {
		if answer := post(t, g, key.Secret, harness.ToolCall(1, tool, `{}`)); answer.Result == nil {
			t.Errorf("%s: %d %.200s", tool, answer.Status, answer.Body)
		}
	}
	if a := g.Account(t, "alice"); a.Balance != amount(t, "0.93") {
		t.Errorf("balance %s, want 0.93", a.Balance)
	}
	metrics := g.Metrics(t)
	for _, entry := range []string{"json_odd", "other"} {
		if n := metrics[`farebox_charge_if_errors_total{server="counted",tool="`+entry+`"}`]; n != 1 {
			t.Errorf("%s has %v charge_if errors, want 1", entry, n)
		}
	}
	if log := g.Process().Output(t); !strings.Contains(log, "it names a member that is not there") || !strings.Contains(log, "too long to be held") {
		t.Error("the log does not say why")
	}
	g.VerifyLedger(t)
}

// TestChargeIfOfTask checks that the reservation is released when a task's result
// reports a failure, in protocol versions with and without sessions.
func TestChargeIfOfTask(t *testing.T) {
	t.Parallel()
	for name, stateless := range map[string]bool{"2025-11-25": false, "2026-07-28": true} {
		t.Run(name, func(t *testing.T) {
			s := startTaskServer(t)
			g := binaries.StartGateway(t, harness.Site(s.url, "server tasks", "provider acme",
				`price report 0.01 charge_if "!result.content[0].text.contains('result of report')"`, "price other 0.01", `charge_if "true"`))
			_, key := g.NewAgent(t, "alice", "1.00")
			alice := taskClient{t, g, key.Secret, stateless}
			soft := alice.accept("report")
			alice.balance("alice", "1.00", "0.01")
			s.end(soft, "completed")
			for range 2 {
				if answer := alice.result(soft); !strings.Contains(answer.Body, "the result of report") || strings.Contains(answer.Body, "dev.farebox/charge") {
					t.Errorf("a result that failed in words: %s", answer.Body)
				}
			}
			alice.balance("alice", "1.00", "0.00")
			good := alice.accept("other")
			s.end(good, "completed")
			alice.paidResult(good)
			alice.balance("alice", "0.99", "0.00")
			g.VerifyLedger(t)
		})
	}
}
