package sqlitestore

import (
	"context"

	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/rollup"
)

// usageSums reads the sums of usage. It reads each view of rollup.Views, together with
// the cursor, in a transaction of its own, because SQLite's log grows for as long as a
// read transaction is open.
func (v *verifier) usageSums(ctx context.Context, progress func(done, total int64)) error {
	for _, view := range rollup.Views() {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := v.usageView(ctx, view); err != nil {
			return err
		}
		if progress != nil {
			progress(v.done, v.to)
		}
	}
	return nil
}

func (v *verifier) usageView(ctx context.Context, view int64) error {
	read, err := v.store.readers.BeginTx(background(), nil)
	if err != nil {
		return failure(err)
	}
	defer read.Rollback() //nolint:errcheck // the transaction only reads
	r := &usageReader{v.store, read}
	state, err := r.State(ctx)
	if err != nil {
		return err
	}
	v.usage.Begin(view, state)
	keys, err := r.keys(`SELECT n, account, lineage FROM usage_key WHERE n > ?`, v.usage.LastKey)
	if err != nil {
		return err
	}
	for _, k := range keys {
		v.usage.AddKey(k)
	}
	names, err := r.names(`SELECT n, name FROM usage_name WHERE n > ?`, v.usage.LastName)
	if err != nil {
		return err
	}
	for _, n := range names {
		v.usage.AddName(n)
	}
	rows, err := read.QueryContext(background(), `SELECT subject, bucket, x, y, z, calls, free, charged, refund_count, refunded, fee, fee_returned FROM usage_sum WHERE view = ?`, view)
	if err != nil {
		return failure(err)
	}
	defer rows.Close()
	row := rollup.Row{Key: rollup.Key{View: view}}
	for rows.Next() {
		if err := rows.Scan(&row.Subject, &row.Bucket, &row.X, &row.Y, &row.Z, &row.Calls, &row.Free, (*int64)(&row.Charged),
			&row.RefundCount, (*int64)(&row.Refunded), (*int64)(&row.Fee), (*int64)(&row.FeeReturned)); err != nil {
			return failure(err)
		}
		v.usage.Stored(&row)
	}
	return failure(rows.Err())
}

// countUsage adds the transaction r, which belongs to the charge c, to the usage that
// the verifier computes from the journal.
func (v *verifier) countUsage(r, c *row, kind rollup.Kind) {
	t := rollup.Transaction{
		Seq: r.seq, At: r.at, Kind: kind, Amount: r.amount, Test: r.test, Account: c.debtor, Provider: c.creditor,
		Lineage: c.lineage, Server: c.server, Tool: c.tool, Free: c.waived > 0,
	}
	if kind == rollup.Charge && c.waived == 0 && c.feeTo != 0 {
		t.Fee = ledger.Amount(c.fee)
	}
	v.usage.Transaction(&t)
}
