package sqlitestore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/rollup"
)

// Bounds of one step of SumUsage. A step occupies the writer for 5 to 10 µs for each
// changed row of the sums, and for one commit.
const (
	usageRead = 4000 // the number of transactions that a step reads
	usageRows = 600  // the number of rows of the sums that a step changes
)

// UsageReport sums charges up as the query asks. It reads the sums, and the
// transactions that are not summed up yet, without blocking the writer. Errors:
// ledger.ErrInvalid, and ErrNotFound if the query names an account that does not exist.
func (s *Store) UsageReport(ctx context.Context, q ledger.UsageQuery) (ledger.UsageReport, error) {
	if err := ctx.Err(); err != nil {
		return ledger.UsageReport{}, err
	}
	read, err := s.readers.BeginTx(background(), nil)
	if err != nil {
		return ledger.UsageReport{}, failure(err)
	}
	defer read.Rollback() //nolint:errcheck // the transaction only reads
	return rollup.Report(ctx, &usageReader{s, read}, q)
}

// SumUsage adds the next transactions of the journal to the sums of usage, in one
// transaction with the cursor. If all are summed up already, it deletes some expired
// hourly sums instead. A step is small enough that captures hardly wait for it.
// Concurrent calls are safe, but only one of them makes progress.
func (s *Store) SumUsage(ctx context.Context) (p ledger.UsageProgress, err error) {
	if err := ctx.Err(); err != nil {
		return p, err
	}
	b, began, err := s.usageBatch(ctx, func(ctx context.Context, r rollup.Reader, state *rollup.State) (*rollup.Batch, error) {
		b := rollup.NewBatch(state, usageRows)
		return b, b.Fill(ctx, r, math.MaxInt64, usageRead)
	})
	if err != nil {
		return p, err
	}
	if b.Count == 0 {
		return p, s.sweepUsage(ctx)
	}
	rows := b.Rows()
	err = s.do(ctx, func(t *tx) error { return t.sumUsage(b, rows, began) })
	if errors.Is(err, errOvertaken) {
		return ledger.UsageProgress{More: true}, nil
	}
	if err != nil {
		return p, err
	}
	p.Summed = b.Count
	var oldest int64
	err = s.readers.QueryRowContext(background(), `SELECT coalesce((SELECT max(seq) FROM txn), 0) - cursor,
		coalesce((SELECT at FROM txn WHERE seq > cursor ORDER BY seq LIMIT 1), 0) FROM usage_state`).Scan(&p.Pending, &oldest)
	if err != nil {
		return p, failure(err)
	}
	if p.Pending = max(p.Pending, 0); oldest != 0 {
		p.Lag = max(s.now().Sub(fromMicros(oldest)), 0)
	}
	p.More = p.Pending > 0
	return p, nil
}

// errOvertaken says that another call has moved the cursor.
var errOvertaken = errors.New("another call has summed these transactions up")

// usageBatch returns the batch that the given function makes, and the state of the sums
// with which the batch began. The function reads the store without blocking the writer.
func (s *Store) usageBatch(ctx context.Context, build func(context.Context, rollup.Reader, *rollup.State) (*rollup.Batch, error)) (*rollup.Batch, *rollup.State, error) {
	read, err := s.readers.BeginTx(background(), nil)
	if err != nil {
		return nil, nil, failure(err)
	}
	defer read.Rollback() //nolint:errcheck // the transaction only reads
	r := &usageReader{s, read}
	state, err := r.State(ctx)
	if err != nil {
		return nil, nil, err
	}
	b, err := build(ctx, r, &state)
	return b, &state, err
}

// addUsage returns the SQL statement that adds to the sums in n rows. A sum that would
// overflow becomes the greatest int64.
func addUsage(n int) string {
	var sets []string
	for _, c := range usageColumns {
		sets = append(sets, fmt.Sprintf("%[1]s = CASE WHEN %[1]s > %[2]d - excluded.%[1]s THEN %[2]d ELSE %[1]s + excluded.%[1]s END", c, int64(math.MaxInt64)))
	}
	return `INSERT INTO usage_sum (view, subject, bucket, x, y, z, ` + strings.Join(usageColumns[:], ", ") + `) VALUES ` +
		strings.Repeat("(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?),", n-1) + `(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)
		ON CONFLICT (view, subject, bucket, x, y, z) DO UPDATE SET ` + strings.Join(sets, ", ")
}

// usageTogether is the number of rows that one statement changes.
const usageTogether = 16

// usageColumns are the columns of usage_sum that hold a ledger.UsageSums.
var usageColumns = [...]string{"calls", "free", "charged", "refund_count", "refunded", "fee", "fee_returned", "refused", "failed"}

