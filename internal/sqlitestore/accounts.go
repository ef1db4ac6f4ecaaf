package sqlitestore

import (
	"context"
	"fmt"
	"math"
	"strings"

	"github.com/fareboxhq/farebox/internal/ledger"
)

const (
	accountPrefix = "acct_"
	maxID         = 64
)

// CreateAccount creates an account with empty balances. Errors: ledger.ErrExists if
// the name is taken, ErrConflict if the id is taken, and the errors of
// ledger.ValidName.
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
	created := orNow(a.CreatedAt, s.now())
	return s.do(ctx, func(t *tx) error {
		b := s.books
		b.mu.Lock()
		fresh := &account{n: b.nextNumber(), id: a.ID, name: a.Name, created: created, creditLimit: a.CreditLimit, caps: a.Caps}
		nameTaken, idTaken := b.byName[ledger.FoldName(a.Name)] != nil, b.byID[a.ID] != nil
		b.mu.Unlock()
		switch {
		case nameTaken:
			return fmt.Errorf("account %q: %w", a.Name, ledger.ErrExists)
		case idTaken:
			return fmt.Errorf("account id: %w", ledger.ErrConflict)
		}
		if _, err := t.exec(`INSERT INTO account (n, id, name, created_at, credit_limit, cap_call, cap_day, cap_month) VALUES (?,?,?,?,?,?,?,?)`,
			fresh.n, fresh.id, fresh.name, micros(fresh.created), int64(fresh.creditLimit),
			int64(a.Caps.Call), int64(a.Caps.Day), int64(a.Caps.Month)); err != nil {
			return err
		}
		t.after = append(t.after, func() { b.add(fresh) })
		return t.audit(audit, s.now())
	})
}

func checkLimits(a *ledger.Account) error {
	if a.CreditLimit < 0 {
		return fmt.Errorf("credit limit %s is less than zero", a.CreditLimit)
	}
	return a.Caps.Check()
}

// UpdateAccount reads the account with the given id, calls the given function to alter
// CreditLimit and Caps, and writes both with the audit row, all in one transaction.
// UpdateAccount ignores changes to other fields. Open reservations stay; the new limits
// apply to reservations made afterwards. If the function returns an error, or if the
// new limits are invalid, UpdateAccount rolls the transaction back and returns that
// error unchanged. Other errors: ledger.ErrNotFound.
func (s *Store) UpdateAccount(ctx context.Context, id string, change func(*ledger.Account) error, audit ledger.Audit) (ledger.Account, error) {
	var changed ledger.Account
	err := s.do(ctx, func(t *tx) error {
		b := s.books
		b.mu.Lock()
		a, err := b.find(id)
		if err == nil {
			changed = a.public()
		}
		b.mu.Unlock()
		if err == nil {
			err = change(&changed)
		}
		if err == nil {
			err = checkLimits(&changed)
		}
		if err != nil {
			return err
		}
		caps := changed.Caps
		if _, err := t.exec(`UPDATE account SET credit_limit = ?, cap_call = ?, cap_day = ?, cap_month = ? WHERE n = ?`,
			int64(changed.CreditLimit), int64(caps.Call), int64(caps.Day), int64(caps.Month), a.n); err != nil {
			return err
		}
		t.after = append(t.after, func() {
			a.creditLimit, a.caps = changed.CreditLimit, caps
			b.expire(s.now()) // expired reservations must not count in Reserved
			changed = a.public()
		})
		return t.audit(audit, s.now())
	})
	if err != nil {
		return ledger.Account{}, err
	}
	return changed, nil
}

// loadLimits reloads the limits of all accounts, after a change that may or may not
// have been committed.
func (t *tx) loadLimits() error {
	rows, err := t.w.conn.QueryContext(background(), `SELECT n, credit_limit, cap_call, cap_day, cap_month FROM account`)
	if err != nil {
		return failure(err)
	}
	defer rows.Close()
	b := t.w.books
	for rows.Next() {
		var n int64
		var limit ledger.Amount
		var caps ledger.Caps
		if err := rows.Scan(&n, (*int64)(&limit), (*int64)(&caps.Call), (*int64)(&caps.Day), (*int64)(&caps.Month)); err != nil {
			return failure(err)
		}
		b.mu.Lock()
		if a := b.number(n); a != nil {
			a.creditLimit, a.caps = limit, caps
		}
		b.mu.Unlock()
	}
	return failure(rows.Err())
}

