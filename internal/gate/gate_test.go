package gate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/mcp"
	"github.com/fareboxhq/farebox/internal/pricing"
	"github.com/fareboxhq/farebox/internal/sqlitestore"
)

// direct is a Keys that looks keys up in the store, without a cache.
type direct struct{ *sqlitestore.Store }

func (d direct) Lookup(ctx context.Context, _ netip.Addr, digest keys.Digest) (*keys.Key, error) {
	return d.KeyByDigest(ctx, digest)
}

// counts is a Metrics that records the results and amounts of ended calls.
type counts struct {
	results []Result
	ended   []Ended
}

func (*counts) Reserved(time.Duration) {}
func (*counts) Captured(time.Duration) {}

func (*counts) Signed() {}

func (c *counts) Unjudged(string) { c.results = append(c.results, "unjudged") }
func (c *counts) Charge(e Ended) {
	c.results, c.ended = append(c.results, e.Result), append(c.ended, e)
}

// leavers is an Abandonments that records the lineages passed to Note and Forgive. Wait
// returns l.wait.
type leavers struct {
	forgiven []string
	noted    []string
	wait     time.Duration
}

func (l *leavers) Note(lineage string)       { l.noted = append(l.noted, lineage) }
func (l *leavers) Forgive(lineage string)    { l.forgiven = append(l.forgiven, lineage) }
func (l *leavers) Wait(string) time.Duration { return l.wait }

// bench is a gate on a real store. Its payer has a live balance of 0.05 and a test
// balance of 0.02.
type bench struct {
	*Gate
	store  *sqlitestore.Store
	meter  *counts
	left   *leavers
	owed   []Debt
	later  atomic.Int64 // nanoseconds added to the clocks of the gate and its store
	ids    int
	payer  ledger.Account
	earner ledger.Account
}

// now is the time at which the clock of a gate and its store starts in these tests.
var now = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

// ticking returns a clock that advances by a microsecond per reading, so that each
// step of a call is later than the step before.
func ticking() func() time.Time {
	var reads atomic.Int64
	return func() time.Time { return now.Add(time.Duration(reads.Add(1)) * time.Microsecond) }
}

func newBench(t *testing.T) *bench {
	t.Helper()
	return skewedBench(t, 0)
}

