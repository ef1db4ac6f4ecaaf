// Package callstore stores call records with SQL statements that are the same for
// SQLite and PostgreSQL.
package callstore

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/fareboxhq/farebox/internal/callrecord"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/sqltx"
)

// Bounds of the work for one page.
const (
	scanStep = 500  // records that one query returns
	scanMost = 5000 // records that are read for one page, if few of them match the filter
)

// Backend is a store that gives other packages access to its database, and that keeps
// sums of usage.
type Backend interface {
	Rows() sqltx.Database
	CountCalls(ctx context.Context, calls []ledger.CallCount) error
	Healthy() error
}

// Store implements callrecord.Store and callrecord.Lister. It is safe for concurrent use.
type Store struct {
	backend Backend
	db      sqltx.Database
}

// New returns a Store on the database of the backend.
func New(b Backend) *Store { return &Store{b, b.Rows()} }

// Healthy returns nil, or the reason why the database cannot be written at present.
func (s *Store) Healthy() error { return s.backend.Healthy() }

// Count adds counts to the sums of usage.
func (s *Store) Count(ctx context.Context, counts []ledger.CallCount) error {
	return s.backend.CountCalls(ctx, counts)
}

// columns lists the columns of a record, except for its number n.
const columns = `at, account, key_id, server, method, tool, outcome, code, test, price, status, duration, trace`

// columnCount is the number of columns of a record, except for its number n.
const columnCount = 13

// rowsAtOnce is the number of records that one statement writes.
const rowsAtOnce = 20

// Append writes records in one transaction.
func (s *Store) Append(ctx context.Context, list []callrecord.Record) error {
	return s.db.Change(ctx, func(c sqltx.Conn) error {
		for rest := list; len(rest) > 0; {
			n := min(len(rest), rowsAtOnce)
			args := make([]any, 0, n*columnCount)
			for i := range rest[:n] {
				args = append(args, values(&rest[i])...)
			}
			if _, err := c.Exec(`INSERT INTO call_record (`+columns+`) VALUES `+placeholders(n), args...); err != nil {
				return err
			}
			rest = rest[n:]
		}
		return nil
	})
}

// placeholders returns the SQL text with a list of placeholders for each of n records.
func placeholders(n int) string {
	var b strings.Builder
	for i := range n * columnCount {
		switch {
		case i == 0:
			b.WriteByte('(')
		case i%columnCount == 0:
			b.WriteString("),(")
		default:
			b.WriteByte(',')
		}
		b.WriteByte('$')
		b.WriteString(strconv.Itoa(i + 1))
	}
	b.WriteByte(')')
	return b.String()
}

// noPrice stands for an unknown price in the database.
const noPrice = -1

// values returns the values for the columns of a record.
func values(r *callrecord.Record) []any {
	price := int64(noPrice)
	if r.Price != nil {
		price = int64(*r.Price)
	}
	return []any{
		r.At.UnixMicro(), sqltx.Text(r.Account), sqltx.Text(r.Key), sqltx.Text(r.Server), sqltx.Text(r.Method), sqltx.Text(r.Tool), string(r.Outcome), r.Code,
		sqltx.Flag(r.Test), price, int64(r.Status), r.Duration.Microseconds(), sqltx.Text(r.Trace),
	}
}

// position is the sort key of a record. Lists are sorted by position, in descending
// order.
type position struct{ at, n int64 }

// parseCursor returns the position in a cursor. The next page begins after this
// position.
func parseCursor(text string) (position, error) {
	at, n, ok := strings.Cut(text, ".")
	var p position
	var err, err2 error
	p.at, err = strconv.ParseInt(at, 10, 64)
	p.n, err2 = strconv.ParseInt(n, 10, 64)
	if !ok || err != nil || err2 != nil {
		return p, fmt.Errorf("%w: the cursor does not come from a list of calls", ledger.ErrInvalid)
	}
	return p, nil
}

