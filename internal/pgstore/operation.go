package pgstore

import (
	"context"
	"errors"
	"fmt"
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
	order    ledger.Order // set only for opReserve and opCharge
	terms    ledger.Terms
	hash     *uuid.UUID // the result of hashOf; nil without an idempotency key
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

// ordered reports whether the operation carries its order. For an operation of another
// kind, the database looks up the order by the operation's id.
func (o *operation) ordered() bool { return o.kind == opReserve || o.kind == opCharge }

// attributes lists the attributes of the SQL type operation, in the type's order.
// append(b, o) appends the attribute of operation o to b in PostgreSQL's binary format.
var attributes = [...]struct {
	name   string
	append func(b []byte, o *operation) []byte
}{
	{"kind", func(b []byte, o *operation) []byte { return pgvalue.AppendText(b, string(o.kind)) }},
	{"id", func(b []byte, o *operation) []byte { return pgvalue.AppendBytes(b, o.id[:]) }},
	{"account", text(func(o *ledger.Order) string { return o.Account })},
	{"provider", text(func(o *ledger.Order) string { return o.Provider })},
	{"key", text(func(o *ledger.Order) string { return o.Key })},
	{"lineage", text(func(o *ledger.Order) string { return o.Lineage })},
	{"server", text(func(o *ledger.Order) string { return o.Server })},
	{"tool", text(func(o *ledger.Order) string { return o.Tool })},
	{"amount", number(func(o *operation) ledger.Amount { return o.order.Amount })},
	{"fee", number(func(o *operation) ledger.Amount { return o.order.Fee })},
	{"fee_to", text(func(o *ledger.Order) string { return o.FeeTo })},
	{"test", given((*operation).ordered, func(b []byte, o *operation) []byte { return pgvalue.AppendBool(b, o.order.Test) })},
	{"settler", text(func(o *ledger.Order) string { return o.Settler })},
	{"key_call", number(func(o *operation) ledger.Amount { return o.terms.Key.Call })},
	{"key_day", number(func(o *operation) ledger.Amount { return o.terms.Key.Day })},
	{"key_month", number(func(o *operation) ledger.Amount { return o.terms.Key.Month })},
	{"server_call", number(func(o *operation) ledger.Amount { return o.terms.Server.Call })},
	{"server_day", number(func(o *operation) ledger.Amount { return o.terms.Server.Day })},
	{"server_month", number(func(o *operation) ledger.Amount { return o.terms.Server.Month })},
	{"free_calls", number(func(o *operation) ledger.Amount { return ledger.Amount(o.terms.FreeCalls) })},
	{"hash", given((*operation).repeatable, func(b []byte, o *operation) []byte { return pgvalue.AppendBytes(b, o.hash[:]) })},
	{"fingerprint", given((*operation).repeatable, func(b []byte, o *operation) []byte {
		return pgvalue.AppendBytes(b, o.terms.Idempotency.Fingerprint[:])
	})},
	{"response", given((*operation).answered, func(b []byte, o *operation) []byte { return pgvalue.AppendBytes(b, o.response) })},
	{"fee_id", given((*operation).settling, func(b []byte, _ *operation) []byte {
		fee := id.V7()
		return pgvalue.AppendBytes(b, fee[:])
	})},
}

func (o *operation) repeatable() bool { return o.hash != nil }
func (o *operation) answered() bool   { return o.response != nil }
func (o *operation) settling() bool   { return o.kind == opCapture || o.kind == opCharge }

// given returns an encoder for an attribute. For operation o, it encodes null if has(o)
// is false, and appends value(b, o) otherwise.
func given(has func(*operation) bool, value func([]byte, *operation) []byte) func([]byte, *operation) []byte {
	return func(b []byte, o *operation) []byte {
		if !has(o) {
			return pgvalue.AppendNull(b)
		}
		return value(b, o)
	}
}

// text returns an encoder for an attribute that is a text of the order. It encodes null
// for an operation without an order.
func text(of func(*ledger.Order) string) func([]byte, *operation) []byte {
	return given((*operation).ordered, func(b []byte, o *operation) []byte { return pgvalue.AppendText(b, pgvalue.Pack(of(&o.order))) })
}

// number returns an encoder for an attribute that is a number. It encodes null for an
// operation without an order.
func number(of func(*operation) ledger.Amount) func([]byte, *operation) []byte {
	return given((*operation).ordered, func(b []byte, o *operation) []byte { return pgvalue.AppendInt8(b, int64(of(o))) })
}

// operationsCodec encodes a batch as an array of the SQL type operation. Attributes
// that only a newer schema version has are encoded as null.
type operationsCodec struct {
	pgtype.Codec
	element    uint32   // OID of the type operation
	attributes []uint32 // OIDs of the attributes of that type
}

// PlanEncode implements pgtype.Codec for values of the type []*operation.
func (c *operationsCodec) PlanEncode(*pgtype.Map, uint32, int16, any) pgtype.EncodePlan { return c }

// Encode implements pgtype.EncodePlan.
func (c *operationsCodec) Encode(value any, b []byte) ([]byte, error) {
	batch, ok := value.([]*operation)
	if !ok {
		return nil, fmt.Errorf("cannot encode a %T as operations", value)
	}
	return pgvalue.AppendComposites(b, c.element, c.attributes, len(batch), func(b []byte, i, n int) []byte {
		if n >= len(attributes) {
			return pgvalue.AppendNull(b)
		}
		return attributes[n].append(b, batch[i])
	}), nil
}

// loadTypes registers the array of the SQL type operation with a connection.
func loadTypes(ctx context.Context, conn *pgx.Conn) error {
	const array = "_operation"
	types, err := conn.LoadTypes(ctx, []string{array}) // also loads the types that the array needs
	if err != nil {
		return err
	}
	for _, t := range types {
		list, ok := t.Codec.(*pgtype.ArrayCodec)
		if t.Name != array || !ok {
			continue
		}
		composite, ok := list.ElementType.Codec.(*pgtype.CompositeCodec)
		if !ok {
			continue
		}
		c := &operationsCodec{Codec: list, element: list.ElementType.OID}
		for _, f := range composite.Fields {
			c.attributes = append(c.attributes, f.Type.OID)
		}
		conn.TypeMap().RegisterType(&pgtype.Type{Name: array, OID: t.OID, Codec: c})
		return nil
	}
	return errors.New("the database has no type operation")
}

func asUUID(u uuid.UUID) pgtype.UUID { return pgtype.UUID{Bytes: u, Valid: true} }
