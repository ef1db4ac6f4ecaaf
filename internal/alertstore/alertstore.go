// Package alertstore implements alert.Store with SQL statements that are the same for
// SQLite and PostgreSQL.
package alertstore

import (
	"strconv"
	"strings"
	"time"

	"github.com/fareboxhq/farebox/internal/alert"
	"github.com/fareboxhq/farebox/internal/sqltx"
)

// New returns a store in the database, which must have the tables of alerts.
func New(db sqltx.Database) *sqltx.Store[alert.Tx] {
	return sqltx.NewStore(db, func(r sqltx.Rows) alert.Tx { return tx{r} })
}

// tx implements alert.Tx on the rows of one transaction.
type tx struct{ sqltx.Rows }

// inMost is the number of values in one SQL list. Longer lists are split.
const inMost = 200

// in splits values into parts of at most inMost, and calls do(list, args) for each
// part. The list is the SQL text of a list with a placeholder for each value, such as
// ($2,$3). The placeholders are numbered consecutively, beginning with first.
func in(values []string, first int, do func(list string, args []any) error) error {
	for len(values) > 0 {
		part := values[:min(len(values), inMost)]
		values = values[len(part):]
		var list strings.Builder
		args := make([]any, len(part))
		for i, v := range part {
			if i > 0 {
				list.WriteByte(',')
			}
			list.WriteString("$" + strconv.Itoa(first+i))
			args[i] = sqltx.Text(v)
		}
		if err := do("("+list.String()+")", args); err != nil {
			return err
		}
	}
	return nil
}

// Settings returns the settings by account id. It leaves out accounts that never
// changed their settings.
func (t tx) Settings(accounts []string) (map[string]alert.Settings, error) {
	found := make(map[string]alert.Settings)
	err := in(accounts, 1, func(list string, args []any) error {
		return t.Query(func(scan func(...any) error) error {
			var account string
			var s alert.Settings
			var caps, tools, networks int64
			err := scan(&account, (*int64)(&s.Balance), &caps, &s.Spend, &tools, &networks)
			s.Caps, s.Tools, s.Networks = caps != 0, tools != 0, networks != 0
			found[account] = s
			return err
		}, `SELECT account, balance, caps, spend, tools, networks FROM alert_setting WHERE account IN `+list, args...)
	})
	return found, err
}

// PutSettings writes the settings of an account.
func (t tx) PutSettings(account string, s alert.Settings, at time.Time) error {
	_, err := t.Exec(`INSERT INTO alert_setting (account, balance, caps, spend, tools, networks, changed_at) VALUES ($1, $2, $3, $4, $5, $6, $7)
		ON CONFLICT (account) DO UPDATE SET balance = excluded.balance, caps = excluded.caps, spend = excluded.spend,
		tools = excluded.tools, networks = excluded.networks, changed_at = excluded.changed_at`,
		account, int64(s.Balance), sqltx.Flag(s.Caps), s.Spend, sqltx.Flag(s.Tools), sqltx.Flag(s.Networks), sqltx.Micros(at))
	return err
}

// WithBalance lists accounts with a threshold.
func (t tx) WithBalance(after string, limit int) ([]string, error) {
	return t.names(`SELECT account FROM alert_setting WHERE balance > 0 AND account > $1 ORDER BY account LIMIT $2`, after, limit)
}

// WithNetworks lists all accounts that want alerts of kind alert.Network.
func (t tx) WithNetworks() ([]string, error) {
	return t.names(`SELECT account FROM alert_setting WHERE networks = 1`)
}

func (t tx) names(query string, args ...any) (list []string, err error) {
	err = t.Query(func(scan func(...any) error) error {
		var name string
		err := scan(&name)
		list = append(list, name)
		return err
	}, query, args...)
	return list, err
}

// number returns the first column of the first row as a number, or 0 if there are no
// rows.
func (t tx) number(query string, args ...any) (n int64, err error) {
	err = t.Query(func(scan func(...any) error) error { return scan(&n) }, query, args...)
	return n, err
}

// Cursor returns the cursor.
func (t tx) Cursor() (c alert.Cursor, err error) {
	err = t.Query(func(scan func(...any) error) error {
		var at int64
		err := scan(&c.Seq, &at)
		c.At = sqltx.Time(at)
		return err
	}, `SELECT seq, at FROM alert_cursor`)
	return c, err
}

