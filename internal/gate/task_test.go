package gate

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/mcp"
	"github.com/fareboxhq/farebox/internal/pricing"
)

// accepted makes the server accept a call of the tool as a task: it reserves the
// price, binds the task, and suspends the call.
func (b *bench) accepted(t *testing.T, secret, tool, id string) *Refusal {
	t.Helper()
	call, refusal := b.call(t, secret, toolCall(tool))
	if refusal != nil {
		t.Fatal(refusal)
	}
	defer call.Close(context.Background())
	refusal = b.Bind(context.Background(), b.callerOf(t, secret), call.Ticket(&mcp.Message{Method: "tools/call"}), mcp.OutcomeTask, acceptance(id))
	if refusal == nil {
		call.Suspend()
	}
	return refusal
}

func acceptance(id string) []byte {
	return fmt.Appendf(nil, `{"jsonrpc":"2.0","id":1,"result":{"task":{"taskId":%q,"status":"working"}}}`, id)
}

func (b *bench) callerOf(t *testing.T, secret string) *Caller {
	t.Helper()
	caller, refusal := b.Authenticate(context.Background(), netip.Addr{}, []string{"Bearer " + secret})
	if refusal != nil {
		t.Fatal(refusal)
	}
	return &caller
}

// ask sends a request about a task.
func (b *bench) ask(t *testing.T, secret, method, id string) (*Task, *Refusal) {
	t.Helper()
	call, refusal := b.call(t, secret, fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":%q,"params":{"taskId":%q}}`, method, id))
	if refusal != nil {
		return nil, refusal
	}
	if call.Paid() || call.Task() == nil {
		t.Fatalf("%s is no question about a task", method)
	}
	return call.Task(), nil
}

const taskDone = `{"jsonrpc":"2.0","id":1,"result":{"taskId":"t","status":"completed","result":{"content":[]}}}`

// TestTaskSettles checks that a task's result is paid for when it is first
// delivered, in whichever form, and is free afterwards. A task that ends without a
// charge gives its reservation back.
func TestTaskSettles(t *testing.T) {
	reserved, paid, unpaid := ledger.Balance{Posted: 50_000, Reserved: 10_000}, ledger.Balance{Posted: 40_000}, ledger.Balance{Posted: 50_000}
	for name, c := range map[string]struct {
		method, answer string
		outcome        mcp.Outcome
		want           ledger.Balance
	}{
		"a result":             {mcp.MethodTaskResult, "", mcp.OutcomeResult, paid},
		"an error of the tool": {mcp.MethodTaskResult, "", mcp.OutcomeToolError, unpaid},
		"an error":             {mcp.MethodTaskResult, "", mcp.OutcomeError, reserved},
		"an embedded result":   {mcp.MethodTaskGet, taskDone, mcp.OutcomeResult, paid},
		"an embedded error":    {mcp.MethodTaskGet, strings.Replace(taskDone, `"content":[]`, `"isError":true`, 1), mcp.OutcomeResult, unpaid},
		"at work":              {mcp.MethodTaskGet, `{"jsonrpc":"2.0","id":1,"result":{"taskId":"t","status":"working"}}`, mcp.OutcomeResult, reserved},
		"completed, to be asked for": {mcp.MethodTaskGet, `{"jsonrpc":"2.0","id":1,"result":{"taskId":"t","status":"completed"}}`,
			mcp.OutcomeResult, reserved},
		"failed":                  {mcp.MethodTaskGet, `{"jsonrpc":"2.0","id":1,"result":{"taskId":"t","status":"failed"}}`, mcp.OutcomeResult, unpaid},
		"cancelled":               {mcp.MethodTaskCancel, `{"jsonrpc":"2.0","id":1,"result":{"taskId":"t","status":"cancelled"}}`, mcp.OutcomeResult, unpaid},
		"acknowledged":            {mcp.MethodTaskCancel, `{"jsonrpc":"2.0","id":1,"result":{"resultType":"complete"}}`, mcp.OutcomeResult, reserved},
		"a result with a receipt": {mcp.MethodTaskCancel, taskDone, mcp.OutcomeResult, paid},
	} {
		t.Run(name, func(t *testing.T) {
			b, ctx := newBench(t), context.Background()
			secret := b.key(t, nil)
			if refusal := b.accepted(t, secret, "cheap", "t"); refusal != nil {
				t.Fatal(refusal)
			}
			for range 2 { // the second time changes nothing
				task, refusal := b.ask(t, secret, c.method, "t")
				if refusal != nil {
					t.Fatal(refusal)
				}
				if _, refusal := task.Settle(ctx, c.outcome, []byte(c.answer)); refusal != nil {
					t.Fatal(refusal)
				}
				if got := b.balance(t, false); got != c.want {
					t.Errorf("balance %+v, want %+v", got, c.want)
				}
			}
			if want := map[ledger.Balance]string{reserved: "[suspended]", paid: "[suspended captured]", unpaid: "[suspended released]"}[c.want]; fmt.Sprint(b.meter.results) != want {
				t.Errorf("counted %v, want %s", b.meter.results, want)
			}
		})
	}
}

// TestTaskReceipt checks that the receipt is in the embedded result's own _meta.
func TestTaskReceipt(t *testing.T) {
	b, ctx := newBench(t), context.Background()
	secret := b.key(t, nil)
	if refusal := b.accepted(t, secret, "cheap", "t"); refusal != nil {
		t.Fatal(refusal)
	}
	task, refusal := b.ask(t, secret, mcp.MethodTaskGet, "t")
	if refusal != nil {
		t.Fatal(refusal)
	}
	if fields, refusal := task.Settle(ctx, mcp.OutcomeResult, []byte(taskDone)); refusal != nil || fields != nil {
		t.Fatal(fields, refusal)
	}
	for _, event := range []bool{false, true} {
		answer, want := taskDone, `"result":{"_meta":{"dev.farebox/charge":{`
		if event {
			answer = "data: " + taskDone + "\n\n"
		}
		if got, err := task.AddMeta([]byte(answer), event); err != nil || strings.Count(string(got), want) != 1 || strings.Count(string(got), "dev.farebox/receipt") != 1 {
			t.Errorf("got %s, %v", got, err)
		}
	}
}

// TestTaskRelease checks that a charge is not refunded when its response is
// withheld. The client can ask for the result again without paying, and another
// request may have delivered it already.
func TestTaskRelease(t *testing.T) {
	b, ctx := newBench(t), context.Background()
	secret := b.key(t, nil)
	if refusal := b.accepted(t, secret, "cheap", "t"); refusal != nil {
		t.Fatal(refusal)
	}
	for range 3 {
		task, refusal := b.ask(t, secret, mcp.MethodTaskResult, "t")
		if refusal != nil {
			t.Fatal(refusal)
		}
		if _, refusal := task.Settle(ctx, mcp.OutcomeResult, nil); refusal != nil {
			t.Fatal(refusal)
		}
		task.Release(ctx)
		if got := b.balance(t, false); got != (ledger.Balance{Posted: 40_000}) {
			t.Fatalf("balance %+v", got)
		}
	}
	if len(b.left.noted) != 0 {
		t.Error("a task that goes on was counted as a call that was left")
	}
}

// TestHandlesOfOthers checks that handles belong to an account in one environment,
// and are unknown to all others.
func TestHandlesOfOthers(t *testing.T) {
	b, ctx := newBench(t), context.Background()
	own, again, test := b.key(t, nil), b.key(t, nil), b.key(t, func(k *keys.Key) { k.Environment = keys.Test })
	other := b.key(t, func(k *keys.Key) { k.Account = b.earner.ID })
	if _, refusal := b.ask(t, own, mcp.MethodTaskGet, "t"); refusal == nil || refusal.Code != MethodUnknown {
		t.Errorf("before any task: %v", refusal)
	}
	if refusal := b.accepted(t, own, "free", "t"); refusal != nil {
		t.Fatal(refusal)
	}
	asking := []byte(`{"jsonrpc":"2.0","id":1,"result":{"resultType":"input_required","requestState":"s"}}`)
	asked, err := mcp.Decode([]byte(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"free"}}`))
	if err != nil {
		t.Fatal(err)
	}
	if refusal := b.Bind(ctx, b.callerOf(t, own), new(Call).Ticket(&asked), mcp.OutcomeInputRequired, asking); refusal != nil {
		t.Fatal(refusal)
	}
	// A state is accepted only with the request that it was made for; otherwise it
	// could be used for a dearer call.
	for _, other := range []string{
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"cheap","requestState":"s"}}`,
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"free","arguments":{"a":1},"requestState":"s"}}`,
	} {
		if _, refusal := b.call(t, own, other); refusal == nil || refusal.Code != StateUnknown {
			t.Errorf("%s: %v", other, refusal)
		}
	}
	note := []byte(`{"jsonrpc":"2.0","method":"notifications/tasks","params":{"taskId":"t","status":"completed","result":{}}}`)
	listen := `{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{"notifications":{"taskIds":["t"]},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}`
	follow := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"free","requestState":"s"}}`
	for name, c := range map[string]struct {
		secret string
		known  bool
	}{"the key": {own, true}, "another key of the account": {again, true}, "a test key": {test, false}, "another account": {other, false}} {
		task, follows, listens := Code(""), Code(""), Code("")
		if !c.known {
			task, follows, listens = TaskUnknown, StateUnknown, TaskUnknown
		}
		codeOf := func(r *Refusal) Code {
			if r == nil {
				return ""
			}
			return r.Code
		}
		if _, refusal := b.ask(t, c.secret, mcp.MethodTaskGet, "t"); codeOf(refusal) != task {
			t.Errorf("%s: task: %v", name, refusal)
		}
		if _, refusal := b.call(t, c.secret, follow); codeOf(refusal) != follows {
			t.Errorf("%s: state: %v", name, refusal)
		}
		m, err := mcp.Decode([]byte(listen))
		if err != nil {
			t.Fatal(err)
		}
		key := b.callerOf(t, c.secret)
		if _, refusal := b.Admit(ctx, key, mcp.EraStateless, &m); codeOf(refusal) != listens {
			t.Errorf("%s: subscription: %v", name, refusal)
		}
		if got := b.Notifies(ctx, key, note); got != c.known {
			t.Errorf("%s: notified: %v", name, got)
		}
		if keep, _ := b.List(key, mcp.ListTasks).Judge("t"); keep != c.known {
			t.Errorf("%s: listed: %v", name, keep)
		}
	}
}

