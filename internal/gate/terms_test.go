package gate

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/mcp"
)

// sentAgain returns a tools/call message with an idempotency key.
func sentAgain(id int, tool, key, arguments string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":%q,"arguments":%s,"_meta":{"dev.farebox/idempotency-key":%q}}}`,
		id, tool, arguments, key)
}

// settled admits the message, settles the call with this outcome and response, and
// closes it.
func (b *bench) settled(t *testing.T, secret, message string, outcome mcp.Outcome, answer []byte) (*Call, []mcp.Field) {
	t.Helper()
	call, refusal := b.call(t, secret, message)
	if refusal != nil {
		t.Fatal(refusal)
	}
	fields, refusal := call.Settle(context.Background(), outcome, answer)
	if refusal != nil {
		t.Fatal(refusal)
	}
	call.Close(context.Background())
	return call, fields
}

// refusedWith requires that the message is refused with the code and reserves
// nothing.
func (b *bench) refusedWith(t *testing.T, secret, message string, code Code) *Refusal {
	t.Helper()
	held := b.balance(t, false).Reserved
	_, refusal := b.call(t, secret, message)
	if refusal == nil || refusal.Code != code {
		t.Fatalf("got %v, want %s", refusal, code)
	}
	if now := b.balance(t, false).Reserved; now != held {
		t.Errorf("%s is reserved for a refused call", now-held)
	}
	return refusal
}

// TestCapsBind checks that key caps, account caps and server caps all limit each
// call. The refusal names the cap's owner and figures.
func TestCapsBind(t *testing.T) {
	for _, holder := range []ledger.Holder{ledger.HolderKey, ledger.HolderAccount, ledger.HolderServer} {
		for _, period := range []ledger.Period{ledger.PerCall, ledger.PerDay, ledger.PerMonth} {
			t.Run(string(holder)+" "+string(period), func(t *testing.T) {
				b := newBench(t)
				caps := map[ledger.Period]ledger.Caps{
					ledger.PerCall: {Call: 9_999}, ledger.PerDay: {Day: 10_999}, ledger.PerMonth: {Month: 10_999},
				}[period]
				secret := b.key(t, func(k *keys.Key) {
					if holder == ledger.HolderKey {
						k.Limits = &keys.Limits{Call: int64(caps.Call), Day: int64(caps.Day), Month: int64(caps.Month)}
					}
				})
				switch holder {
				case ledger.HolderServer:
					b.policy.Caps = caps
				case ledger.HolderAccount:
					set := func(a *ledger.Account) error { a.Caps = caps; return nil }
					if _, err := b.store.UpdateAccount(context.Background(), b.payer.ID, set, ledger.Audit{At: now, Actor: "test", Action: "test"}); err != nil {
						t.Fatal(err)
					}
				}
				b.settled(t, secret, toolCall("success"), mcp.OutcomeResult, nil) // 0.001 is within every cap
				var spent ledger.Amount
				if period != ledger.PerCall {
					spent = 1_000
				}
				refusal := b.refusedWith(t, secret, toolCall("cheap"), SpendingCap)
				if period != ledger.PerCall { // the refused call spent nothing, so 0.001 still fits
					b.settled(t, secret, toolCall("success"), mcp.OutcomeResult, nil)
				}
				c := refusal.Cap
				if c == nil || c.Holder != holder || c.Period != period || c.Spent != spent || c.Amount != 9_999+spent {
					t.Fatalf("cap %+v", c)
				}
				if refusal.Price != 10_000 || refusal.Tool != "cheap" || refusal.Currency != "USD" || c.Resets.IsZero() != (period == ledger.PerCall) {
					t.Errorf("refusal %+v", refusal)
				}
			})
		}
	}
}