// Calls lists the records that match the filter, newest first.
func (s *Store) Calls(ctx context.Context, f *callrecord.Filter) (list []callrecord.Record, next string, err error) {
	last := position{math.MaxInt64, math.MaxInt64}
	if !f.Until.IsZero() {
		last = position{f.Until.UnixMicro() - 1, math.MaxInt64}
	}
	if f.After != "" {
		if last, err = parseCursor(f.After); err != nil {
			return nil, "", err
		}
	}
	size, step := f.Size(), scanStep
	if indexed(f) {
		step = min(step, size+1)
	}
	for read := 0; read < scanMost; read += step {
		rows, err := s.scan(ctx, f, last, step)
		if err != nil {
			return nil, "", err
		}
		for i := range rows {
			r := &rows[i]
			if f.Matches(&r.Record) {
				if len(list) == size { // there is another page, which begins with this record
					return list, fmt.Sprintf("%d.%d", last.at, last.n), nil
				}
				list = append(list, r.Record)
			}
			last = r.position
		}
		if len(rows) < step {
			return list, "", nil
		}
	}
	return list, fmt.Sprintf("%d.%d", last.at, last.n), nil
}

// row is a record with its position.
type row struct {
	position
	callrecord.Record
}

// indexed reports whether all records that Store.scan returns match the filter.
func indexed(f *callrecord.Filter) bool {
	return f.Server == "" && f.Tool == "" && f.Outcome == "" && f.Code == "" && (f.Account == "" || f.Key == "")
}

// scan reads the next records after a position, with the index that suits the filter.
// It applies only some of the filter's fields; the caller must apply the others.
func (s *Store) scan(ctx context.Context, f *callrecord.Filter, after position, limit int) (list []row, err error) {
	query, args := `SELECT n, `+columns+` FROM call_record WHERE (at, n) < ($1, $2)`, []any{after.at, after.n}
	and := func(condition string, arg any) {
		args = append(args, arg)
		query += " AND " + condition + "$" + strconv.Itoa(len(args))
	}
	if !f.Since.IsZero() {
		and("at >= ", f.Since.UnixMicro())
	}
	switch {
	case f.Key != "":
		and("key_id = ", sqltx.Text(f.Key))
	case f.Account != "":
		and("account = ", sqltx.Text(f.Account))
	}
	query += ` ORDER BY at DESC, n DESC LIMIT ` + strconv.Itoa(limit)
	err = s.db.View(ctx, func(c sqltx.Conn) error {
		return c.Query(func(scan func(into ...any) error) error {
			r, err := read(scan)
			list = append(list, r)
			return err
		}, query, args...)
	})
	return list, err
}

// read reads a row.
func read(scan func(into ...any) error) (row, error) {
	var r row
	var test, price, status, duration int64
	err := scan(&r.n, &r.at, &r.Account, &r.Key, &r.Server, &r.Method, &r.Tool, (*string)(&r.Outcome), &r.Code, &test, &price, &status, &duration, &r.Trace)
	r.At, r.Test, r.Status, r.Duration = time.UnixMicro(r.at).UTC(), test != 0, int(status), time.Duration(duration)*time.Microsecond
	if price != noPrice {
		amount := ledger.Amount(price)
		r.Price = &amount
	}
	return r, err
}

// Sweep deletes old records: at most limit records that ended before the given time
// and, if there are more records than the given maximum, at most limit of the oldest
// ones. It returns the number of deleted records. If no record has to be deleted, it
// begins no transaction that could write.
func (s *Store) Sweep(ctx context.Context, before time.Time, most int64, limit int) (deleted int64, err error) {
	var oldest, first, last int64
	err = s.db.View(ctx, func(c sqltx.Conn) error {
		return c.Query(func(scan func(into ...any) error) error { return scan(&oldest, &first, &last) },
			`SELECT coalesce((SELECT min(at) FROM call_record), $1), coalesce((SELECT min(n) FROM call_record), 0), coalesce((SELECT max(n) FROM call_record), -1)`,
			int64(math.MaxInt64))
	})
	tooOld, tooMany := oldest < before.UnixMicro(), last-first+1 > most
	if err != nil || !tooOld && !tooMany {
		return 0, err
	}
	err = s.db.Change(ctx, func(c sqltx.Conn) error {
		if tooOld {
			n, err := c.Exec(`DELETE FROM call_record WHERE n IN (SELECT n FROM call_record WHERE at < $1 ORDER BY at LIMIT $2)`, before.UnixMicro(), limit)
			if deleted = n; err != nil {
				return err
			}
		}
		if tooMany && deleted < int64(limit) {
			n, err := c.Exec(`DELETE FROM call_record WHERE n IN (SELECT n FROM call_record WHERE n <= $1 ORDER BY n LIMIT $2)`, last-most, limit)
			deleted += n
			return err
		}
		return nil
	})
	return deleted, err
}
