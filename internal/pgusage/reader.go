package pgusage

import (
	"context"
	"errors"
	"math"
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/pgvalue"
	"github.com/fareboxhq/farebox/internal/rollup"
)

// reader reads the sums and the journal in a transaction, for the package rollup.
type reader struct {
	tx      pgx.Tx
	failure func(ctx context.Context, err error) error
}

// State returns the state of the sums.
func (r *reader) State(ctx context.Context) (st rollup.State, err error) {
	err = r.tx.QueryRow(ctx, `SELECT cursor, cursor_at, hours_from, archived_at, skipped,
		coalesce((SELECT max(n) FROM usage_key), 0), coalesce((SELECT max(n) FROM usage_name), 0) FROM usage_state`).
		Scan(&st.Cursor, &st.CursorAt, &st.HoursFrom, &st.Archived, &st.Skipped, &st.LastKey, &st.LastName)
	return st, r.failure(ctx, err)
}

// selectUsage reads transactions, each with the account, provider, lineage, server and
// tool of its charge.
const selectUsage = `SELECT t.seq, CASE WHEN t.kind = 1 THEN 1 WHEN t.kind = 3 THEN 2 WHEN t.kind = 5 AND t.debtor = coalesce(c.fee_to, k.fee_to) THEN 3 ELSE 0 END,
	(extract(epoch FROM t.at) * 1000000)::bigint, t.test, t.amount, t.waived IS NOT NULL, coalesce(t.fee, 0),
	coalesce(c.debtor, k.debtor, t.debtor), coalesce(c.creditor, k.creditor, t.creditor),
	coalesce(c.lineage, k.lineage, t.lineage, ''), coalesce(c.server, k.server, t.server, ''), coalesce(c.tool, k.tool, t.tool, '')
	FROM txn t LEFT JOIN txn c ON c.seq = t.ref LEFT JOIN carried k ON k.seq = t.ref
	WHERE t.seq > $1 AND t.seq <= $2 ORDER BY t.seq LIMIT $3`

// Journal returns up to limit transactions with numbers greater than after, in
// ascending order. A transaction that has not committed yet is missing, even if its
// number is lower than that of another transaction in the result. The cursor never
// moves past a missing transaction; see journalEnd.
func (r *reader) Journal(ctx context.Context, after int64, limit int) ([]rollup.Transaction, error) {
	list, err := r.journal(ctx, after, math.MaxInt64, limit)
	return list, r.failure(ctx, err)
}

func (r *reader) journal(ctx context.Context, after, to int64, limit int) (list []rollup.Transaction, err error) {
	err = r.eachTransaction(ctx, after, to, limit, func(t *rollup.Transaction) { list = append(list, *t) })
	return list, err
}

func (r *reader) eachTransaction(ctx context.Context, after, to int64, limit int, do func(*rollup.Transaction)) error {
	rows, err := r.tx.Query(ctx, selectUsage, after, to, limit)
	if err != nil {
		return err
	}
	var t rollup.Transaction
	var kind int
	_, err = pgx.ForEachRow(rows, []any{&t.Seq, &kind, &t.At, &t.Test, (*int64)(&t.Amount), &t.Free, (*int64)(&t.Fee),
		&t.Account, &t.Provider, &t.Lineage, &t.Server, &t.Tool}, func() error {
		t.Kind = rollup.Kind(kind)
		t.Lineage, t.Server, t.Tool = pgvalue.Unpack(t.Lineage), pgvalue.Unpack(t.Server), pgvalue.Unpack(t.Tool)
		do(&t)
		return nil
	})
	return err
}

// KeyNumbers looks up the numbers that stand for lineages of keys in the sums.
func (r *reader) KeyNumbers(ctx context.Context, names []rollup.KeyName) ([]rollup.Numbered[rollup.KeyName], error) {
	if len(names) == 0 {
		return nil, nil
	}
	accounts, lineages := make([]int64, len(names)), make([]string, len(names))
	for i, k := range names {
		accounts[i], lineages[i] = k.Account, pgvalue.Pack(k.Lineage)
	}
	return r.keys(ctx, `SELECT k.n, k.account, k.lineage FROM unnest($1::bigint[], $2::text[]) u (account, lineage)
		JOIN usage_key k ON k.lineage = u.lineage AND k.account = u.account`, accounts, lineages)
}

