package alert

import (
	"context"
	"time"

	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/recent"
)

// usual caches the usual spending of lineages until the end of the day, because usual
// spending is computed from whole days. It is not safe for concurrent use.
type usual struct {
	day  int32
	seen *recent.Map[ledger.Lineage, ledger.Amount]
}

// maxUsual bounds the number of lineages in the cache.
const maxUsual = 1 << 15

// spending returns the lineage's usual spending of a day, or 0 if there is no usual
// spending.
func (u *usual) spending(ctx context.Context, books Books, l ledger.Lineage, now time.Time) (ledger.Amount, error) {
	if day := ledger.Day(now); u.seen == nil || day != u.day {
		u.day, u.seen = day, recent.New[ledger.Lineage, ledger.Amount](maxUsual)
	}
	if a, ok := u.seen.Get(l); ok {
		return a, nil
	}
	today := now.UTC().Truncate(24 * time.Hour)
	report, err := books.UsageReport(ctx, ledger.UsageQuery{
		Account: l.Account, Key: l.Lineage, By: ledger.ByDay, Since: today.AddDate(0, 0, -usualDays), Until: today,
	})
	if err != nil {
		return 0, err
	}
	if !report.Complete && report.AsOf.Before(today) {
		return 0, nil // yesterday is not in the sums yet, so usual spending is unknown for now
	}
	var days []ledger.Amount
	for i := range report.Rows {
		days = append(days, report.Rows[i].Charged)
	}
	a := usualSpend(days)
	u.seen.Put(l, a)
	return a, nil
}
