package alertstore

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/fareboxhq/farebox/internal/alert"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/sqltx"
)

// Insert stores an alert.
func (t tx) Insert(a *alert.Alert) error {
	data, err := json.Marshal(a.Data)
	if err != nil {
		return fmt.Errorf("alert %s: %w", a.ID, err)
	}
	_, err = t.Exec(`INSERT INTO alert (id, kind, account, subject, data, at) VALUES ($1, $2, $3, $4, $5, $6)`,
		a.ID, string(a.Kind), a.Account, a.Key, string(data), sqltx.Micros(a.At))
	return err
}

// Sent counts, by kind, the alerts of an account that were raised since the given time
// and have deliveries.
func (t tx) Sent(account string, since time.Time, limit int) (map[alert.Kind]int64, error) {
	sent := make(map[alert.Kind]int64)
	err := t.Query(func(scan func(...any) error) error {
		var kind string
		var n int64
		err := scan(&kind, &n)
		sent[alert.Kind(kind)] = n
		return err
	}, `SELECT a.kind, count(*) FROM (SELECT id, kind, at FROM alert WHERE account = $1 ORDER BY n DESC LIMIT $3) a
		WHERE a.at >= $2 AND EXISTS (SELECT 1 FROM alert_delivery d WHERE d.alert = a.id) GROUP BY a.kind`, account, sqltx.Micros(since), limit)
	return sent, err
}

const alertColumns = `a.n, a.id, a.kind, a.account, a.subject, a.data, a.at`

// alertRow has the columns of an alert.
type alertRow struct {
	n, at int64
	data  string
	a     alert.Alert
}

func (r *alertRow) columns() []any {
	return []any{&r.n, &r.a.ID, (*string)(&r.a.Kind), &r.a.Account, &r.a.Key, &r.data, &r.at}
}

func (r *alertRow) alert() (alert.Alert, error) {
	r.a.At = sqltx.Time(r.at)
	if err := json.Unmarshal([]byte(r.data), &r.a.Data); err != nil {
		return r.a, fmt.Errorf("alert %s: %w", r.a.ID, err)
	}
	return r.a, nil
}

// List lists alerts, newest first.
func (t tx) List(ctx context.Context, f alert.Filter) (list []alert.Alert, next string, err error) {
	last, err := ledger.Cursor(ctx, f.After, math.MaxInt64)
	if err != nil {
		return nil, "", err
	}
	query, args := `SELECT `+alertColumns+` FROM alert a WHERE a.n < $1 AND a.at >= $3`, []any{last, f.Size() + 1, sqltx.Micros(f.Since)}
	for _, equal := range []struct{ column, value string }{{"account", f.Account}, {"kind", string(f.Kind)}} {
		if equal.value != "" {
			args = append(args, equal.value)
			query += ` AND a.` + equal.column + ` = $` + strconv.Itoa(len(args))
		}
	}
	more := false
	err = t.Query(func(scan func(...any) error) error {
		var r alertRow
		if err := scan(r.columns()...); err != nil {
			return err
		}
		if more = len(list) == f.Size(); more {
			return nil
		}
		a, err := r.alert()
		list, last = append(list, a), r.n
		return err
	}, query+` ORDER BY a.n DESC LIMIT $2`, args...)
	if err == nil && more {
		next = strconv.FormatInt(last, 10)
	}
	return list, next, err
}

// InsertDelivery stores a delivery of an alert.
func (t tx) InsertDelivery(d *alert.Delivery) error {
	_, err := t.Exec(`INSERT INTO alert_delivery (alert, channel, target, state, attempts, next_at, problem) VALUES ($1, $2, $3, $4, $5, $6, $7)
		ON CONFLICT DO NOTHING`,
		d.Alert.ID, d.Channel, sqltx.Text(d.Target), int64(d.State), d.Attempts, sqltx.Micros(d.NextAt), sqltx.Text(d.Problem))
	return err
}

// Due returns the pending deliveries of the channel that are due at the given time.
func (t tx) Due(channel string, now time.Time, limit int) (list []alert.Delivery, err error) {
	err = t.Query(func(scan func(...any) error) error {
		var r alertRow
		d := alert.Delivery{Channel: channel}
		var next int64
		if err := scan(append(r.columns(), &d.Target, &d.Attempts, &next, &d.Problem)...); err != nil {
			return err
		}
		d.NextAt = sqltx.Time(next)
		var err error
		d.Alert, err = r.alert()
		list = append(list, d)
		return err
	}, `SELECT `+alertColumns+`, d.target, d.attempts, d.next_at, d.problem
		FROM alert_delivery d JOIN alert a ON a.id = d.alert WHERE d.state = 0 AND d.channel = $1 AND d.next_at <= $2 ORDER BY d.next_at LIMIT $3`, channel, sqltx.Micros(now), limit)
	return list, err
}

// UpdateDelivery writes the state of a delivery if the stored number of attempts is the
// given one.
func (t tx) UpdateDelivery(d *alert.Delivery, attempts int64) (bool, error) {
	n, err := t.Exec(`UPDATE alert_delivery SET state = $4, attempts = $5, next_at = $6, problem = $7
		WHERE alert = $1 AND channel = $2 AND target = $3 AND attempts = $8 AND state = 0`,
		d.Alert.ID, d.Channel, sqltx.Text(d.Target), int64(d.State), d.Attempts, sqltx.Micros(d.NextAt), sqltx.Text(d.Problem), attempts)
	return n == 1, err
}

// DeliveriesOf returns the deliveries of alerts.
func (t tx) DeliveriesOf(alerts []string) (list []alert.Delivery, err error) {
	err = in(alerts, 1, func(of string, args []any) error {
		return t.Query(func(scan func(...any) error) error {
			var d alert.Delivery
			var next int64
			err := scan(&d.Alert.ID, &d.Channel, &d.Target, (*int64)(&d.State), &d.Attempts, &next, &d.Problem)
			d.NextAt = sqltx.Time(next)
			list = append(list, d)
			return err
		}, `SELECT alert, channel, target, state, attempts, next_at, problem FROM alert_delivery WHERE alert IN `+of+` ORDER BY alert, channel, target`, args...)
	})
	return list, err
}
