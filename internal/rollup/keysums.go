package rollup

import (
	"context"
	"math"
	"time"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// KeySums returns the sums of some lineages of keys, live and test together, since the
// beginning of the day with the given time. The result has no entry for a lineage
// without calls and refunds. If the sums are far behind the journal, the latest
// transactions are missing, as in Report. KeySums reads the sums of all lineages with
// one query.
func KeySums(ctx context.Context, r Reader, lineages []string, since time.Time) (map[string]ledger.UsageSums, error) {
	found := map[string]ledger.UsageSums{}
	state, err := r.State(ctx)
	if err != nil {
		return nil, err
	}
	numbers, err := r.KeysOf(ctx, lineages)
	if err != nil {
		return nil, err
	}
	from := days.bucketOf(since.UnixMicro())
	add := func(lineage string, more *ledger.UsageSums) {
		sums := found[lineage]
		sums.Add(more)
		found[lineage] = sums
	}
	if len(numbers) > 0 {
		names := make(map[int64]string, len(numbers))
		subjects := make([]int64, len(numbers))
		for i, k := range numbers {
			names[k.N], subjects[i] = k.Name.Lineage, k.N
		}
		for _, test := range []bool{false, true} {
			lines, err := r.Sums(ctx, &Select{
				view: viewOf(keyTools, days, test), subjects: subjects, from: from, until: math.MaxInt64, order: []string{columnNames[0]},
				after: Position{math.MinInt64}, limit: len(subjects),
			})
			if err != nil {
				return nil, err
			}
			for i := range lines {
				add(names[lines[i].Position[0]], &lines[i].UsageSums)
			}
		}
	}
	wanted := make(map[string]bool, len(lineages))
	for _, lineage := range lineages {
		wanted[lineage] = true
	}
	list, err := r.Journal(ctx, state.Cursor, maxTail+1)
	if err != nil || len(list) > maxTail {
		return found, err
	}
	for i := range list {
		if t := &list[i]; t.Kind != Other && wanted[t.Lineage] && days.bucketOf(t.At) >= from {
			more := t.sums()
			add(t.Lineage, &more)
		}
	}
	return found, nil
}
