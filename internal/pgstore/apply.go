package pgstore

import (
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/fareboxhq/farebox/internal/id"
	"github.com/fareboxhq/farebox/internal/ledger"
)

const applyQuery = `SELECT ord, code, balance, reserved, waived, facts, near, charge, at, account, provider, key, lineage, server, tool,
	amount, fee, fee_to, sandbox, refunded, settler, made
	FROM apply($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14,$15,$16,$17,$18,$19,$20,$21,$22,$23,$24,$25,$26,$27,$28)`

// The codes that apply and post give.
const (
	codeDone int16 = iota
	codeNoCharge
	codeNoAccount
	codeConflict
	codeSettled
	codeInsufficient
	codeCapped
	codeInFlight
	codeReused
	codeAnswered
	codeTooMany
	codeOverflow
	codeAlone
)

// applyArgs are the operations in columns.
func applyArgs(list []*operation, shift int64, alone bool) []any {
	n := len(list)
	ops, ids, feeIDs := make([]int16, n), make([]pgtype.UUID, n), make([]pgtype.UUID, n)
	marks, prints, answers := make([]pgtype.UUID, n), make([][]byte, n), make([][]byte, n)
	sandboxes := make([]bool, n)
	var texts [8][]string // account, provider, key, lineage, server, tool, fee_to, settler
	for i := range texts {
		texts[i] = make([]string, n)
	}
	var amounts [9][]int64 // amount, fee, three caps of the key, three of the server, free calls
	for i := range amounts {
		amounts[i] = make([]int64, n)
	}
	for i, o := range list {
		ops[i], ids[i], answers[i] = o.op, asUUID(o.id), o.answer
		if o.op == opCapture || o.op == opCharge {
			feeIDs[i] = asUUID(id.V7())
		}
		if o.op != opReserve && o.op != opCharge {
			continue
		}
		d, t := &o.order, &o.terms
		sandboxes[i] = d.Test
		for j, text := range [...]string{d.Account, d.Provider, d.Key, d.Lineage, d.Server, d.Tool, d.FeeTo, d.Settler} {
			texts[j][i] = pack(text)
		}
		for j, amount := range [...]ledger.Amount{d.Amount, d.Fee, t.Key.Call, t.Key.Day, t.Key.Month,
			t.Server.Call, t.Server.Day, t.Server.Month, ledger.Amount(t.FreeCalls)} {
			amounts[j][i] = int64(amount)
		}
		if o.mark != nil {
			marks[i], prints[i] = asUUID(*o.mark), t.Idempotency.Fingerprint[:]
		}
	}
	return []any{shift, alone, int64(maxRetries), int64(maxRetriesEach), ops, ids, texts[0], texts[1], texts[2], texts[3], texts[4],
		texts[5], amounts[0], amounts[1], texts[6], sandboxes, amounts[2], amounts[3], amounts[4], amounts[5], amounts[6], amounts[7],
		amounts[8], marks, prints, answers, feeIDs, texts[7]}
}

func asUUID(u uuid.UUID) pgtype.UUID { return pgtype.UUID{Bytes: u, Valid: true} }

// outcome is what apply says of an operation.
type outcome struct {
	code    int16
	balance ledger.Balance
	waived  bool
	facts   []int64       // of a refusal
	near    []int64       // caps that are nearly spent, five figures each
	charge  uuid.UUID     // of the first answer
	fresh   bool          // reserved now, not before
	known   ledger.Charge // of captures
}