// skewedBench returns a bench with a store clock that is ahead of the gate's clock.
func skewedBench(t *testing.T, ahead time.Duration) *bench {
	t.Helper()
	b := &bench{meter: new(counts), left: new(leavers)}
	ctx, steps := context.Background(), ticking()
	tick := func() time.Time { return steps().Add(time.Duration(b.later.Load())) }
	store, err := sqlitestore.Open(ctx, sqlitestore.Options{
		Path: filepath.Join(t.TempDir(), "f.db"), Now: func() time.Time { return tick().Add(ahead) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	b.store = store
	audit := ledger.Audit{At: now, Actor: "test", Action: "test"}
	for i, a := range []*ledger.Account{&b.payer, &b.earner} {
		*a = ledger.Account{ID: b.newID("acct_"), Name: fmt.Sprintf("a%d", i), CreatedAt: now}
		if err := store.CreateAccount(ctx, *a, audit); err != nil {
			t.Fatal(err)
		}
	}
	for amount, test := range map[ledger.Amount]bool{50_000: false, 20_000: true} {
		_, _, err := store.PostTransaction(ctx, ledger.Transaction{
			ID: b.newID("txn_"), Kind: ledger.KindCredit, Creditor: b.payer.ID, Amount: amount, Test: test, At: now, Reason: "test",
		}, audit)
		if err != nil {
			t.Fatal(err)
		}
	}
	book, err := pricing.Compile([]pricing.Rule{
		{Pattern: "cheap", Amount: 10_000}, {Pattern: "success", Amount: 1_000}, {Pattern: "dear", Amount: 1_000_000}, {Pattern: "free"},
		{Pattern: "by_length", CEL: "size(args.text) * 2", Max: 20_000},
		{Pattern: "tool_error", Amount: 1_000, ChargeOn: pricing.Success | pricing.ToolError},
		{Pattern: "errors_alone", Amount: 1_000, ChargeOn: pricing.ToolError},
		{Pattern: "abandoned", Amount: 1_000, ChargeOn: pricing.Success | pricing.Abandoned},
		{Pattern: "started", Amount: 1_000, ChargeOn: pricing.Started},
		{Pattern: "judged", Amount: 1_000, ChargeIf: "result.structuredContent.ok"},
	}, pricing.Default{})
	if err != nil {
		t.Fatal(err)
	}
	b.Gate = New(Policy{
		Server: "weather", Provider: b.earner.ID, Environments: []keys.Environment{keys.Live, keys.Test},
		Secrets: &keys.DefaultFormat, Prices: book, Currency: "USD", Receipts: true, MaxCall: time.Hour,
	}, Deps{
		Keys: direct{store}, Ledger: store, Bindings: store, Debts: b, Abandonments: b.left, Signer: ledger.NewSigner([32]byte{1}), Metrics: b.meter,
		Logger: slog.New(slog.DiscardHandler), Now: tick, NewID: b.newID,
	})
	return b
}

// Owe records a debt.
func (b *bench) Owe(d Debt) { b.owed = append(b.owed, d) }

func (b *bench) newID(prefix string) string {
	b.ids++
	return fmt.Sprintf("%s01234567-89ab-7def-8123-%012x", prefix, b.ids)
}

// key makes a key in the store and returns its secret.
func (b *bench) key(t *testing.T, change func(*keys.Key)) string {
	t.Helper()
	k := keys.Key{ID: b.newID("key_"), Account: b.payer.ID, Kind: keys.Agent, Environment: keys.Live, CreatedAt: now}
	k.Lineage = k.ID
	if change != nil {
		change(&k)
	}
	secret := keys.Mint(k.Kind, k.Environment)
	k.Digest, k.Hint = keys.DigestOf(secret), keys.Hint(secret)
	if err := b.store.CreateKey(context.Background(), k, ledger.Audit{At: now, Actor: "test", Action: "test"}); err != nil {
		t.Fatal(err)
	}
	return secret
}

func (b *bench) balance(t *testing.T, test bool) ledger.Balance {
	t.Helper()
	a, err := b.store.Account(context.Background(), b.payer.ID)
	if err != nil {
		t.Fatal(err)
	}
	return a.Balance(test)
}

// call authenticates with the secret and admits the message.
func (b *bench) call(t *testing.T, secret, message string) (*Call, *Refusal) {
	t.Helper()
	caller, refusal := b.Authenticate(context.Background(), netip.Addr{}, []string{"Bearer " + secret})
	if refusal != nil {
		return nil, refusal
	}
	m, err := mcp.Decode([]byte(message))
	if err != nil {
		t.Fatal(err)
	}
	return b.Admit(context.Background(), &caller, mcp.EraSession, &m)
}

func toolCall(tool string) string {
	return `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"` + tool + `"}}`
}

// TestAuthenticate checks that only a single bearer token in a single header is
// accepted, and that each refusal carries its own cause.
func TestAuthenticate(t *testing.T) {
	b := newBench(t)
	good := b.key(t, nil)
	for name, c := range map[string]struct {
		header []string
		code   Code
		cause  error
	}{
		"good":              {[]string{"Bearer " + good}, "", nil},
		"scheme in capital": {[]string{"BEARER " + good}, "", nil},
		"two spaces":        {[]string{"Bearer  " + good}, "", nil},
		"many spaces":       {[]string{"bearer" + strings.Repeat(" ", 100) + good}, "", nil},
		"a tab":             {[]string{"Bearer\t" + good}, TokenMissing, nil},
		"a space and a tab": {[]string{"Bearer \t" + good}, TokenInvalid, keys.ErrMalformed},
		"spaces alone":      {[]string{"Bearer    "}, TokenMissing, nil},
		"none":              {nil, TokenMissing, nil},
		"empty":             {[]string{""}, TokenMissing, nil},
		"no token":          {[]string{"Bearer "}, TokenMissing, nil},
		"basic":             {[]string{"Basic " + good}, TokenMissing, nil},
		"bare":              {[]string{good}, TokenMissing, nil},
		"two headers":       {[]string{"Bearer " + good, "Bearer " + good}, TokenInvalid, keys.ErrMalformed},
		"two in one":        {[]string{"Bearer " + good + ", Bearer " + good}, TokenInvalid, keys.ErrMalformed},
		"too long":          {[]string{"Bearer " + strings.Repeat("x", 506)}, TokenInvalid, keys.ErrMalformed},
		"trailing space":    {[]string{"Bearer " + good + " "}, TokenInvalid, keys.ErrMalformed},
		"wrong checksum":    {[]string{"Bearer " + good[:71] + "x"}, TokenInvalid, keys.ErrMalformed},
		"unknown":           {[]string{"Bearer " + keys.Mint(keys.Agent, keys.Live)}, TokenInvalid, keys.ErrUnknown},
		"provider key": {[]string{"Bearer " + b.key(t, func(k *keys.Key) { k.Kind = keys.Provider })},
			TokenInvalid, keys.ErrKind},
		"personal without connect": {[]string{"Bearer " + b.key(t, func(k *keys.Key) { k.Kind = keys.Personal })}, "", nil},
		"gateway key":              {[]string{"Bearer " + b.key(t, func(k *keys.Key) { k.Kind = keys.Gateway })}, TokenInvalid, keys.ErrKind},
		"admin key":                {[]string{"Bearer " + b.key(t, func(k *keys.Key) { k.Kind = keys.Admin })}, TokenInvalid, keys.ErrKind},
		"personal with connect": {[]string{"Bearer " + b.key(t, func(k *keys.Key) {
			k.Kind, k.Scopes = keys.Personal, []string{keys.ScopeConnect}
		})}, "", nil},
		"deleted":      {[]string{"Bearer " + b.key(t, func(k *keys.Key) { k.DeletedAt = now })}, TokenInvalid, keys.ErrDeleted},
		"disabled":     {[]string{"Bearer " + b.key(t, func(k *keys.Key) { k.DisabledAt = now })}, TokenInvalid, keys.ErrDisabled},
		"expired":      {[]string{"Bearer " + b.key(t, func(k *keys.Key) { k.ExpiresAt = now })}, TokenExpired, keys.ErrExpired},
		"not yet":      {[]string{"Bearer " + b.key(t, func(k *keys.Key) { k.ExpiresAt = now.Add(time.Hour) })}, "", nil},
		"other server": {[]string{"Bearer " + b.key(t, func(k *keys.Key) { k.Servers = []string{"mail"} })}, TokenInvalid, keys.ErrServer},
	} {
		t.Run(name, func(t *testing.T) {
			caller, refusal := b.Authenticate(context.Background(), netip.Addr{}, c.header)
			if c.code == "" {
				if refusal != nil || !caller.Known() {
					t.Fatalf("refused: %v", refusal)
				}
				return
			}
			if refusal == nil || refusal.Code != c.code || !errors.Is(refusal, c.cause) && c.cause != nil {
				t.Fatalf("got %v, want %s by %v", refusal, c.code, c.cause)
			}
			if strings.Contains(refusal.Error(), good) {
				t.Error("the refusal quotes the token")
			}
		})
	}
}

// TestStoreDownDenies checks that a failing store refuses the caller at the lookup
// and the call at the reservation.
func TestStoreDownDenies(t *testing.T) {
	b := newBench(t)
	good := b.key(t, nil)
	caller, _ := b.Authenticate(context.Background(), netip.Addr{}, []string{"Bearer " + good})
	if err := b.store.Close(); err != nil {
		t.Fatal(err)
	}
	if _, refusal := b.Authenticate(context.Background(), netip.Addr{}, []string{"Bearer " + good}); refusal == nil || refusal.Code != StoreUnavailable {
		t.Errorf("lookup: %v", refusal)
	}
	m, _ := mcp.Decode([]byte(toolCall("cheap")))
	if call, refusal := b.Admit(context.Background(), &caller, mcp.EraSession, &m); refusal == nil || refusal.Code != StoreUnavailable {
		t.Errorf("reservation: %v, %v", call, refusal)
	}
}

// TestAdmit checks that each message is free, paid, or refused with its reason. A
// refused message reserves nothing.
func TestAdmit(t *testing.T) {
	b := newBench(t)
	secret := b.key(t, nil)
	for name, c := range map[string]struct {
		message string
		code    Code
		paid    bool
	}{
		"free tool":            {toolCall("free"), "", false},
		"paid tool":            {toolCall("cheap"), "", true},
		"too dear":             {toolCall("dear"), InsufficientBalance, false},
		"unpriced":             {toolCall("other"), ToolUnknown, false},
		"list":                 {`{"jsonrpc":"2.0","id":1,"method":"tools/list"}`, "", false},
		"unknown method":       {`{"jsonrpc":"2.0","id":1,"method":"tools/steal"}`, MethodUnknown, false},
		"tasks":                {`{"jsonrpc":"2.0","id":1,"method":"tasks/result","params":{"taskId":"1"}}`, MethodUnknown, false},
		"notification":         {`{"jsonrpc":"2.0","method":"notifications/initialized"}`, "", false},
		"unknown notification": {`{"jsonrpc":"2.0","method":"tools/run"}`, MethodUnknown, false},
		"client's answer":      {`{"jsonrpc":"2.0","id":1,"result":{}}`, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			call, refusal := b.call(t, secret, c.message)
			if c.code != "" {
				if refusal == nil || refusal.Code != c.code {
					t.Fatalf("got %v, want %s", refusal, c.code)
				}
			} else {
				if refusal != nil {
					t.Fatal(refusal)
				}
				if call.Paid() != c.paid {
					t.Errorf("paid is %v", call.Paid())
				}
				call.Close(context.Background())
			}
			if held := b.balance(t, false).Reserved; held != 0 {
				t.Errorf("%s is still reserved", held)
			}
		})
	}
}

// TestStatelessEraHasNoClientResponses checks that a client's response is refused in
// the stateless era (MCP 2026-07-28).
func TestStatelessEraHasNoClientResponses(t *testing.T) {
	b := newBench(t)
	m, err := mcp.Decode([]byte(`{"jsonrpc":"2.0","id":1,"result":{}}`))
	if err != nil {
		t.Fatal(err)
	}
	if _, refusal := b.Admit(context.Background(), callerFor(&keys.Key{}), mcp.EraStateless, &m); refusal == nil || refusal.Code != MessageInvalid {
		t.Errorf("got %v", refusal)
	}
}

// TestStatelessEraIgnoresTaskParameter checks that params.task has no meaning in the
// stateless era (MCP 2026-07-28) and does not prevent a call.
func TestStatelessEraIgnoresTaskParameter(t *testing.T) {
	b := newBench(t)
	m, err := mcp.Decode([]byte(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"cheap","task":{}}}`))
	if err != nil {
		t.Fatal(err)
	}
	caller, refusal := b.Authenticate(context.Background(), netip.Addr{}, []string{"Bearer " + b.key(t, nil)})
	if refusal != nil {
		t.Fatal(refusal)
	}
	call, refusal := b.Admit(context.Background(), &caller, mcp.EraStateless, &m)
	if refusal != nil || !call.Paid() {
		t.Fatalf("got %+v, %v", call, refusal)
	}
	call.Close(context.Background())
}

// TestSettleResult checks that a result is captured once, with a receipt.
func TestSettleResult(t *testing.T) {
	b := newBench(t)
	call, refusal := b.call(t, b.key(t, nil), toolCall("cheap"))
	if refusal != nil {
		t.Fatal(refusal)
	}
	if held := b.balance(t, false).Reserved; held != 10_000 {
		t.Errorf("%s reserved", held)
	}
	fields, refusal := call.Settle(context.Background(), mcp.OutcomeResult, nil)
	if refusal != nil {
		t.Fatal(refusal)
	}
	call.Close(context.Background())
	if got := b.balance(t, false); got != (ledger.Balance{Posted: 40_000}) {
		t.Errorf("balance %+v", got)
	}
	var charge chargeField
	var jws string
	if err := errors.Join(json.Unmarshal(fields[0].Value, &charge), json.Unmarshal(fields[1].Value, &jws)); err != nil {
		t.Fatal(err)
	}
	if charge.ID != call.ID() || charge.Amount != 10_000 || charge.Balance != 40_000 || charge.Environment != "live" {
		t.Errorf("charge field %+v", charge)
	}
	receipt, err := ledger.VerifyReceipt(jws, b.deps.Signer.Public())
	if err != nil || receipt.Charge != call.ID() || receipt.Payer != b.payer.ID || receipt.Tool != "cheap" || receipt.Server != "weather" {
		t.Errorf("receipt %+v, %v", receipt, err)
	}
	if fmt.Sprint(b.meter.results) != "[captured]" {
		t.Errorf("counted %v", b.meter.results)
	}
}

// TestSettleOtherOutcomes checks that every outcome except a result gives the whole
// reservation back.
func TestSettleOtherOutcomes(t *testing.T) {
	b := newBench(t)
	secret := b.key(t, nil)
	for _, outcome := range []mcp.Outcome{mcp.OutcomeToolError, mcp.OutcomeError, mcp.OutcomeInputRequired, mcp.OutcomeTask, mcp.OutcomeUnknown} {
		call, refusal := b.call(t, secret, toolCall("cheap"))
		if refusal != nil {
			t.Fatal(refusal)
		}
		fields, refusal := call.Settle(context.Background(), outcome, nil)
		if refusal != nil || fields != nil {
			t.Errorf("%v: %v, %v", outcome, fields, refusal)
		}
		call.Close(context.Background())
		if got := b.balance(t, false); got != (ledger.Balance{Posted: 50_000}) {
			t.Errorf("%v: balance %+v", outcome, got)
		}
		if _, refusal := call.Settle(context.Background(), mcp.OutcomeResult, nil); refusal == nil || refusal.Code != ChargeFailed {
			t.Errorf("%v: a released call was captured: %v", outcome, refusal)
		}
	}
}

// TestReleaseAfterCaptureRefunds checks that releasing a captured call refunds it once.
func TestReleaseAfterCaptureRefunds(t *testing.T) {
	b := newBench(t)
	call, refusal := b.call(t, b.key(t, nil), toolCall("cheap"))
	if refusal != nil {
		t.Fatal(refusal)
	}
	if _, refusal := call.Settle(context.Background(), mcp.OutcomeResult, nil); refusal != nil {
		t.Fatal(refusal)
	}
	for range 2 {
		call.Release(context.Background())
	}
	call.Close(context.Background())
	if got := b.balance(t, false); got != (ledger.Balance{Posted: 50_000}) {
		t.Errorf("balance %+v", got)
	}
	charges, _, err := b.store.Charges(context.Background(), ledger.ChargeFilter{Account: b.payer.ID})
	if err != nil || len(charges) != 1 || charges[0].Refunded != 10_000 {
		t.Errorf("charges %+v, %v", charges, err)
	}
	if fmt.Sprint(b.meter.results) != "[captured refunded]" {
		t.Errorf("counted %v", b.meter.results)
	}
}

// TestCaptureFails checks that a failed capture leaves nothing reserved and
// withholds the response.
func TestCaptureFails(t *testing.T) {
	b := newBench(t)
	call, refusal := b.call(t, b.key(t, nil), toolCall("cheap"))
	if refusal != nil {
		t.Fatal(refusal)
	}
	if err := b.store.Release(context.Background(), call.ID()); err != nil { // the reservation is gone, as if it had expired
		t.Fatal(err)
	}
	if _, refusal := call.Settle(context.Background(), mcp.OutcomeResult, nil); refusal == nil || refusal.Code != ChargeFailed {
		t.Errorf("got %v", refusal)
	}
	if fmt.Sprint(b.meter.results) != "[failed]" || call.Captured() {
		t.Errorf("counted %v", b.meter.results)
	}
}

// lateLedger is a Ledger that captures and then reports that the outcome is
// unknown.
type lateLedger struct{ Ledger }

func (l lateLedger) Capture(ctx context.Context, id string, answer []byte) (ledger.Charge, ledger.Balance, error) {
	if _, _, err := l.Ledger.Capture(ctx, id, answer); err != nil {
		return ledger.Charge{}, ledger.Balance{}, err
	}
	return ledger.Charge{}, ledger.Balance{}, ledger.ErrUnavailable
}

// TestCaptureInDoubtIsRefunded checks a capture with an unknown outcome, for which the
// response was withheld. If it turns out that the capture took effect, the charge is
// refunded.
func TestCaptureInDoubtIsRefunded(t *testing.T) {
	b := newBench(t)
	b.deps.Ledger = lateLedger{b.store}
	call, refusal := b.call(t, b.key(t, nil), toolCall("cheap"))
	if refusal != nil {
		t.Fatal(refusal)
	}
	if _, refusal := call.Settle(context.Background(), mcp.OutcomeResult, nil); refusal == nil || refusal.Code != ChargeFailed {
		t.Errorf("got %v", refusal)
	}
	call.Close(context.Background())
	if got := b.balance(t, false); got != (ledger.Balance{Posted: 50_000}) || call.Captured() {
		t.Errorf("balance %+v", got)
	}
	if fmt.Sprint(b.meter.results) != "[refunded]" { // the call must be counted once, as refunded
		t.Errorf("counted %v", b.meter.results)
	}
}

// TestTestKeysSpendTestCredit checks that a test key spends the test balance only.
func TestTestKeysSpendTestCredit(t *testing.T) {
	b := newBench(t)
	secret := b.key(t, func(k *keys.Key) { k.Environment = keys.Test })
	for i := range 3 {
		call, refusal := b.call(t, secret, toolCall("cheap"))
		if i == 2 {
			if refusal == nil || refusal.Code != InsufficientBalance || !refusal.Test || refusal.Available != 0 || refusal.Price != 10_000 {
				t.Errorf("third call: %+v", refusal)
			}
			break
		}
		if refusal != nil {
			t.Fatal(refusal)
		}
		if _, refusal := call.Settle(context.Background(), mcp.OutcomeResult, nil); refusal != nil {
			t.Fatal(refusal)
		}
	}
	if live := b.balance(t, false).Posted; live != 50_000 {
		t.Errorf("live balance is %s", live)
	}
}