// TestNotificationWithPaidResult checks that no notification delivers a result that
// has a price.
func TestNotificationWithPaidResult(t *testing.T) {
	b, ctx := newBench(t), context.Background()
	secret := b.key(t, nil)
	if refusal := b.accepted(t, secret, "cheap", "t"); refusal != nil {
		t.Fatal(refusal)
	}
	key := b.callerOf(t, secret)
	for params, want := range map[string]bool{
		`{"taskId":"t","status":"working"}`:               true,
		`{"taskId":"t","status":"completed"}`:             true,
		`{"taskId":"t","status":"completed","result":{}}`: false,
		`{"taskId":"t","Result":{}}`:                      false,
		`{"taskId":"u","status":"working"}`:               false,
		`{}`:                                              false,
	} {
		if got := b.Notifies(ctx, key, []byte(`{"method":"notifications/tasks","params":`+params+`}`)); got != want {
			t.Errorf("%s: %v", params, got)
		}
	}
}

// TestResumingKeepsTheDeadlineOfATask checks that a client cannot prolong the
// reservation of a task beyond max_call by resuming the stream of its result.
func TestResumingKeepsTheDeadlineOfATask(t *testing.T) {
	b, ctx := newBench(t), context.Background()
	at := b.deps.Now()
	b.deps.Now = func() time.Time { return at }
	b.deps.Sealer = NewSealer(b.deps.Now, SealKey{Key: [SealKeySize]byte{1}})
	secret := b.key(t, nil)
	if refusal := b.accepted(t, secret, "cheap", "t"); refusal != nil {
		t.Fatal(refusal)
	}
	until := at.Add(b.policy.MaxCall)
	caller := b.callerOf(t, secret)
	task, refusal := b.ask(t, secret, mcp.MethodTaskResult, "t")
	if refusal != nil {
		t.Fatal(refusal)
	}
	for range 3 {
		if got := task.call.deadline; got.Unix() != until.Unix() {
			t.Fatalf("the reservation is renewed until %s, want %s", got, until)
		}
		sealed := b.SealEvent(caller, "s", task.Ticket(&mcp.Message{ID: mcp.IntID(7), Method: mcp.MethodTaskResult}), []byte("e"))
		task.Suspend()
		at = at.Add(b.policy.MaxCall / 4)
		_, ticket, ok := b.OpenEvent(caller, "s", string(sealed))
		if !ok {
			t.Fatal("the event id is not ours")
		}
		if task, refusal = b.ResumeTask(ctx, caller, ticket); refusal != nil {
			t.Fatal(refusal)
		}
	}
	task.Suspend()
}

