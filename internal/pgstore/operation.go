package pgstore

import (
	"context"
	"sync/atomic"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/fareboxhq/farebox/internal/id"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/pgvalue"
)

// operationKind is a value of the SQL type operation_kind.
type operationKind string

const (
	opReserve operationKind = "reserve"
	opCapture operationKind = "capture"
	opCharge  operationKind = "charge"
	opRelease operationKind = "release"
	opRenew   operationKind = "renew"
	opVoid    operationKind = "void"
)

// operation is one operation of a batch.
type operation struct {
	kind     operationKind
	id       uuid.UUID
	order    ledger.Order // only for reserve and charge
	terms    ledger.Terms
	hash     *uuid.UUID // from hashOf; nil without an idempotency key
	response []byte     // the response that a capture stores

	state atomic.Int32 // opQueued at first, then opTaken or opAbandoned
	done  chan struct{}
	out   outcome
	err   error
}

// The states of an operation.
const (
	opQueued    int32 = iota
	opTaken           // a batch has taken the operation and will carry it out
	opAbandoned       // the caller went away before a batch took the operation
)

// ordered reports whether the operation brings its order. For other kinds the
// database looks up the order by the id.
func (o *operation) ordered() bool { return o.kind == opReserve || o.kind == opCharge }

// attributes lists the attributes of the SQL type operation, in the type's order.
var attributes = [...]struct {
	name string
	of   func(*operation) any
}{
	{"kind", func(o *operation) any { return string(o.kind) }},
	{"id", func(o *operation) any { return asUUID(o.id) }},
	{"account", text(func(o *ledger.Order) string { return o.Account })},
	{"provider", text(func(o *ledger.Order) string { return o.Provider })},
	{"key", text(func(o *ledger.Order) string { return o.Key })},
	{"lineage", text(func(o *ledger.Order) string { return o.Lineage })},
	{"server", text(func(o *ledger.Order) string { return o.Server })},
	{"tool", text(func(o *ledger.Order) string { return o.Tool })},
	{"amount", number(func(o *operation) ledger.Amount { return o.order.Amount })},
	{"fee", number(func(o *operation) ledger.Amount { return o.order.Fee })},
	{"fee_to", text(func(o *ledger.Order) string { return o.FeeTo })},
	{"test", func(o *operation) any {
		if !o.ordered() {
			return nil
		}
		return o.order.Test
	}},
	{"settler", text(func(o *ledger.Order) string { return o.Settler })},
	{"key_call", number(func(o *operation) ledger.Amount { return o.terms.Key.Call })},
	{"key_day", number(func(o *operation) ledger.Amount { return o.terms.Key.Day })},
	{"key_month", number(func(o *operation) ledger.Amount { return o.terms.Key.Month })},
	{"server_call", number(func(o *operation) ledger.Amount { return o.terms.Server.Call })},
	{"server_day", number(func(o *operation) ledger.Amount { return o.terms.Server.Day })},
	{"server_month", number(func(o *operation) ledger.Amount { return o.terms.Server.Month })},
	{"free_calls", number(func(o *operation) ledger.Amount { return ledger.Amount(o.terms.FreeCalls) })},
	{"hash", func(o *operation) any {
		if o.hash == nil {
			return nil
		}
		return asUUID(*o.hash)
	}},
	{"fingerprint", func(o *operation) any {
		if o.hash == nil {
			return nil
		}
		return o.terms.Idempotency.Fingerprint[:]
	}},
	{"response", func(o *operation) any {
		if o.response == nil {
			return nil
		}
		return o.response
	}},
	{"fee_id", func(o *operation) any {
		if o.kind != opCapture && o.kind != opCharge {
			return nil
		}
		return asUUID(id.V7())
	}},
}

// text makes an attribute from a text of the order. Without an order it is null.
func text(of func(*ledger.Order) string) func(*operation) any {
	return func(o *operation) any {
		if !o.ordered() {
			return nil
		}
		return pgvalue.Pack(of(&o.order))
	}
}

// number makes an attribute from a number. Without an order it is null.
func number(of func(*operation) ledger.Amount) func(*operation) any {
	return func(o *operation) any {
		if !o.ordered() {
			return nil
		}
		return int64(of(o))
	}
}

// IsNull implements pgtype.CompositeIndexGetter.
func (o *operation) IsNull() bool { return false }

// Index implements pgtype.CompositeIndexGetter. An attribute that a newer schema
// version has added is null.
func (o *operation) Index(i int) any {
	if i >= len(attributes) {
		return nil
	}
	return attributes[i].of(o)
}

// operations is an array of the SQL type operation.
type operations []*operation

// Dimensions implements pgtype.ArrayGetter.
func (l operations) Dimensions() []pgtype.ArrayDimension {
	return []pgtype.ArrayDimension{{Length: int32(len(l)), LowerBound: 1}}
}

// Index implements pgtype.ArrayGetter.
func (l operations) Index(i int) any { return l[i] }

// IndexType implements pgtype.ArrayGetter.
func (l operations) IndexType() any { return new(operation) }

// loadTypes registers the SQL type operation with a connection.
func loadTypes(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.LoadTypes(ctx, []string{"_operation"}) // the array type; loads its element types, too
	return err
}

func asUUID(u uuid.UUID) pgtype.UUID { return pgtype.UUID{Bytes: u, Valid: true} }
