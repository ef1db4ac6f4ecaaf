package sqlitestore

import (
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// uuid is the binary form of the ids of charges and transactions.
type uuid [16]byte

const (
	chargePrefix = "chg_"
	otherPrefix  = "txn_"
)

// parseID parses an id, which is the prefix and a UUID. It accepts only the
// canonical form of the UUID, so that an id has only one spelling.
func parseID(prefix, id string) (uuid, error) {
	var u uuid
	ok := len(id) == len(prefix)+36 && id[:len(prefix)] == prefix
	if ok {
		text := id[len(prefix):]
		n := 0
		for i := 0; i < len(text) && ok; {
			if i == 8 || i == 13 || i == 18 || i == 23 {
				ok = text[i] == '-'
				i++
				continue
			}
			high, low := digit(text[i]), digit(text[i+1])
			ok = high < 16 && low < 16
			u[n] = high<<4 | low
			n++
			i += 2
		}
	}
	if !ok {
		return uuid{}, fmt.Errorf("id %q is not %s and a UUID in lower case", id, prefix)
	}
	return u, nil
}

func digit(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	default:
		return 255
	}
}

func (u uuid) text(prefix string) string {
	var buffer [52]byte // long enough for the prefixes of ids
	b := append(append(buffer[:0], prefix...), make([]byte, 36)...)
	t := b[len(prefix):]
	hex.Encode(t[0:8], u[0:4])
	hex.Encode(t[9:13], u[4:6])
	hex.Encode(t[14:18], u[6:8])
	hex.Encode(t[19:23], u[8:10])
	hex.Encode(t[24:36], u[10:16])
	t[8], t[13], t[18], t[23] = '-', '-', '-', '-'
	return string(b)
}

// The numbers that stand for the kinds of transactions in the journal.
const (
	rowCharge = 1
	rowCredit = 2
	rowRefund = 3
	rowAdjust = 4
	rowFee    = 5
)

// kinds maps the numbers of the journal to the kinds of transactions.
var kinds = map[int64]ledger.Kind{
	rowCharge: ledger.KindCharge, rowCredit: ledger.KindCredit, rowRefund: ledger.KindRefund, rowAdjust: ledger.KindAdjustment, rowFee: ledger.KindFee,
}

// row is one transaction in the journal.
type row struct {
	seq                      int64
	id                       uuid
	kind                     int64
	debtor, creditor         int64 // the numbers (account.n) of the two accounts
	amount                   ledger.Amount
	test                     bool
	at                       int64 // microseconds since 1970
	prevDebtor, prevCreditor int64
	key, lineage             string // set for charges only
	server, tool             string
	ref                      int64 // refunds and fees only: seq of the charge
	reason                   string
	day                      int32         // the day of the reservation; set for charges only
	waived                   ledger.Amount // the price of a charge paid by a free quota
	fee                      ledger.Amount // the operator's fee; set for charges only
	feeTo                    int64         // the number (account.n) of the account that gets the fee; 0 without a fee
	settler                  string        // lineage of the keys that may settle the charge through a platform; "" if the store's own process settles it
	settlerN                 int64         // the number of that lineage in the table settler; used only when the row is written
	refunded                 ledger.Amount // the sum of the refunds; set when the row is read
}

const rowColumns = `seq, id, kind, debtor, creditor, amount, test, at, prev_debtor, prev_creditor,
	key, lineage, server, tool, ref, reason, day, waived, fee, fee_to, settler`

const (
	insertRow = `INSERT INTO txn (` + rowColumns + `) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT (id) DO NOTHING`
	refunds   = `(SELECT coalesce(sum(r.amount), 0) FROM txn r WHERE r.ref = txn.seq AND r.ref IS NOT NULL AND r.kind = 3)`
	lineage   = `(SELECT s.lineage FROM settler s WHERE s.n = txn.settler)`
	selectRow = `SELECT ` + rowColumns + `, ` + lineage + `, ` + refunds + ` FROM txn `
)

// args are the values for insertRow.
func (r *row) args() []any {
	var lineage any = r.lineage
	if r.lineage == r.key {
		lineage = nil // null saves space, because most keys were never rotated
	}
	return []any{r.seq, r.id[:], r.kind, r.debtor, r.creditor, int64(r.amount), r.test, r.at, r.prevDebtor,
		r.prevCreditor, text(r.key), lineage, text(r.server), text(r.tool), number(r.ref), text(r.reason),
		r.dayColumn(), number(int64(r.waived)), number(int64(r.fee)), number(r.feeTo), number(r.settlerN)}
}

// dayColumn returns the value for the column day: null for most charges, because most
// are captured on the day of their reservation.
func (r *row) dayColumn() any {
	if r.kind != rowCharge || r.day == ledger.Day(fromMicros(r.at)) {
		return nil
	}
	return r.day
}

func text(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func number(n int64) any {
	if n == 0 {
		return nil
	}
	return n
}

// scanner is one row of the result of a query.
type scanner interface{ Scan(...any) error }

// scan reads the columns of selectRow into the row. Its last arguments are pointers for
// the columns that follow in the query.
func (r *row) scan(from scanner, more ...any) error {
	var id []byte
	var key, lineage, server, tool, reason, settler sql.NullString
	var ref, day, waived, fee, feeTo, settlerN sql.NullInt64
	fields := [...]any{&r.seq, &id, &r.kind, &r.debtor, &r.creditor, (*int64)(&r.amount), &r.test, &r.at,
		&r.prevDebtor, &r.prevCreditor, &key, &lineage, &server, &tool, &ref, &reason,
		&day, &waived, &fee, &feeTo, &settlerN, &settler, (*int64)(&r.refunded)}
	if err := from.Scan(append(fields[:], more...)...); err != nil {
		return err
	}
	if len(id) != len(r.id) {
		return errors.New("a transaction's id is not 16 bytes long")
	}
	copy(r.id[:], id)
	r.key, r.lineage, r.server, r.tool, r.ref, r.reason = key.String, lineage.String, server.String, tool.String, ref.Int64, reason.String
	if !lineage.Valid {
		r.lineage = r.key
	}
	r.settler, r.settlerN = settler.String, settlerN.Int64
	r.waived, r.fee, r.feeTo = ledger.Amount(waived.Int64), ledger.Amount(fee.Int64), feeTo.Int64
	r.day = int32(day.Int64)
	if !day.Valid {
		r.day = ledger.Day(fromMicros(r.at))
	}
	return nil
}

// price returns the price of a charge, even if a free quota paid it.
func (r *row) price() ledger.Amount { return r.amount + r.waived }

// sameOrder reports whether the row is a charge with the hold's order.
func (r *row) sameOrder(h *hold) bool {
	o := &h.order
	return r.kind == rowCharge && r.debtor == h.payer.n && r.creditor == h.payee.n && r.price() == o.Amount &&
		r.test == o.Test && r.key == o.Key && r.lineage == o.Lineage && r.server == o.Server && r.tool == o.Tool &&
		r.settler == o.Settler && r.fee == o.Fee && (r.feeTo == 0) == (h.feeTo == nil) && (h.feeTo == nil || r.feeTo == h.feeTo.n)
}

// micros converts a time to its stored form, microseconds since 1970. The zero time
// is 0.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func fromMicros(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.UnixMicro(n).UTC()
}