// sumUsage adds the rows of the batch b to the sums and moves the cursor to the end of
// the batch. It returns errOvertaken if the state of the sums is no longer the one with
// which the batch began: the cursor has moved, or another key or name has got a number.
func (t *tx) sumUsage(b *rollup.Batch, rows []rollup.Row, began *rollup.State) error {
	n, err := t.exec(`UPDATE usage_state SET cursor = ?, cursor_at = ? WHERE cursor = ?
		AND coalesce((SELECT max(n) FROM usage_key), 0) = ? AND coalesce((SELECT max(n) FROM usage_name), 0) = ?`,
		b.Last, b.LastAt, began.Cursor, began.LastKey, began.LastName)
	if err != nil {
		return err
	}
	if n == 0 {
		return errOvertaken
	}
	for _, k := range b.Numbers.NewKeys {
		if _, err := t.exec(`INSERT INTO usage_key (n, account, lineage) VALUES (?, ?, ?)`, k.N, k.Name.Account, k.Name.Lineage); err != nil {
			return err
		}
	}
	for _, k := range b.Numbers.NewNames {
		if _, err := t.exec(`INSERT INTO usage_name (n, name) VALUES (?, ?)`, k.N, k.Name); err != nil {
			return err
		}
	}
	return t.addUsage(rows)
}

// addUsage adds the rows to the sums, usageTogether rows with each statement, and the
// remaining ones one by one.
func (t *tx) addUsage(rows []rollup.Row) error {
	for _, together := range [...]int{usageTogether, 1} {
		if len(rows) < together {
			continue
		}
		add, err := t.w.conn.PrepareContext(background(), addUsage(together))
		if err != nil {
			return failure(err)
		}
		defer add.Close()
		args := make([]any, 0, together*(6+len(usageColumns)))
		for ; len(rows) >= together; rows = rows[together:] {
			args = args[:0]
			for _, r := range rows[:together] {
				args = append(args, r.View, r.Subject, r.Bucket, r.X, r.Y, r.Z,
					r.Calls, r.Free, int64(r.Charged), r.RefundCount, int64(r.Refunded), int64(r.Fee), int64(r.FeeReturned), r.Refused, r.Failed)
			}
			if _, err := add.ExecContext(background(), args...); err != nil {
				return failure(err)
			}
		}
	}
	return nil
}

// sumUsageTo sums transactions up until the sums include transaction number seq.
func (s *Store) sumUsageTo(ctx context.Context, seq int64) error {
	for {
		var cursor int64
		if err := s.readers.QueryRowContext(background(), `SELECT cursor FROM usage_state`).Scan(&cursor); err != nil {
			return failure(err)
		}
		if cursor >= seq {
			return nil
		}
		if p, err := s.SumUsage(ctx); err != nil || p.Summed == 0 && !p.More {
			return err
		}
		if err := clock.Sleep(ctx, time.Millisecond); err != nil { // let waiting captures go first
			return err
		}
	}
}

// usageReader reads the sums and the journal in one read transaction, for the package
// rollup.
type usageReader struct {
	store *Store
	read  *sql.Tx
}

// State returns the state of the sums.
func (r *usageReader) State(context.Context) (st rollup.State, err error) {
	err = r.read.QueryRowContext(background(), `SELECT cursor, cursor_at, hours_from, archived_at, skipped,
		coalesce((SELECT max(n) FROM usage_key), 0), coalesce((SELECT max(n) FROM usage_name), 0) FROM usage_state`).
		Scan(&st.Cursor, &st.CursorAt, &st.HoursFrom, &st.Archived, &st.Skipped, &st.LastKey, &st.LastName)
	return st, failure(err)
}

// selectUsage reads transactions, each with the account, provider, lineage, server and
// tool of its charge. The first column combines three values, because each column costs
// a third of a microsecond per row. The combined value is the rollup.Kind, plus 8 for
// test credits, plus 16 for a call paid by a free quota.
const selectUsage = `SELECT CASE t.kind WHEN 1 THEN 1 WHEN 3 THEN 2 WHEN 5 THEN 3 * (t.debtor = coalesce(c.fee_to, k.fee_to)) ELSE 0 END + 8 * t.test + 16 * (t.waived IS NOT NULL),
	t.seq, t.at, t.amount, coalesce(t.fee, 0), coalesce(c.debtor, k.debtor, t.debtor), coalesce(c.creditor, k.creditor, t.creditor),
	coalesce(c.lineage, c.key, k.lineage, k.key, t.lineage, t.key, ''), coalesce(c.server, k.server, t.server, ''), coalesce(c.tool, k.tool, t.tool, '')
	FROM txn t LEFT JOIN txn c ON c.seq = t.ref LEFT JOIN carried k ON k.seq = t.ref
	WHERE t.seq > ? ORDER BY t.seq LIMIT ?`

