package sqlitestore

import (
	"context"
	"database/sql"
	"errors"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// opening reads the balances at the beginning of the journal, after the archived
// transactions.
func (v *verifier) opening(ctx context.Context, read *sql.Tx) error {
	v.found.Archived, v.found.Opening = v.archived, ledger.SumBalances(nil)
	if v.archived.Files == 0 {
		return ctx.Err()
	}
	rows, err := read.QueryContext(background(), `SELECT o.account, coalesce(a.id, ''), o.live, o.test, o.paid, o.earned FROM archived_account o LEFT JOIN account a ON a.n = o.account`)
	if err != nil {
		return failure(err)
	}
	defer rows.Close()
	var balances []ledger.RunningBalance
	for rows.Next() {
		var n int64
		var b ledger.RunningBalance
		if err := rows.Scan(&n, &b.Account, (*int64)(&b.Live), (*int64)(&b.Test), &b.Paid, &b.Earned); err != nil {
			return failure(err)
		}
		balances = append(balances, b)
		if n < 0 || n >= int64(len(v.accounts)) || v.accounts[n] == nil {
			v.differ("the archive closes with a balance of account number %d, which does not exist", n)
			continue
		}
		a := v.accounts[n]
		a.balances, a.debit, a.credit = [2]ledger.Amount{b.Live, b.Test}, b.Paid, b.Earned
	}
	v.found.Opening = ledger.SumBalances(balances)
	return failure(rows.Err())
}

// charge reads the charge that a refund or fee belongs to. If the charge was
// archived, its archived refunds and returned fees count as well.
func (v *verifier) charge(seq int64) (c row, err error) {
	err = readError(c.scan(v.store.readers.QueryRowContext(background(), selectRow+`WHERE seq = ?`, seq)))
	if !errors.Is(err, ledger.ErrNotFound) {
		return c, err
	}
	var feeBack ledger.Amount
	if err := readError(c.scan(v.store.readers.QueryRowContext(background(), selectCarried+`WHERE seq = ?`, seq), (*int64)(&feeBack))); err != nil {
		return c, err
	}
	if _, met := v.refunds[seq]; !met {
		v.refunds[seq] = c.refunded
		if c.fee > 0 {
			f := v.feeOf(seq)
			f.is, f.want = feeBack, ledger.FeeReturned(c.fee, c.amount, 0, c.refunded)
		}
	}
	return c, nil
}
