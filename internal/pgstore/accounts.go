package pgstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/pgquery"
	"github.com/fareboxhq/farebox/internal/pgvalue"
)

// selectAccount reads accounts. It adds earnings that the account's row does not
// include yet, and leaves out expired reservations. $1 is the shift of the clock (see
// Store.shift).
const selectAccount = `SELECT a.n, a.id, a.name, a.created_at, a.credit_limit, a.cap_call, a.cap_day, a.cap_month,
	(a.live + coalesce(e.live, 0))::bigint, (a.live_reserved - coalesce(r.live, 0))::bigint,
	(a.test + coalesce(e.test, 0))::bigint, (a.test_reserved - coalesce(r.test, 0))::bigint
	FROM (SELECT moved_clock($1) AS now OFFSET 0) clock CROSS JOIN account a
	CROSS JOIN LATERAL (
		SELECT sum(x.amount) FILTER (WHERE NOT x.test) AS live, sum(x.amount) FILTER (WHERE x.test) AS test
		FROM earning x WHERE x.account = a.n
	) e
	CROSS JOIN LATERAL (
		SELECT sum(x.amount) FILTER (WHERE NOT x.test) AS live, sum(x.amount) FILTER (WHERE x.test) AS test
		FROM reservation x WHERE x.payer = a.n AND x.state = 1 AND NOT x.waived
			AND x.expires_at > least(a.swept_to, clock.now) AND x.expires_at <= clock.now
	) r WHERE `

func scanAccount(row pgx.CollectableRow) (a accountRow, err error) {
	var created time.Time
	err = row.Scan(&a.n, &a.ID, &a.Name, &created, (*int64)(&a.CreditLimit),
		(*int64)(&a.Caps.Call), (*int64)(&a.Caps.Day), (*int64)(&a.Caps.Month),
		(*int64)(&a.Live.Posted), (*int64)(&a.Live.Reserved), (*int64)(&a.Test.Posted), (*int64)(&a.Test.Reserved))
	a.ID, a.CreatedAt = pgvalue.Unpack(a.ID), pgvalue.Micro(created)
	return a, err
}

// accountRow is an account, with its number n in the database.
type accountRow struct {
	ledger.Account
	n int64
}

// queryFunc is the Query method of a store or a transaction.
type queryFunc func(ctx context.Context, query string, args ...any) (pgx.Rows, error)

func (s *Store) accounts(ctx context.Context, query queryFunc, where string, args ...any) ([]accountRow, error) {
	rows, err := query(ctx, selectAccount+where, append([]any{s.shift()}, args...)...)
	if err != nil {
		return nil, pgquery.Failure(ctx, err)
	}
	list, err := pgx.CollectRows(rows, scanAccount)
	return list, pgquery.Failure(ctx, err)
}

// account reads one account. Errors: ledger.ErrNotFound.
func (s *Store) account(ctx context.Context, where string, args ...any) (ledger.Account, error) {
	list, err := s.accounts(ctx, s.db.Query, where, args...)
	if err != nil {
		return ledger.Account{}, err
	}
	if len(list) == 0 {
		return ledger.Account{}, ledger.ErrNotFound
	}
	return list[0].Account, nil
}

