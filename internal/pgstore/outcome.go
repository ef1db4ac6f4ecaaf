package pgstore

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/pgvalue"
)

// outcomeCode is a value of the SQL type outcome_code.
type outcomeCode string

const (
	codeDone         outcomeCode = "done"
	codeNoCharge     outcomeCode = "no_charge"
	codeNoAccount    outcomeCode = "no_account"
	codeConflict     outcomeCode = "conflict"
	codeSettled      outcomeCode = "settled"
	codeInsufficient outcomeCode = "insufficient"
	codeCapped       outcomeCode = "capped"
	codeInFlight     outcomeCode = "in_flight"
	codeReused       outcomeCode = "reused"
	codeReplay       outcomeCode = "replay" // a call with this idempotency key was captured
	codeTooManyKeys  outcomeCode = "too_many_keys"
	codeOverflow     outcomeCode = "overflow"
	codeAlone        outcomeCode = "alone" // send the operation again in a batch of its own
)

// outcome is a row of the SQL type outcome.
type outcome struct {
	Ord               int64 // the number of the operation in the batch, from 1
	Code              outcomeCode
	Balance, Reserved ledger.Amount
	Waived            bool
	Facts             []int64 // details of a refusal; their meaning depends on Code
	Near              []int64 // caps that are nearly spent, five numbers for each
	Charge            pgtype.UUID
	At                time.Time
	ledger.Order      // set only after opCapture and opCharge
	Refunded          ledger.Amount
	Made              bool
}

// applyQuery carries out a batch. The rules that it passes are from package ledger.
const applyQuery = `SELECT ord, code, balance, reserved, waived, facts, near, charge, at,
	account, provider, key, lineage, server, tool, amount, fee, fee_to, test, settler, refunded, made
	FROM apply($1::operation[], $2, $3, ROW($4::interval, $5::interval, $6::interval, $7::bigint, $8::bigint, $9::bigint)::rules)`

// apply sends a batch and returns its outcomes, in the order of the batch.
func apply(ctx context.Context, pool *pgxpool.Pool, batch []*operation, alone bool, shift int64) ([]outcome, error) {
	rows, err := pool.Query(ctx, applyQuery, pgx.QueryResultFormats{pgx.BinaryFormatCode}, batch, alone, shift,
		ledger.ReservationLife, ledger.SettleTime, ledger.IdempotencyLife, int64(ledger.NearPart), int64(maxKeys), int64(maxKeysPerAccount))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	list := make([]outcome, len(batch))
	n := 0
	for rows.Next() {
		var out outcome
		if err := out.read(rows.RawValues()); err != nil {
			return nil, fmt.Errorf("reading an outcome: %w", err)
		}
		if out.Ord < 1 || out.Ord > int64(len(list)) {
			return nil, fmt.Errorf("the database returned an outcome of operation %d of %d", out.Ord, len(list))
		}
		list[out.Ord-1] = out
		n++
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	if n != len(batch) {
		return nil, fmt.Errorf("the database returned %d outcomes of %d operations", n, len(batch))
	}
	return list, nil
}

// read reads a row of applyQuery in binary format.
func (o *outcome) read(columns [][]byte) error {
	r := pgvalue.NewRow(columns)
	o.Ord, o.Code = r.Int8(), outcomeCode(r.Text())
	o.Balance, o.Reserved, o.Waived = ledger.Amount(r.Int8()), ledger.Amount(r.Int8()), r.Bool()
	o.Facts, o.Near = r.Int8s(), r.Int8s()
	o.Charge.Bytes, o.Charge.Valid = r.UUID()
	o.At = r.Time()
	o.Account, o.Provider, o.Key, o.Lineage, o.Server, o.Tool = r.Text(), r.Text(), r.Text(), r.Text(), r.Text(), r.Text()
	o.Amount, o.Fee, o.FeeTo = ledger.Amount(r.Int8()), ledger.Amount(r.Int8()), r.Text()
	o.Test, o.Settler, o.Refunded, o.Made = r.Bool(), r.Text(), ledger.Amount(r.Int8()), r.Bool()
	return r.Err()
}

// balance returns the payer's balance after the operation.
func (o *outcome) balance() ledger.Balance {
	return ledger.Balance{Posted: o.Balance, Reserved: o.Reserved}
}

// charge returns the captured charge.
func (o *outcome) charge(id string) ledger.Charge {
	order := o.Order
	for _, text := range []*string{&order.Account, &order.Provider, &order.Key, &order.Lineage, &order.Server, &order.Tool, &order.FeeTo, &order.Settler} {
		*text = pgvalue.Unpack(*text)
	}
	return ledger.Charge{ID: id, Order: order, State: ledger.Captured, At: pgvalue.Micro(o.At), Waived: o.Waived, Refunded: o.Refunded, Made: o.Made}
}

var (
	capHolders = [...]ledger.Holder{ledger.HolderKey, ledger.HolderAccount, ledger.HolderServer}
	capPeriods = [...]ledger.Period{ledger.PerCall, ledger.PerDay, ledger.PerMonth}
)

// orderOf returns the order of the operation: the order that the operation brought or,
// for a capture, the order that the database returned.
func (o *operation) orderOf() ledger.Order {
	if o.kind == opCapture {
		return o.out.charge("").Order
	}
	return o.order
}

// capOf returns a cap of the order as a ledger.Cap. The given facts begin with the
// holder, the period and the amount of the cap.
func (o *operation) capOf(facts []int64, day int64) ledger.Cap {
	order, period := o.orderOf(), capPeriods[facts[1]]
	return ledger.Cap{
		Holder: capHolders[facts[0]], Period: period, Account: order.Account, Lineage: order.Lineage, Server: order.Server,
		Test: order.Test, Amount: ledger.Amount(facts[2]), Resets: period.Resets(int32(day)),
	}
}

// warn calls NearCap for each cap that is nearly spent. o.out.Near has five numbers
// per cap: holder, period, amount, spent and day.
func (s *Store) warn(o *operation) {
	for near := o.out.Near; len(near) >= 5; near = near[5:] {
		c := o.capOf(near, near[4])
		c.Spent = ledger.Amount(near[3])
		s.o.NearCap(c)
	}
}

// refusal returns the error of o if o was refused, or nil if o was carried out.
func (o *operation) refusal() error {
	out := &o.out
	switch out.Code {
	case codeDone:
		return nil
	case codeNoCharge:
		return ledger.ErrNotFound
	case codeNoAccount:
		name := o.order.Account
		switch out.Facts[0] {
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
		return &ledger.InsufficientError{Balance: out.balance(), Needed: o.orderOf().Amount}
	case codeCapped:
		e := &ledger.CapError{Cap: o.capOf(out.Facts, out.Facts[5]), Needed: o.orderOf().Amount}
		e.Spent, e.Held = ledger.Amount(out.Facts[3]), ledger.Amount(out.Facts[4])
		return e
	case codeInFlight:
		return ledger.ErrInFlight
	case codeReused:
		return ledger.ErrReused
	case codeTooManyKeys:
		return fmt.Errorf("%w: more calls with an idempotency key were made in a day than are remembered", ledger.ErrUnavailable)
	case codeOverflow:
		return fmt.Errorf("balance: %w", ledger.ErrOverflow)
	default:
		return fmt.Errorf("%w: the database returned the code %q", ledger.ErrUnavailable, out.Code)
	}
}

// value returns *p, or the zero value if p is nil because the column is null.
func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}