// TestReplay checks that a call repeated with its idempotency key gets the stored
// response, with the new request's id and the first receipt. The repeated call
// reserves and charges nothing.
func TestReplay(t *testing.T) {
	b := newBench(t)
	secret := b.key(t, nil)
	first, fields := b.settled(t, secret, sentAgain(1, "cheap", "k", `{"a":1,"b":"x"}`), mcp.OutcomeResult,
		[]byte(`{"jsonrpc":"2.0","id":1,"result":{"content":[],"_meta":{"own":true}}}`))
	if !first.Keeps() || len(fields) != 2 {
		t.Fatalf("keeps %v, fields %s", first.Keeps(), fields)
	}
	again, refusal := b.call(t, secret, sentAgain(7, "cheap", "k", `{ "b":"\u0078", "a":1 }`))
	if refusal != nil {
		t.Fatal(refusal)
	}
	response, replayed, err := again.Replay(mcp.IntID(7))
	if err != nil || !replayed {
		t.Fatal(replayed, err)
	}
	var message struct {
		ID     int
		Result struct {
			Meta struct {
				Own      bool
				Charge   chargeField `json:"dev.farebox/charge"`
				Receipt  string      `json:"dev.farebox/receipt"`
				Replayed bool        `json:"dev.farebox/replayed"`
			} `json:"_meta"`
		}
	}
	if err := json.Unmarshal(response, &message); err != nil {
		t.Fatal(err)
	}
	meta := message.Result.Meta
	if message.ID != 7 || !meta.Own || !meta.Replayed || meta.Charge.ID != first.ID() || again.ID() != first.ID() || meta.Charge.Balance != 40_000 {
		t.Errorf("response %s", response)
	}
	if want := string(fields[1].Value); `"`+meta.Receipt+`"` != want {
		t.Errorf("receipt %q, want the first one, %s", meta.Receipt, want)
	}
	again.Release(context.Background()) // must not refund the charge, which belongs to the first call
	again.Close(context.Background())
	if got := b.balance(t, false); got != (ledger.Balance{Posted: 40_000}) || !again.Captured() {
		t.Errorf("balance %+v", got)
	}
	if fmt.Sprint(b.meter.results) != "[captured replayed]" {
		t.Errorf("counted %v", b.meter.results)
	}
}

func decoded(t *testing.T, message string) *mcp.Message {
	t.Helper()
	m, err := mcp.Decode([]byte(message))
	if err != nil {
		t.Fatal(err)
	}
	return &m
}

// TestReplayRefused checks that each reason for not answering a repeated call has a
// code of its own. The call neither runs nor reserves anything.
func TestReplayRefused(t *testing.T) {
	b := newBench(t)
	secret := b.key(t, nil)
	message := sentAgain(1, "success", "k", `{"n":1}`)
	first, refusal := b.call(t, secret, message)
	if refusal != nil {
		t.Fatal(refusal)
	}
	if r := b.refusedWith(t, secret, message, CallInFlight); r.RetryAfter <= 0 {
		t.Errorf("no time to try again: %+v", r)
	}
	b.refusedWith(t, secret, sentAgain(1, "success", "k", `{"n":2}`), IdempotencyKeyReused)
	if _, refusal := first.Settle(context.Background(), mcp.OutcomeResult, nil); refusal != nil { // nil stands for a response that is too long to hold
		t.Fatal(refusal)
	}
	b.refusedWith(t, secret, message, ResultGone)
	for _, other := range []string{sentAgain(1, "success", "k", `{"n":1.0}`), sentAgain(1, "cheap", "k", `{"n":1}`)} {
		b.refusedWith(t, secret, other, IdempotencyKeyReused)
	}
	b.settled(t, secret, sentAgain(1, "success", "other", `{"n":1}`), mcp.OutcomeResult, nil)
	b.settled(t, b.key(t, nil), message, mcp.OutcomeResult, nil) // a key of another lineage may use the same idempotency key
	b.policy.Server = "mail"
	b.settled(t, secret, message, mcp.OutcomeResult, nil) // at another server, the same idempotency key may be used
}

// TestNoChargeFreesTheKey checks two cases in which a call frees its idempotency
// key. In the first, the call was not charged. In the second, the response was too
// long to store, so the charge was refunded.
func TestNoChargeFreesTheKey(t *testing.T) {
	b := newBench(t)
	secret := b.key(t, nil)
	message := sentAgain(1, "success", "k", `{}`)
	for _, outcome := range []mcp.Outcome{mcp.OutcomeToolError, mcp.OutcomeError, mcp.OutcomeInputRequired, mcp.OutcomeUnknown} {
		b.settled(t, secret, message, outcome, []byte(`{}`))
	}
	long, _ := b.settled(t, secret, message, mcp.OutcomeResult, nil)
	long.Release(context.Background())
	if long.Captured() {
		t.Error("it is still charged")
	}
	if call, refusal := b.call(t, secret, message); refusal != nil {
		t.Error(refusal)
	} else {
		call.Close(context.Background())
	}
	if got := b.balance(t, false); got != (ledger.Balance{Posted: 50_000}) {
		t.Errorf("balance %+v", got)
	}
}

