package storetest

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// runModel checks that random runs of the store agree with a model that is too simple
// to be wrong.
func runModel(t *testing.T, open func(t *testing.T) Harness) {
	fewer(t)
	Model(t, func() Harness { return open(t) })
}

// Model checks that random runs of stores agree with a model that consists of simple
// lists. Model calls open() for an empty store in each run, and closes the store at the
// end of the run. A failing run prints its seed, for the flag -rapid.seed, and is
// shrunk to the shortest failing run.
func Model(t rapid.TB, open func() Harness) {
	rapid.Check(t, func(r *rapid.T) {
		m := newModel(&test{TB: r, Harness: open(), ctx: context.Background()})
		defer func() {
			if err := m.Store.Close(); err != nil {
				r.Errorf("closing: %v", err)
			}
		}()
		r.Repeat(map[string]func(*rapid.T){
			"":        m.check,
			"reserve": m.reserve,
			"again":   m.again,
			"capture": m.capture,
			"charge":  m.charge,
			"release": m.release,
			"renew":   m.renew,
			"credit":  m.credit,
			"adjust":  m.adjust,
			"refund":  m.refund,
			"limit":   m.limit,
			"wait":    m.wait,
			"crash":   m.crash,
			"call":    m.call,
			"call2":   m.call,
			"call3":   m.call,
			"open":    m.captureOpen,
			"late":    m.captureLate,
		})
		m.finish()
	})
}

// fewer reduces the number of runs to a tenth under the race detector, because a run is
// then many times slower. A flag that sets the number takes precedence.
func fewer(t *testing.T) {
	const name = "rapid.checks"
	if f := flag.Lookup(name); raceDetector && f.Value.String() == f.DefValue {
		if err := flag.Set(name, "10"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := flag.Set(name, f.DefValue); err != nil {
				t.Error(err)
			}
		})
	}
}

// model is the expected state of the books.
type model struct {
	*test
	accounts        []string
	limits          map[string]ledger.Amount
	caps            map[string]ledger.Caps
	balances        map[balance]ledger.Amount
	excused         map[balance]bool // balances that may be below the account's limit, because of a refund or an operator's action
	ids             []string
	held            map[string]*heldCharge
	paid            map[string]*paidCharge
	released        map[string]time.Time // the time of each release, by id; used only if Harness.Tombstones is true
	calls           []call               // the calls that had an idempotency key
	idempotencyKeys map[idempotencyKey]*idempotencyEntry
	posts           map[string]ledger.Transaction // the posted transactions as the store returned them, by id
	asked           []ledger.Transaction          // the transactions of posts, as the model posted them
	rows            int64                         // number of transactions in the journal
	audited         int
	day             int32 // the day that the last reservation counts towards
}

type balance struct {
	account string
	test    bool
}

// heldCharge is a reservation in the store's memory.
type heldCharge struct {
	order   ledger.Order
	terms   ledger.Terms
	state   ledger.State
	expires time.Time
	day     int32
	waived  bool
}

// paidCharge is a captured charge.
type paidCharge struct {
	ledger.Charge
	day            int32
	idempotencyKey idempotencyKey
}

// call is a call with an idempotency key.
type call struct {
	order ledger.Order
	terms ledger.Terms
}

// idempotencyKey is an idempotency key with its scope.
type idempotencyKey struct{ lineage, server, key string }

// idempotencyEntry is the last call with an idempotencyKey, in flight or captured.
type idempotencyEntry struct {
	id          string
	fingerprint [32]byte
	captured    bool
	at          time.Time
	answer      []byte // the response of the call; nil if it is not stored
}

func idempotencyKeyOf(o *ledger.Order, terms *ledger.Terms) idempotencyKey {
	return idempotencyKey{o.Lineage, o.Server, terms.Idempotency.Key}
}

func newModel(t *test) *model {
	m := &model{
		test: t, limits: map[string]ledger.Amount{}, caps: map[string]ledger.Caps{},
		balances: map[balance]ledger.Amount{}, excused: map[balance]bool{},
		held: map[string]*heldCharge{}, paid: map[string]*paidCharge{}, released: map[string]time.Time{}, idempotencyKeys: map[idempotencyKey]*idempotencyEntry{},
		posts: map[string]ledger.Transaction{},
	}
	for i, limit := range []ledger.Amount{0, 5, 0} {
		id := t.account(fmt.Sprint("account-", i), 0, limit)
		m.accounts, m.limits[id] = append(m.accounts, id), limit
	}
	for i, amount := range []ledger.Amount{60, 20} {
		for _, test := range []bool{false, true} {
			t.credit(m.accounts[i], amount, test)
			m.balances[balance{m.accounts[i], test}] = amount
		}
	}
	m.rows, m.audited = 4, 7
	for range 5 {
		m.ids = append(m.ids, newID("chg_"))
	}
	return m
}