// Journal returns up to limit transactions with numbers greater than after, in
// ascending order.
func (r *usageReader) Journal(_ context.Context, after int64, limit int) ([]rollup.Transaction, error) {
	rows, err := r.read.QueryContext(background(), selectUsage, after, limit)
	if err != nil {
		return nil, failure(err)
	}
	return scanUsage(rows)
}

func scanUsage(rows *sql.Rows) (list []rollup.Transaction, err error) {
	defer rows.Close()
	for rows.Next() {
		var t rollup.Transaction
		var flags int64
		if err := rows.Scan(&flags, &t.Seq, &t.At, (*int64)(&t.Amount), (*int64)(&t.Fee), &t.Account, &t.Provider, &t.Lineage, &t.Server, &t.Tool); err != nil {
			return nil, failure(err)
		}
		t.Kind, t.Test, t.Free = rollup.Kind(flags&7), flags&8 != 0, flags&16 != 0
		list = append(list, t)
	}
	return list, failure(rows.Err())
}

// KeyNumbers looks up the numbers that stand for lineages of keys in the sums.
func (r *usageReader) KeyNumbers(_ context.Context, names []rollup.KeyName) ([]rollup.Numbered[rollup.KeyName], error) {
	return lookUp(r.read, `SELECT n FROM usage_key WHERE lineage = ? AND account = ?`, names, func(k rollup.KeyName) []any { return []any{k.Lineage, k.Account} })
}

// NameNumbers looks up the numbers that stand for servers and tools in the sums.
func (r *usageReader) NameNumbers(_ context.Context, names []string) ([]rollup.Numbered[string], error) {
	return lookUp(r.read, `SELECT n FROM usage_name WHERE name = ?`, names, func(name string) []any { return []any{name} })
}

// lookUp looks up the number of each name. It leaves out names that have no number yet.
func lookUp[N comparable](read *sql.Tx, query string, names []N, args func(N) []any) (found []rollup.Numbered[N], err error) {
	if len(names) == 0 {
		return nil, nil
	}
	stmt, err := read.PrepareContext(background(), query)
	if err != nil {
		return nil, failure(err)
	}
	defer stmt.Close()
	for _, name := range names {
		var n int64
		err := stmt.QueryRowContext(background(), args(name)...).Scan(&n)
		if errors.Is(err, sql.ErrNoRows) {
			continue
		}
		if err != nil {
			return nil, failure(err)
		}
		found = append(found, rollup.Numbered[N]{N: n, Name: name})
	}
	return found, nil
}