// Account returns the account that has ref as its id. If there is no such account, it
// returns the account that has ref as its name, ignoring case. Errors:
// ledger.ErrNotFound.
func (s *Store) Account(ctx context.Context, ref string) (ledger.Account, error) {
	if err := ctx.Err(); err != nil {
		return ledger.Account{}, err
	}
	b := s.books
	b.mu.Lock()
	defer b.mu.Unlock()
	b.expire(s.now())
	a := b.byID[ref]
	if a == nil {
		a = b.byName[ledger.FoldName(ref)]
	}
	if a == nil {
		return ledger.Account{}, fmt.Errorf("account %q: %w", ref, ledger.ErrNotFound)
	}
	return a.public(), nil
}

// Accounts lists the operator's accounts, by default in the order of their creation. It
// also returns the cursor of the next page, "" at the end.
func (s *Store) Accounts(ctx context.Context, p ledger.Page) ([]ledger.Account, string, error) {
	if err := p.Sort.OneOf(ledger.ByCreation, ledger.ByCreationDown, ledger.ByName, ledger.ByNameDown); err != nil {
		return nil, "", err
	}
	if p.Sort.ByName() {
		return s.accountsByName(ctx, p)
	}
	begin, step := int64(0), int64(1)
	if p.Sort.Down() {
		begin, step = math.MaxInt64, -1
	}
	last, err := p.Position(ctx, begin)
	if err != nil {
		return nil, "", err
	}
	b := s.books
	b.mu.Lock()
	defer b.mu.Unlock()
	b.expire(s.now())
	var list []ledger.Account
	for n := min(last, b.nextNumber()) + step; 0 < n && n < b.nextNumber(); n += step {
		a := b.numbered[n]
		if a == nil || a.system() {
			continue
		}
		if len(list) == p.Size() {
			return list, p.CursorAt(last), nil
		}
		list, last = append(list, a.public()), n
	}
	return list, "", nil
}

// selectByName returns a query that selects account.n for a page of accounts, and the
// query's arguments. The query uses the index of account names. The page begins after
// the account with the given number, or at the beginning of the list if the number is
// 0.
func selectByName(p ledger.Page, after int64) (string, []any) {
	compare, down := ">", ""
	if p.Sort.Down() {
		compare, down = "<", " DESC"
	}
	query, args := `SELECT n FROM account WHERE id NOT LIKE '@%'`, []any(nil)
	if after != 0 {
		query, args = query+` AND lower(name) `+compare+` (SELECT lower(name) FROM account WHERE n = ?)`, []any{after}
	}
	return query + ` ORDER BY lower(name)` + down + ` LIMIT ?`, append(args, p.Size()+1)
}

func (s *Store) accountsByName(ctx context.Context, p ledger.Page) ([]ledger.Account, string, error) {
	after, err := p.Position(ctx, 0)
	if err != nil {
		return nil, "", err
	}
	query, args := selectByName(p, after)
	rows, err := s.readers.QueryContext(background(), query, args...)
	if err != nil {
		return nil, "", failure(err)
	}
	defer rows.Close()
	var numbers []int64
	for rows.Next() {
		var n int64
		if err := rows.Scan(&n); err != nil {
			return nil, "", failure(err)
		}
		numbers = append(numbers, n)
	}
	if err := rows.Err(); err != nil {
		return nil, "", failure(err)
	}
	next := ""
	if len(numbers) > p.Size() {
		numbers = numbers[:p.Size()]
		next = p.CursorAt(numbers[len(numbers)-1])
	}
	b := s.books
	b.mu.Lock()
	defer b.mu.Unlock()
	b.expire(s.now())
	var list []ledger.Account
	for _, n := range numbers {
		if a := b.number(n); a != nil {
			list = append(list, a.public())
		}
	}
	return list, next, nil
}

// AccountNames returns a map of account ids to names. It leaves out unknown ids.
func (s *Store) AccountNames(ctx context.Context, ids []string) (map[string]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	names := make(map[string]string, len(ids))
	b := s.books
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, id := range ids {
		if a := b.byID[id]; a != nil {
			names[id] = a.name
		}
	}
	return names, nil
}

// Usage returns the current spending of the account as a whole and of the keys of
// one lineage, in live or test credits. Errors: ledger.ErrNotFound.
func (s *Store) Usage(ctx context.Context, id, lineage string, test bool) (ledger.Usage, error) {
	if err := ctx.Err(); err != nil {
		return ledger.Usage{}, err
	}
	b := s.books
	b.mu.Lock()
	defer b.mu.Unlock()
	a, err := b.find(id)
	if err != nil {
		return ledger.Usage{}, err
	}
	day := b.today(s.now())
	of := func(k counterKey) (spent ledger.Spent) {
		m := b.counters[k]
		if m == nil {
			m = b.loaded[k.subject()]
		}
		if m != nil {
			spent.Day, spent.Month = m.spent(day)
		}
		return spent
	}
	keys := counterKeys(a.n, lineage, "", test)
	return ledger.Usage{Account: of(keys[ofAccount]), Key: of(keys[ofLineage])}, nil
}