// CreateAccount creates an account with empty balances. Errors: ledger.ErrExists for a
// taken name, ErrConflict for a taken id, and the errors of ledger.ValidName.
func (s *Store) CreateAccount(ctx context.Context, a ledger.Account, audit ledger.Audit) error {
	if err := ledger.ValidName(a.Name); err != nil {
		return err
	}
	if !strings.HasPrefix(a.ID, accountPrefix) || len(a.ID) > maxID {
		return fmt.Errorf("id %q of an account does not begin with %s or is longer than %d", a.ID, accountPrefix, maxID)
	}
	if err := checkLimits(&a); err != nil {
		return err
	}
	return s.change(ctx, audit, func(ctx context.Context, t *changes) error {
		made, err := t.tx.Exec(ctx, `INSERT INTO account (id, name, created_at, credit_limit, cap_call, cap_day, cap_month)
			VALUES ($1, $2, coalesce($3, moved_clock($8)), $4, $5, $6, $7) ON CONFLICT DO NOTHING`,
			pgvalue.Pack(a.ID), a.Name, pgvalue.Column(a.CreatedAt), int64(a.CreditLimit), int64(a.Caps.Call), int64(a.Caps.Day), int64(a.Caps.Month), s.shift())
		if err != nil || made.RowsAffected() == 1 {
			return err
		}
		var named bool
		if err := t.tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM account WHERE lower(name) = lower($1))`, a.Name).Scan(&named); err != nil {
			return err
		}
		if named {
			return refuse("account %q: %w", a.Name, ledger.ErrExists)
		}
		return refuse("account id: %w", ledger.ErrConflict)
	})
}

func checkLimits(a *ledger.Account) error {
	if a.CreditLimit < 0 {
		return fmt.Errorf("credit limit %s is less than zero", a.CreditLimit)
	}
	return a.Caps.Check()
}

// maxChanges bounds the attempts of UpdateAccount if other changes of the same limits
// commit first.
const maxChanges = 20

// swapLimits writes limits and their audit row, unless the limits have changed since
// they were read. It is one statement, so that it locks the account only briefly:
// every batch with a call of the account waits for that lock.
const swapLimits = `WITH changed AS (
		UPDATE account SET credit_limit = $2, cap_call = $3, cap_day = $4, cap_month = $5
		WHERE n = $1 AND (credit_limit, cap_call, cap_day, cap_month) = ($6, $7, $8, $9) RETURNING n
	)
	INSERT INTO audit (at, actor, origin, action, target, detail)
	SELECT coalesce($10, moved_clock($16)), $11, $12, $13, $14, $15 FROM changed`

// UpdateAccount reads the account with the given id, calls the given function to alter
// CreditLimit and Caps, and writes both with the audit row in one step. UpdateAccount
// ignores changes of other fields. It calls the function again if another caller has
// changed the limits meanwhile. If the function fails, nothing is written and
// UpdateAccount returns the error unchanged. Open reservations stay; later reservations
// obey the new limits. Other errors: ledger.ErrNotFound, and ErrUnavailable, after
// which the outcome is unknown.
func (s *Store) UpdateAccount(ctx context.Context, id string, change func(*ledger.Account) error, audit ledger.Audit) (ledger.Account, error) {
	if err := ctx.Err(); err != nil {
		return ledger.Account{}, err
	}
	ctx, cancel := pgquery.Bounded(ctx)
	defer cancel()
	for range maxChanges {
		list, err := s.accounts(ctx, s.db.Query, `a.id = $2 AND a.id NOT LIKE '@%'`, pgvalue.Pack(id))
		if err != nil {
			return ledger.Account{}, err
		}
		if len(list) == 0 {
			return ledger.Account{}, fmt.Errorf("account %q: %w", id, ledger.ErrNotFound)
		}
		was, asked := list[0].Account, list[0].Account
		if err := change(&asked); err != nil {
			return ledger.Account{}, err
		}
		if err := checkLimits(&asked); err != nil {
			return ledger.Account{}, err
		}
		changed := was
		changed.CreditLimit, changed.Caps = asked.CreditLimit, asked.Caps
		now, before := changed.Caps, was.Caps
		done, err := s.pool.Exec(ctx, swapLimits, list[0].n,
			int64(changed.CreditLimit), int64(now.Call), int64(now.Day), int64(now.Month),
			int64(was.CreditLimit), int64(before.Call), int64(before.Day), int64(before.Month),
			pgvalue.Column(audit.At), pgvalue.Pack(audit.Actor), pgvalue.Pack(audit.From), pgvalue.Pack(audit.Action), pgvalue.Pack(audit.Target), pgvalue.Pack(audit.Detail), s.shift())
		if err != nil {
			return ledger.Account{}, pgquery.Failure(ctx, err)
		}
		if done.RowsAffected() == 1 {
			s.o.Audited(audit)
			return changed, nil
		}
	}
	return ledger.Account{}, &pgquery.Outage{Cause: errContention}
}

// Account returns the account that has ref as its id. If there is no such account, it
// returns the account that has ref as its name, ignoring case. Errors:
// ledger.ErrNotFound.
func (s *Store) Account(ctx context.Context, ref string) (ledger.Account, error) {
	if err := ctx.Err(); err != nil {
		return ledger.Account{}, err
	}
	ctx, cancel := pgquery.Bounded(ctx)
	defer cancel()
	a, err := s.account(ctx, `a.n = coalesce((SELECT x.n FROM account x WHERE x.id = $2), (SELECT x.n FROM account x WHERE lower(x.name) = lower($2 COLLATE "C")))`, pgvalue.Pack(ref))
	if errors.Is(err, ledger.ErrNotFound) {
		return ledger.Account{}, fmt.Errorf("account %q: %w", ref, err)
	}
	return a, err
}

// AccountNames returns a map of account ids to names. It leaves out unknown ids.
func (s *Store) AccountNames(ctx context.Context, ids []string) (map[string]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	ctx, cancel := pgquery.Bounded(ctx)
	defer cancel()
	packed := make([]string, len(ids))
	for i, id := range ids {
		packed[i] = pgvalue.Pack(id)
	}
	rows, err := s.db.Query(ctx, `SELECT id, name FROM account WHERE id = ANY($1)`, packed)
	if err != nil {
		return nil, pgquery.Failure(ctx, err)
	}
	names := make(map[string]string, len(ids))
	var id, name string
	_, err = pgx.ForEachRow(rows, []any{&id, &name}, func() error { names[pgvalue.Unpack(id)] = name; return nil })
	return names, pgquery.Failure(ctx, err)
}

// selectUsage sums the spend counters of an account and of a lineage, for today and for
// this month. $1 is the shift of the clock (see Store.shift).
const selectUsage = `SELECT ` +
	`least(coalesce(sum(m.spent) FILTER (WHERE m.holder = 1 AND m.day = d.today), 0), 9223372036854775807)::bigint, ` +
	`least(coalesce(sum(m.spent) FILTER (WHERE m.holder = 1), 0), 9223372036854775807)::bigint, ` +
	`least(coalesce(sum(m.spent) FILTER (WHERE m.holder = 0 AND m.day = d.today), 0), 9223372036854775807)::bigint, ` +
	`least(coalesce(sum(m.spent) FILTER (WHERE m.holder = 0), 0), 9223372036854775807)::bigint
	FROM (SELECT x.day - DATE '1970-01-01' AS today, date_trunc('month', x.day)::date - DATE '1970-01-01' AS first
		FROM (SELECT (moved_clock($1) AT TIME ZONE 'UTC')::date AS day OFFSET 0) x OFFSET 0) d
	CROSS JOIN account a LEFT JOIN spend_counter m ON m.account = a.n AND m.test = $4 AND m.day BETWEEN d.first AND d.today
		AND (m.holder = 1 AND m.name = '' OR m.holder = 0 AND m.name = $3)
	WHERE a.id = $2 AND a.id NOT LIKE '@%' GROUP BY a.n`

// Usage returns how much the account, and the keys of the lineage, have spent of the
// account's live or test credits today and this month. Errors: ledger.ErrNotFound.
func (s *Store) Usage(ctx context.Context, id, lineage string, test bool) (u ledger.Usage, err error) {
	if err := ctx.Err(); err != nil {
		return u, err
	}
	ctx, cancel := pgquery.Bounded(ctx)
	defer cancel()
	err = s.db.Row(ctx, selectUsage, []any{s.shift(), pgvalue.Pack(id), pgvalue.Pack(lineage), test},
		(*int64)(&u.Account.Day), (*int64)(&u.Account.Month), (*int64)(&u.Key.Day), (*int64)(&u.Key.Month))
	if err = pgquery.Found(ctx, err); errors.Is(err, ledger.ErrNotFound) {
		err = fmt.Errorf("account %q: %w", id, err)
	}
	return u, err
}

// Accounts lists the accounts, by default in the order of creation, except the ledger's
// own accounts. It also returns the cursor of the next page, "" at the end.
func (s *Store) Accounts(ctx context.Context, p ledger.Page) ([]ledger.Account, string, error) {
	if err := p.Sort.OneOf(ledger.ByCreation, ledger.ByCreationDown, ledger.ByName, ledger.ByNameDown); err != nil {
		return nil, "", err
	}
	after, err := p.Position(ctx, 0)
	if err != nil {
		return nil, "", err
	}
	ctx, cancel := pgquery.Bounded(ctx)
	defer cancel()
	q := pgvalue.Conditions{Where: `a.id NOT LIKE '@%'`, Args: []any{s.shift()}}
	order := pgvalue.Order{Number: "a.n", Down: p.Sort.Down()}
	if p.Sort.ByName() {
		order.By, order.ByOf = `lower(a.name)`, `SELECT lower(x.name) FROM account x WHERE x.n = $%[1]d`
	}
	q.Page(order, after, p.Size()+1)
	rows, err := s.accounts(ctx, s.db.Query, q.Where, q.Args[1:]...)
	if err != nil {
		return nil, "", err
	}
	list, next := page(rows, p, func(a *accountRow) (ledger.Account, int64) { return a.Account, a.n })
	return list, next, nil
}

// page returns the values of one page of rows, and the cursor of the next page, "" at
// the end. The query must have asked for one row more than the page holds. read(row)
// returns the value of a row and the row's number.
func page[R, V any](rows []R, p ledger.Page, read func(*R) (V, int64)) (list []V, next string) {
	for i := range rows[:min(len(rows), p.Size())] {
		v, n := read(&rows[i])
		if list = append(list, v); len(list) == p.Size() && len(rows) > len(list) {
			next = p.CursorAt(n)
		}
	}
	return list, next
}
