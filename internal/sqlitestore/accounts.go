package sqlitestore

import (
	"context"
	"fmt"
	"strconv"
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

// UpdateAccount reads the account with the given id, calls the function change to
// alter its CreditLimit and Caps, and writes them with the audit row, all in one
// transaction. It ignores changes to other fields. An error from this function
// aborts the transaction and is returned as it is. Open reservations stay; the new
// limits apply to reservations made afterwards. Other errors: ledger.ErrNotFound.
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
			b.expire(s.now()) // so that Reserved counts open reservations only
			changed = a.public()
		})
		return t.audit(audit, s.now())
	})
	if err != nil {
		return ledger.Account{}, err
	}
	return changed, nil
}

// loadLimits reloads the limits of all accounts after a change with an unknown
// outcome.
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

// Account returns the account with the id ref. If there is no such account, it
// returns the account with the name ref, ignoring case. Errors: ledger.ErrNotFound.
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

// Accounts lists the operator's accounts in the order of their creation. It also
// returns the cursor of the next page, "" at the end.
func (s *Store) Accounts(ctx context.Context, p ledger.Page) ([]ledger.Account, string, error) {
	last, err := ledger.Cursor(ctx, p.After, 0)
	if err != nil {
		return nil, "", err
	}
	b := s.books
	b.mu.Lock()
	defer b.mu.Unlock()
	b.expire(s.now())
	var list []ledger.Account
	for n := last + 1; n < b.nextNumber(); n++ {
		a := b.numbered[n]
		if a == nil || a.system() {
			continue
		}
		if len(list) == p.Size() {
			return list, strconv.FormatInt(last, 10), nil
		}
		list, last = append(list, a.public()), n
	}
	return list, "", nil
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