// KeysOf returns the numbers that stand for lineages in the sums. A lineage has one
// number for each account that has called with its keys.
func (r *usageReader) KeysOf(_ context.Context, lineages []string) (all []rollup.Numbered[rollup.KeyName], err error) {
	for _, lineage := range lineages {
		found, err := r.keys(`SELECT n, account, lineage FROM usage_key WHERE lineage = ?`, lineage)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

// Keys looks up the lineages that the given numbers stand for.
func (r *usageReader) Keys(_ context.Context, numbers []int64) ([]rollup.Numbered[rollup.KeyName], error) {
	return r.keys(`SELECT n, account, lineage FROM usage_key WHERE n IN (SELECT value FROM json_each(?))`, list(numbers))
}

func (r *usageReader) keys(query string, arg any) (found []rollup.Numbered[rollup.KeyName], err error) {
	rows, err := r.read.QueryContext(background(), query, arg)
	if err != nil {
		return nil, failure(err)
	}
	defer rows.Close()
	for rows.Next() {
		var k rollup.Numbered[rollup.KeyName]
		if err := rows.Scan(&k.N, &k.Name.Account, &k.Name.Lineage); err != nil {
			return nil, failure(err)
		}
		found = append(found, k)
	}
	return found, failure(rows.Err())
}

// Names looks up the servers and tools that the given numbers stand for.
func (r *usageReader) Names(_ context.Context, numbers []int64) ([]rollup.Numbered[string], error) {
	return r.names(`SELECT n, name FROM usage_name WHERE n IN (SELECT value FROM json_each(?))`, list(numbers))
}

func (r *usageReader) names(query string, arg any) (found []rollup.Numbered[string], err error) {
	rows, err := r.read.QueryContext(background(), query, arg)
	if err != nil {
		return nil, failure(err)
	}
	defer rows.Close()
	for rows.Next() {
		var n rollup.Numbered[string]
		if err := rows.Scan(&n.N, &n.Name); err != nil {
			return nil, failure(err)
		}
		found = append(found, n)
	}
	return found, failure(rows.Err())
}

// Accounts looks up the ids of the accounts with the given numbers.
func (r *usageReader) Accounts(_ context.Context, numbers []int64) (found []rollup.Numbered[string], err error) {
	b := r.store.books
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, n := range numbers {
		if a := b.number(n); a != nil {
			found = append(found, rollup.Numbered[string]{N: n, Name: a.id})
		}
	}
	return found, nil
}

// Account returns the number of an account.
func (r *usageReader) Account(_ context.Context, id string) (int64, error) {
	b := r.store.books
	b.mu.Lock()
	defer b.mu.Unlock()
	a, err := b.find(id)
	if err != nil {
		return 0, ledger.ErrNotFound
	}
	return a.n, nil
}

// Subjects lists the numbers of accounts or of lineages of keys, in ascending order. It
// leaves out numbers less than from.
func (r *usageReader) Subjects(_ context.Context, of rollup.Subjects, account, from int64, limit int) ([]int64, error) {
	query, args := `SELECT n FROM account WHERE n >= ? ORDER BY n LIMIT ?`, []any{from, limit}
	switch {
	case of == rollup.OfKeys && account != 0:
		query, args = `SELECT n FROM usage_key WHERE account = ? AND n >= ? ORDER BY n LIMIT ?`, []any{account, from, limit}
	case of == rollup.OfKeys:
		query = `SELECT n FROM usage_key WHERE n >= ? ORDER BY n LIMIT ?`
	}
	rows, err := r.read.QueryContext(background(), query, args...)
	if err != nil {
		return nil, failure(err)
	}
	defer rows.Close()
	var found []int64
	for rows.Next() {
		var n int64
		if err := rows.Scan(&n); err != nil {
			return nil, failure(err)
		}
		found = append(found, n)
	}
	return found, failure(rows.Err())
}

// usageTotals sums up the columns of usage_sum. Each amount is split into its upper and
// its lower 32 bits, which are summed up separately, because SQLite reports an error
// when a sum overflows an int64.
const usageTotals = `sum(calls), sum(free), sum(charged >> 32), sum(charged & 4294967295), sum(refund_count),
	sum(refunded >> 32), sum(refunded & 4294967295), sum(fee >> 32), sum(fee & 4294967295), sum(fee_returned >> 32), sum(fee_returned & 4294967295),
	sum(refused), sum(failed)`

// Sums reads the sums that s selects.
func (r *usageReader) Sums(_ context.Context, s *rollup.Select) (found []rollup.Line, err error) {
	text, args := s.SQL(usageTotals, func(n int) string { return "?" + strconv.Itoa(n) },
		func(n int) string { return "subject IN (SELECT value FROM json_each(?" + strconv.Itoa(n) + "))" })
	for i := range args {
		if numbers, ok := args[i].([]int64); ok {
			args[i] = list(numbers)
		}
	}
	rows, err := r.read.QueryContext(background(), text, args...)
	if err != nil {
		return nil, failure(err)
	}
	defer rows.Close()
	for rows.Next() {
		var l rollup.Line
		var halves [4][2]int64
		if err := rows.Scan(&l.Position[0], &l.Position[1], &l.Position[2], &l.Calls, &l.Free, &halves[0][0], &halves[0][1], &l.RefundCount,
			&halves[1][0], &halves[1][1], &halves[2][0], &halves[2][1], &halves[3][0], &halves[3][1], &l.Refused, &l.Failed); err != nil {
			return nil, failure(err)
		}
		l.Charged, l.Refunded, l.Fee, l.FeeReturned = whole(halves[0]), whole(halves[1]), whole(halves[2]), whole(halves[3])
		found = append(found, l)
	}
	return found, failure(rows.Err())
}

// whole combines the sums of the upper and of the lower 32 bits. A total that overflows
// becomes the greatest Amount.
func whole(halves [2]int64) ledger.Amount {
	high := halves[0] + halves[1]>>32
	if high > math.MaxInt64>>32 {
		return math.MaxInt64
	}
	return ledger.Amount(high<<32 | halves[1]&(1<<32-1))
}

// list returns numbers as a JSON array, for json_each.
func list(numbers []int64) string {
	text, err := json.Marshal(numbers)
	if err != nil || numbers == nil {
		return "[]"
	}
	return string(text)
}