// TestFreeQuota checks that a call under a free quota is captured at no charge, with a
// receipt that is marked as free. Releasing such a call refunds no money. A call that
// is not captured leaves the quota as it is. The next day has a new quota.
func TestFreeQuota(t *testing.T) {
	b := newBench(t)
	b.policy.FreeCalls = 2
	secret := b.key(t, nil)
	b.settled(t, secret, toolCall("dear"), mcp.OutcomeToolError, nil) // not captured, so it does not use up the quota
	for i := range 4 {
		tool, price := "dear", ledger.Amount(0) // the balance cannot pay this price, but the call is free under the quota
		switch i {
		case 2:
			tool, price = "cheap", 10_000
		case 3:
			b.later.Add(int64(24 * time.Hour))
		}
		before := b.balance(t, false).Posted
		call, fields := b.settled(t, secret, toolCall(tool), mcp.OutcomeResult, nil)
		if got := before - b.balance(t, false).Posted; got != price {
			t.Errorf("call %d took %s, want %s", i, got, price)
		}
		var charge chargeField
		var jws string
		if err := json.Unmarshal(fields[0].Value, &charge); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(fields[1].Value, &jws); err != nil {
			t.Fatal(err)
		}
		receipt, err := ledger.VerifyReceipt(jws, b.deps.Signer.Public())
		free := i != 2
		if err != nil || receipt.Amount != price || receipt.Free != free || charge.Amount != price || charge.Free != free {
			t.Errorf("call %d: receipt %+v, field %+v, %v", i, receipt, charge, err)
		}
		if free {
			call.Release(context.Background()) // ends the call as if its response had been cut off
			if call.Captured() {
				t.Errorf("call %d is still charged", i)
			}
		}
	}
	if want := "[released waived refunded waived refunded captured waived refunded]"; fmt.Sprint(b.meter.results) != want {
		t.Errorf("counted %v, want %s", b.meter.results, want)
	}
}

// TestFeeIsInTheOrder checks that an order includes the operator's share, rounded
// down. If the share is zero, the order names no recipient for it.
func TestFeeIsInTheOrder(t *testing.T) {
	b := newBench(t)
	key := &keys.Key{ID: "key_1", Lineage: "key_0", Account: "acct_1", Environment: keys.Test}
	share, err := ledger.ParseShare("2.5%")
	if err != nil {
		t.Fatal(err)
	}
	b.policy.Fee, b.policy.FeeTo = share, "acct_operator"
	for price, fee := range map[ledger.Amount]ledger.Amount{10_000: 250, 39: 0, 40: 1, 79: 1, 80: 2, 1: 0} {
		o := b.order(callerFor(key), "tool", price)
		want := ledger.Order{Account: "acct_1", Provider: b.earner.ID, Key: "key_1", Lineage: "key_0", Server: "weather", Tool: "tool", Amount: price, Fee: fee, Test: true}
		if fee > 0 {
			want.FeeTo = "acct_operator"
		}
		if o != want || o.Check() != nil {
			t.Errorf("order %+v (%v), want %+v", o, o.Check(), want)
		}
	}
	b.policy.Fee, b.policy.FeeTo = 0, ""
	if o := b.order(callerFor(key), "tool", 10_000); o.Fee != 0 || o.FeeTo != "" {
		t.Errorf("order %+v without a fee", o)
	}
}

// TestTerms checks the terms of a call. They combine the limits of the caller's key,
// the limits of the server and the idempotency key of the call.
func TestTerms(t *testing.T) {
	b := newBench(t)
	b.policy.Caps, b.policy.FreeCalls = ledger.Caps{Day: 5}, 9
	m := decoded(t, sentAgain(1, "cheap", "again", `{}`))
	got := b.terms(callerFor(&keys.Key{Limits: &keys.Limits{Call: 1, Day: 2, Month: 3}}), m)
	want := ledger.Terms{
		Key: ledger.Caps{Call: 1, Day: 2, Month: 3}, Server: ledger.Caps{Day: 5}, FreeCalls: 9,
		Idempotency: ledger.Idempotency{Key: "again", Fingerprint: mcp.Fingerprint(m)},
	}
	if got != want {
		t.Errorf("terms %+v, want %+v", got, want)
	}
	if got := b.terms(callerFor(&keys.Key{}), decoded(t, toolCall("cheap"))); got != (ledger.Terms{Server: ledger.Caps{Day: 5}, FreeCalls: 9}) {
		t.Errorf("terms %+v of a key without limits", got)
	}
}

// TestReplayOfUnreadableResponse checks that Replay returns an error if the stored
// response cannot be given the new id.
func TestReplayOfUnreadableResponse(t *testing.T) {
	b := newBench(t)
	secret := b.key(t, nil)
	message := sentAgain(1, "success", "k", `{}`)
	b.settled(t, secret, message, mcp.OutcomeResult, []byte(strings.Repeat(" ", 10)))
	call, refusal := b.call(t, secret, message)
	if refusal != nil {
		t.Fatal(refusal)
	}
	if response, replayed, err := call.Replay(mcp.ID{}); !replayed || err == nil {
		t.Errorf("got %q, %v, %v", response, replayed, err)
	}
	if none, repeated, err := new(Call).Replay(mcp.ID{}); none != nil || repeated || err != nil {
		t.Errorf("a free call has a stored response: %q, %v, %v", none, repeated, err)
	}
	if wait := inFlightWait; wait <= 0 || wait > 10*time.Second {
		t.Errorf("the wait is %v", wait)
	}
}