// The lists below begin with the most useful values, because rapid draws from the
// front of a list more often.

// drawOrder draws an order. All keys of a lineage have the same account and the same
// environment. So drawOrder derives the order's lineage from the payer and the
// environment.
func (m *model) drawOrder(r *rapid.T) ledger.Order {
	payer := rapid.IntRange(0, len(m.accounts)-1).Draw(r, "payer")
	o := order(m.accounts[payer], rapid.SampledFrom(m.accounts).Draw(r, "payee"),
		rapid.SampledFrom([]ledger.Amount{5, 8, 3, 12, 1}).Draw(r, "amount"))
	o.Test = rapid.IntRange(0, 4).Draw(r, "test") == 0
	o.Server = rapid.SampledFrom([]string{"weather", "weather", "maps"}).Draw(r, "server")
	key := rapid.IntRange(0, 3).Draw(r, "key")
	o.Lineage = fmt.Sprint("key_", payer, key/3, o.Test)
	o.Key = fmt.Sprint(o.Lineage, key)
	operator := rapid.SampledFrom(m.accounts).Draw(r, "operator")
	if operator != o.Provider && rapid.Bool().Draw(r, "fee") {
		o.FeeTo, o.Fee = operator, ledger.Amount(rapid.IntRange(1, int(o.Amount)).Draw(r, "share"))
	}
	return o
}

func drawCaps(r *rapid.T, name string) ledger.Caps {
	return rapid.SampledFrom([]ledger.Caps{
		{Day: 15}, {Month: 20}, {Call: 10}, {Day: 15, Month: 20}, {}, {Call: 10, Day: 25, Month: 35},
	}).Draw(r, name)
}

func (m *model) drawTerms(r *rapid.T) ledger.Terms {
	terms := ledger.Terms{FreeCalls: rapid.SampledFrom([]int64{0, 1, 0, 2}).Draw(r, "free")}
	switch rapid.IntRange(0, 3).Draw(r, "caps") {
	case 0:
		terms.Key = drawCaps(r, "cap of the key")
	case 1:
		terms.Server = drawCaps(r, "cap at the server")
	}
	terms.Idempotency.Key = rapid.SampledFrom([]string{"", "k1", "k2"}).Draw(r, "repeat")
	terms.Idempotency.Fingerprint[0] = byte(rapid.IntRange(0, 3).Draw(r, "content") / 3)
	return terms
}

func (m *model) drawID(r *rapid.T) string {
	if rapid.IntRange(0, 3).Draw(r, "fresh") == 0 {
		return m.freshID()
	}
	return rapid.SampledFrom(m.ids).Draw(r, "id")
}

func (m *model) freshID() string {
	m.ids = append(m.ids, newID("chg_"))
	return m.ids[len(m.ids)-1]
}

// orderFor returns an order and terms for the id. If the id already has an order,
// orderFor mostly returns that order, as in a retry.
func (m *model) orderFor(r *rapid.T, id string) (ledger.Order, ledger.Terms) {
	o, terms := m.drawOrder(r), m.drawTerms(r)
	if rapid.IntRange(0, 3).Draw(r, "other") == 0 {
		return o, terms
	}
	if h := m.held[id]; h != nil {
		return h.order, h.terms
	}
	if c := m.paid[id]; c != nil {
		terms.Idempotency.Key = c.idempotencyKey.key
		return c.Order, terms
	}
	return o, terms
}

var tooLong = make([]byte, ledger.MaxStoredResponse+1)

func drawAnswer(r *rapid.T) []byte {
	switch n := rapid.IntRange(0, 9).Draw(r, "answer"); n {
	case 0:
		return nil
	case 1:
		return tooLong
	default:
		return []byte(fmt.Sprint("answer ", n))
	}
}

func (m *model) expect(r *rapid.T, what string, err, want error) {
	r.Helper()
	if want == nil && err != nil || want != nil && !errors.Is(err, want) {
		r.Fatalf("%s: error is %v, want %v", what, err, want)
	}
}

func (m *model) balanceOf(p balance) ledger.Balance {
	return ledger.Balance{Posted: m.balances[p], Reserved: m.reserved(p)}
}

func (m *model) balanceIs(r *rapid.T, account string, test bool, got ledger.Balance) {
	r.Helper()
	if want := m.balanceOf(balance{account, test}); got != want {
		r.Fatalf("balance of %s is %+v, want %+v", account, got, want)
	}
}