// NameNumbers looks up the numbers that stand for servers and tools in the sums.
func (r *reader) NameNumbers(ctx context.Context, names []string) ([]rollup.Numbered[string], error) {
	if len(names) == 0 {
		return nil, nil
	}
	packed := make([]string, len(names))
	for i, name := range names {
		packed[i] = pgvalue.Pack(name)
	}
	return r.names(ctx, `SELECT n, name FROM usage_name WHERE name = ANY($1::text[])`, packed)
}

// KeysOf returns the numbers that stand for lineages in the sums. A lineage has one
// number for each account that has called with its keys.
func (r *reader) KeysOf(ctx context.Context, lineages []string) ([]rollup.Numbered[rollup.KeyName], error) {
	packed := make([]string, len(lineages))
	for i, lineage := range lineages {
		packed[i] = pgvalue.Pack(lineage)
	}
	return r.keys(ctx, `SELECT n, account, lineage FROM usage_key WHERE lineage = ANY($1::text[])`, packed)
}

// Keys looks up the lineages that the given numbers stand for.
func (r *reader) Keys(ctx context.Context, numbers []int64) ([]rollup.Numbered[rollup.KeyName], error) {
	if len(numbers) == 0 {
		return nil, nil
	}
	return r.keys(ctx, `SELECT n, account, lineage FROM usage_key WHERE n = ANY($1::bigint[])`, numbers)
}