// TestExpiredTask checks that a task with an expired reservation is charged if balance
// and caps allow it at that time. Otherwise the result is withheld until balance and
// caps allow the charge.
func TestExpiredTask(t *testing.T) {
	b, ctx := newBench(t), context.Background()
	secret := b.key(t, nil)
	if refusal := b.accepted(t, secret, "cheap", "t"); refusal != nil {
		t.Fatal(refusal)
	}
	books := &forgetful{Ledger: b.deps.Ledger}
	b.deps.Ledger = books
	adjust := func(amount ledger.Amount) {
		t.Helper()
		from, to := b.payer.ID, ""
		if amount < 0 {
			from, to, amount = to, from, -amount
		}
		_, _, err := b.store.PostTransaction(ctx, ledger.Transaction{ID: b.newID("txn_"), Kind: ledger.KindAdjustment, Debtor: from, Creditor: to, Amount: amount, At: now, Reason: "test"},
			ledger.Audit{At: now, Actor: "test", Action: "test"})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := b.store.Release(ctx, books.only(t, b)); err != nil {
		t.Fatal(err)
	}
	adjust(45_000)
	settle := func() (*Refusal, []mcp.Field) {
		t.Helper()
		task, refusal := b.ask(t, secret, mcp.MethodTaskResult, "t")
		if refusal != nil {
			t.Fatal(refusal)
		}
		fields, refusal := task.Settle(ctx, mcp.OutcomeResult, nil)
		return refusal, fields
	}
	for range 2 {
		refusal, _ := settle()
		if refusal == nil || refusal.Code != InsufficientBalance || refusal.Available != 5_000 || !strings.Contains(refusal.Reason, "ask for it again") {
			t.Fatalf("got %v", refusal)
		}
	}
	adjust(-45_000)
	if refusal, fields := settle(); refusal != nil || len(fields) != 2 {
		t.Errorf("got %v, %v", fields, refusal)
	}
	if got := b.balance(t, false); got != (ledger.Balance{Posted: 40_000}) {
		t.Errorf("balance %+v", got)
	}
}

// forgetful is a Ledger that has lost its reservations, as after a restart. It makes
// charges under an id other than that of the reservation.
type forgetful struct {
	Ledger
	charge string
}

// The method "only" returns the id of the single open reservation. It also sets the id
// under which Charge makes the next charge.
func (f *forgetful) only(t *testing.T, b *bench) string {
	t.Helper()
	binding, ours, refusal := b.bound(context.Background(), boundTask, owner{b.payer.ID, string(keys.Live)}, "t")
	if !ours || refusal != nil {
		t.Fatal(ours, refusal)
	}
	kept, err := readTask(binding.Payload)
	if err != nil {
		t.Fatal(err)
	}
	f.charge = b.newID("chg_")
	return kept.ticket.Charge
}

func (*forgetful) Renew(context.Context, string) error { return ledger.ErrNotFound }

func (*forgetful) Capture(context.Context, string, []byte) (ledger.Charge, ledger.Balance, error) {
	return ledger.Charge{}, ledger.Balance{}, ledger.ErrNotFound
}

func (f *forgetful) Charge(ctx context.Context, _ string, o ledger.Order, terms ledger.Terms, answer []byte) (ledger.Charge, ledger.Balance, error) {
	return f.Ledger.Charge(ctx, f.charge, o, terms, answer)
}

// TestAcceptanceWithheld checks that an acceptance that is ambiguous or cannot be
// stored is withheld.
func TestAcceptanceWithheld(t *testing.T) {
	b, ctx := newBench(t), context.Background()
	secret := b.key(t, nil)
	key := b.callerOf(t, secret)
	for answer, want := range map[string]Code{
		`{"jsonrpc":"2.0","id":1,"result":{"task":{"status":"working"}}}`:                              UpstreamFailed,
		`{"jsonrpc":"2.0","id":1,"result":{"resultType":"task","taskId":"t","TaskId":"u"}}`:            UpstreamFailed,
		`{"jsonrpc":"2.0","id":1,"result":{"resultType":"task","taskId":"t","result":{"content":[]}}}`: UpstreamFailed,
		`{"jsonrpc":"2.0","id":1,"result":{"task":{"taskId":"t"},"content":[]}}`:                       UpstreamFailed,
		``: UpstreamFailed,
	} {
		if refusal := b.Bind(ctx, key, &Ticket{Method: "tools/call"}, mcp.OutcomeTask, []byte(answer)); refusal == nil || refusal.Code != want {
			t.Errorf("%s: %v", answer, refusal)
		}
	}
	if refusal := b.accepted(t, secret, "cheap", "t"); refusal != nil {
		t.Fatal(refusal)
	}
	if refusal := b.accepted(t, secret, "cheap", "t"); refusal == nil || !errors.Is(refusal, errTaskTwice) {
		t.Errorf("the id of a task that is under way, given twice: %v", refusal)
	}
	if err := b.store.Close(); err != nil {
		t.Fatal(err)
	}
	if refusal := b.Bind(ctx, key, &Ticket{Method: "tools/call"}, mcp.OutcomeTask, acceptance("u")); refusal == nil || refusal.Code != StoreUnavailable {
		t.Errorf("a store that is closed: %v", refusal)
	}
	m := mcp.Message{Kind: mcp.KindRequest, Method: mcp.MethodTaskGet, TaskID: "t"}
	if _, refusal := b.Admit(ctx, key, mcp.EraSession, &m); refusal == nil || refusal.Code != StoreUnavailable {
		t.Errorf("a store that is closed: %v", refusal)
	}
}

// TestTaskPayload checks that a payload is decoded exactly as it was encoded, and
// that no other bytes are accepted.
func TestTaskPayload(t *testing.T) {
	for _, want := range []remembered{
		{deadline: time.Unix(1_800_000_000, 0)},
		{deadline: time.Unix(1, 0), ticket: Ticket{Charge: "chg_1", entry: "e", on: pricing.Success | pricing.ToolError,
			order:       ledger.Order{Key: "k", Lineage: "l", Tool: "t", Amount: 7, Fee: 1, FeeTo: "f", Test: true},
			idempotency: ledger.Idempotency{Key: "r", Fingerprint: [32]byte{9}}}},
	} {
		payload := want.payload()
		got, err := readTask(payload)
		if err != nil || !reflect.DeepEqual(*got, want) {
			t.Errorf("got %+v, %v; want %+v", got, err, want)
		}
		for n := range payload {
			if _, err := readTask(payload[:n]); err == nil {
				t.Errorf("%d bytes of %d were read", n, len(payload))
			}
		}
		if _, err := readTask(append(payload, 0)); err == nil {
			t.Error("more than a payload was read")
		}
	}
}

// TestResumedTask checks that a result in a resumed stream about a task is paid for as
// it would have been in the original stream. If the ticket does not include the price,
// no result is delivered.
func TestResumedTask(t *testing.T) {
	b, ctx := newBench(t), context.Background()
	b.deps.Sealer = NewSealer(b.deps.Now, SealKey{Key: [SealKeySize]byte{1}})
	secret := b.key(t, nil)
	if refusal := b.accepted(t, secret, "cheap", "t"); refusal != nil {
		t.Fatal(refusal)
	}
	key := b.callerOf(t, secret)
	resumed := func(method string) *Task {
		t.Helper()
		task, refusal := b.ask(t, secret, method, "t")
		if refusal != nil {
			t.Fatal(refusal)
		}
		defer task.Suspend()
		sealed := b.SealEvent(key, "s", task.Ticket(&mcp.Message{ID: mcp.IntID(7), Method: method}), []byte("e"))
		_, ticket, ok := b.OpenEvent(key, "s", string(sealed))
		if !ok || ticket.Request != mcp.IntID(7) || ticket.Method != method {
			t.Fatalf("ticket %+v, %v", ticket, ok)
		}
		again, refusal := b.ResumeTask(ctx, key, ticket)
		if refusal != nil {
			t.Fatal(refusal)
		}
		return again
	}
	report := resumed(mcp.MethodTaskGet)
	if _, refusal := report.Settle(ctx, mcp.OutcomeResult, []byte(taskDone)); refusal == nil || refusal.Code != UpstreamFailed {
		t.Errorf("a result without its price: %v", refusal)
	}
	if _, refusal := report.Settle(ctx, mcp.OutcomeResult, []byte(`{"jsonrpc":"2.0","id":7,"result":{"taskId":"t","status":"working"}}`)); refusal != nil {
		t.Errorf("a report: %v", refusal)
	}
	if got := b.balance(t, false); got != (ledger.Balance{Posted: 50_000, Reserved: 10_000}) {
		t.Errorf("balance %+v", got)
	}
	for range 2 {
		if fields, refusal := resumed(mcp.MethodTaskResult).Settle(ctx, mcp.OutcomeResult, nil); refusal != nil || len(fields) != 2 {
			t.Errorf("the result: %v, %v", fields, refusal)
		}
	}
	if got := b.balance(t, false); got != (ledger.Balance{Posted: 40_000}) {
		t.Errorf("balance %+v", got)
	}
}