// MoveCursor replaces the cursor by a new one if the stored cursor is the expected one.
func (t tx) MoveCursor(from, to alert.Cursor) (bool, error) {
	n, err := t.Exec(`UPDATE alert_cursor SET seq = $1, at = $2 WHERE seq = $3 AND at = $4`, to.Seq, sqltx.Micros(to.At), from.Seq, sqltx.Micros(from.At))
	return n == 1, err
}

// States returns the states of the kind by subject. It leaves out subjects without a
// state.
func (t tx) States(kind alert.Kind, subjects []string) (map[string]alert.State, error) {
	asked := make(map[string]string, len(subjects)) // subjects by their text in the database
	for _, s := range subjects {
		asked[sqltx.Text(s)] = s
	}
	found := make(map[string]alert.State)
	err := in(subjects, 2, func(list string, args []any) error {
		return t.Query(func(scan func(...any) error) error {
			s := alert.State{Kind: kind}
			var at int64
			err := scan(&s.Subject, &s.Period, &s.Level, (*int64)(&s.Amount), &at)
			s.Subject, s.At = asked[s.Subject], sqltx.Time(at)
			found[s.Subject] = s
			return err
		}, `SELECT subject, period, level, amount, at FROM alert_state WHERE kind = $1 AND subject IN `+list, append([]any{string(kind)}, args...)...)
	})
	return found, err
}

// PutState writes a state.
func (t tx) PutState(s alert.State) error {
	_, err := t.Exec(`INSERT INTO alert_state (kind, subject, period, level, amount, at) VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (kind, subject) DO UPDATE SET period = excluded.period, level = excluded.level, amount = excluded.amount, at = excluded.at`,
		string(s.Kind), sqltx.Text(s.Subject), s.Period, s.Level, int64(s.Amount), sqltx.Micros(s.At))
	return err
}

// CountStates counts states of the kind with a subject that begins with the prefix.
func (t tx) CountStates(kind alert.Kind, prefix string, limit int64) (int64, error) {
	return t.number(`SELECT count(*) FROM (SELECT 1 FROM alert_state WHERE kind = $1 AND subject >= $2 AND subject < $3 LIMIT $4) x`,
		string(kind), sqltx.Text(prefix), sqltx.Text(prefix)+"\U0010FFFF", limit)
}

// Subjects lists subjects of states of the kind.
func (t tx) Subjects(kind alert.Kind, after string, limit int) ([]string, error) {
	return t.names(`SELECT subject FROM alert_state WHERE kind = $1 AND subject > $2 ORDER BY subject LIMIT $3`, string(kind), after, limit)
}

// DeleteStates deletes all states of the kind that belong to the lineage.
func (t tx) DeleteStates(kind alert.Kind, lineage string) error {
	_, err := t.Exec(`DELETE FROM alert_state WHERE kind = $1 AND (subject = $2 OR subject >= $3 AND subject < $4)`,
		string(kind), lineage, lineage+"\n", lineage+"\n\U0010FFFF")
	return err
}

// DeleteBefore deletes old alerts with their deliveries, and old states.
func (t tx) DeleteBefore(alerts, states time.Time, limit int) (n int64, err error) {
	for _, d := range []struct {
		query string
		at    time.Time
	}{
		{`DELETE FROM alert_delivery WHERE alert IN (SELECT id FROM alert WHERE at < $1 ORDER BY n LIMIT $2)`, alerts},
		{`DELETE FROM alert WHERE n IN (SELECT n FROM alert WHERE at < $1 ORDER BY n LIMIT $2)`, alerts},
		{`DELETE FROM alert_state WHERE (kind, subject) IN (SELECT kind, subject FROM alert_state WHERE kind = 'cap' AND at < $1 LIMIT $2)`, states},
		{`DELETE FROM alert_state WHERE (kind, subject) IN (SELECT kind, subject FROM alert_state WHERE kind = 'spend' AND at < $1 LIMIT $2)`, states},
	} {
		deleted, err := t.Exec(d.query, sqltx.Micros(d.at), limit)
		if err != nil {
			return n, err
		}
		n = max(n, deleted)
	}
	return n, nil
}

var _ alert.Store = (*sqltx.Store[alert.Tx])(nil)