func (r *reader) keys(ctx context.Context, query string, args ...any) ([]rollup.Numbered[rollup.KeyName], error) {
	rows, err := r.tx.Query(ctx, query, args...)
	if err != nil {
		return nil, r.failure(ctx, err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (k rollup.Numbered[rollup.KeyName], err error) {
		err = row.Scan(&k.N, &k.Name.Account, &k.Name.Lineage)
		k.Name.Lineage = pgvalue.Unpack(k.Name.Lineage)
		return k, err
	})
	return list, r.failure(ctx, err)
}

// Names looks up the servers and tools that the given numbers stand for.
func (r *reader) Names(ctx context.Context, numbers []int64) ([]rollup.Numbered[string], error) {
	if len(numbers) == 0 {
		return nil, nil
	}
	return r.names(ctx, `SELECT n, name FROM usage_name WHERE n = ANY($1::bigint[])`, numbers)
}

// Accounts looks up the ids of the accounts with the given numbers.
func (r *reader) Accounts(ctx context.Context, numbers []int64) ([]rollup.Numbered[string], error) {
	if len(numbers) == 0 {
		return nil, nil
	}
	return r.names(ctx, `SELECT n, id FROM account WHERE n = ANY($1::bigint[])`, numbers)
}

func (r *reader) names(ctx context.Context, query string, args ...any) ([]rollup.Numbered[string], error) {
	rows, err := r.tx.Query(ctx, query, args...)
	if err != nil {
		return nil, r.failure(ctx, err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (n rollup.Numbered[string], err error) {
		err = row.Scan(&n.N, &n.Name)
		n.Name = pgvalue.Unpack(n.Name)
		return n, err
	})
	return list, r.failure(ctx, err)
}

// Account returns the number of an account.
func (r *reader) Account(ctx context.Context, id string) (n int64, err error) {
	err = r.tx.QueryRow(ctx, `SELECT n FROM account WHERE id = $1 AND id NOT LIKE '@%'`, pgvalue.Pack(id)).Scan(&n)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, ledger.ErrNotFound
	}
	return n, r.failure(ctx, err)
}

// accountNumbers returns a map of account ids to account numbers, for the accounts in
// the given counts.
func (r *reader) accountNumbers(ctx context.Context, calls []ledger.CallCount) (map[string]int64, error) {
	var ids []string
	for i := range calls {
		ids = append(ids, pgvalue.Pack(calls[i].Account), pgvalue.Pack(calls[i].Provider))
	}
	found, err := r.names(ctx, `SELECT n, id FROM account WHERE id = ANY($1::text[]) AND id NOT LIKE '@%'`, ids)
	numbers := make(map[string]int64, len(found))
	for _, a := range found {
		numbers[a.Name] = a.N
	}
	return numbers, err
}

// Subjects lists the numbers of accounts or of lineages of keys, in ascending order. It
// leaves out numbers less than from.
func (r *reader) Subjects(ctx context.Context, of rollup.Subjects, account, from int64, limit int) ([]int64, error) {
	query, args := `SELECT n FROM account WHERE n >= $1 ORDER BY n LIMIT $2`, []any{from, limit}
	switch {
	case of == rollup.OfKeys && account != 0:
		query, args = `SELECT n FROM usage_key WHERE account = $1 AND n >= $2 ORDER BY n LIMIT $3`, []any{account, from, limit}
	case of == rollup.OfKeys:
		query = `SELECT n FROM usage_key WHERE n >= $1 ORDER BY n LIMIT $2`
	}
	rows, err := r.tx.Query(ctx, query, args...)
	if err != nil {
		return nil, r.failure(ctx, err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	return list, r.failure(ctx, err)
}

// totals sums up the columns of usage_sum. A sum that overflows becomes the greatest
// bigint.
const totals = `least(sum(calls), 9223372036854775807)::bigint, least(sum(free), 9223372036854775807)::bigint, least(sum(charged), 9223372036854775807)::bigint,
	least(sum(refund_count), 9223372036854775807)::bigint, least(sum(refunded), 9223372036854775807)::bigint, least(sum(fee), 9223372036854775807)::bigint,
	least(sum(fee_returned), 9223372036854775807)::bigint, sum(refused)::bigint, sum(failed)::bigint`

// Sums reads the sums that s selects.
func (r *reader) Sums(ctx context.Context, s *rollup.Select) ([]rollup.Line, error) {
	text, args := s.SQL(totals, func(n int) string { return "$" + strconv.Itoa(n) + "::bigint" },
		func(n int) string { return "subject = ANY($" + strconv.Itoa(n) + "::bigint[])" })
	rows, err := r.tx.Query(ctx, text, args...)
	if err != nil {
		return nil, r.failure(ctx, err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (l rollup.Line, err error) {
		err = row.Scan(&l.Position[0], &l.Position[1], &l.Position[2], &l.Calls, &l.Free, (*int64)(&l.Charged),
			&l.RefundCount, (*int64)(&l.Refunded), (*int64)(&l.Fee), (*int64)(&l.FeeReturned), &l.Refused, &l.Failed)
		return l, err
	})
	return list, r.failure(ctx, err)
}

// Verify compares the sums with the journal, in a transaction that reads from one
// snapshot. It returns a sentence for each difference.
func Verify(ctx context.Context, tx pgx.Tx) ([]string, error) {
	r := &reader{tx, func(_ context.Context, err error) error { return err }}
	state, err := r.State(ctx)
	if err != nil {
		return nil, err
	}
	v := rollup.NewVerifier()
	for _, view := range rollup.Views() {
		v.Begin(view, state)
	}
	keys, err := r.keys(ctx, `SELECT n, account, lineage FROM usage_key`)
	if err != nil {
		return nil, err
	}
	for _, k := range keys {
		v.AddKey(k)
	}
	names, err := r.names(ctx, `SELECT n, name FROM usage_name`)
	if err != nil {
		return nil, err
	}
	for _, n := range names {
		v.AddName(n)
	}
	rows, err := tx.Query(ctx, `SELECT view, subject, bucket, x, y, z, calls, free, charged, refund_count, refunded, fee, fee_returned FROM usage_sum`)
	if err != nil {
		return nil, err
	}
	var row rollup.Row
	_, err = pgx.ForEachRow(rows, []any{&row.View, &row.Subject, &row.Bucket, &row.X, &row.Y, &row.Z, &row.Calls, &row.Free, (*int64)(&row.Charged),
		&row.RefundCount, (*int64)(&row.Refunded), (*int64)(&row.Fee), (*int64)(&row.FeeReturned)}, func() error {
		v.Stored(&row)
		return nil
	})
	if err == nil {
		err = r.eachTransaction(ctx, 0, state.Cursor, math.MaxInt, v.Transaction)
	}
	return v.Differences(), err
}