// scanOutcome reads a row of applyQuery.
func scanOutcome(rows pgx.Rows) (ord int64, out outcome, err error) {
	var balance, reserved, amount, fee, refunded *int64
	var waived, test, made *bool
	var charge pgtype.UUID
	var at time.Time
	var texts [8]*string
	err = rows.Scan(&ord, &out.code, &balance, &reserved, &waived, &out.facts, &out.near, &charge, &at,
		&texts[0], &texts[1], &texts[2], &texts[3], &texts[4], &texts[5], &amount, &fee, &texts[6], &test, &refunded, &texts[7], &made)
	if err != nil {
		return 0, outcome{}, fmt.Errorf("reading an outcome: %w", err)
	}
	text := func(i int) string {
		if texts[i] == nil {
			return ""
		}
		return unpack(*texts[i])
	}
	out.balance = ledger.Balance{Posted: ledger.Amount(value(balance)), Reserved: ledger.Amount(value(reserved))}
	out.waived, out.fresh, out.charge = value(waived), charge.Valid, charge.Bytes
	out.known = ledger.Charge{
		State: ledger.Captured, At: micro(at), Waived: out.waived, Refunded: ledger.Amount(value(refunded)), Made: value(made),
		Order: ledger.Order{
			Account: text(0), Provider: text(1), Key: text(2), Lineage: text(3), Server: text(4), Tool: text(5), FeeTo: text(6),
			Amount: ledger.Amount(value(amount)), Fee: ledger.Amount(value(fee)), Test: value(test), Settler: text(7),
		},
	}
	return ord, out, nil
}

// value is what a column has, or zero for null.
func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

var (
	capHolders = [...]ledger.Holder{ledger.HolderKey, ledger.HolderAccount, ledger.HolderServer}
	capPeriods = [...]ledger.Period{ledger.PerCall, ledger.PerDay, ledger.PerMonth}
)

// orderOf is the order that an outcome is about.
func (o *operation) orderOf() *ledger.Order {
	if o.op == opCapture {
		return &o.out.known.Order
	}
	return &o.order
}

// capOf describes a cap of the order: facts are holder, period and amount.
func (o *operation) capOf(facts []int64, day int64) ledger.Cap {
	order, period := o.orderOf(), capPeriods[facts[1]]
	return ledger.Cap{
		Holder: capHolders[facts[0]], Period: period, Account: order.Account, Lineage: order.Lineage, Server: order.Server,
		Test: order.Test, Amount: ledger.Amount(facts[2]), Resets: period.Resets(int32(day)),
	}
}

// warn tells of caps that are nearly spent.
func (s *Store) warn(o *operation) {
	for near := o.out.near; len(near) >= 5; near = near[5:] {
		c := o.capOf(near, near[4])
		c.Spent = ledger.Amount(near[3])
		s.o.NearCap(c)
	}
}

// refusal is the error of an outcome that is one.
func (o *operation) refusal() error {
	out := &o.out
	switch out.code {
	case codeDone:
		return nil
	case codeNoCharge:
		return ledger.ErrNotFound
	case codeNoAccount:
		name := o.order.Account
		switch out.facts[0] {
		case 2:
			name = o.order.Provider
		case 3:
			name = o.order.FeeTo
		}
		return fmt.Errorf("account %q: %w", name, ledger.ErrNotFound)
	case codeConflict:
		return ledger.ErrConflict
	case codeSettled:
		return ledger.ErrSettled
	case codeInsufficient:
		return &ledger.InsufficientError{Balance: out.balance, Needed: o.orderOf().Amount}
	case codeCapped:
		e := &ledger.CapError{Cap: o.capOf(out.facts, out.facts[5]), Needed: o.orderOf().Amount}
		e.Spent, e.Held = ledger.Amount(out.facts[3]), ledger.Amount(out.facts[4])
		return e
	case codeInFlight:
		return ledger.ErrInFlight
	case codeReused:
		return ledger.ErrReused
	case codeTooMany:
		return fmt.Errorf("%w: more calls with an idempotency key were made in a day than are remembered", ledger.ErrUnavailable)
	case codeOverflow:
		return fmt.Errorf("balance: %w", ledger.ErrOverflow)
	default:
		return fmt.Errorf("%w: the database answered with code %d", ledger.ErrUnavailable, out.code)
	}
}
