package admin

import (
	"context"
	"errors"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// ChargeQuery selects charges. An empty field matches all charges.
type ChargeQuery struct {
	ledger.Page
	Account  string // the account that paid; name or id
	Provider string // the account that earned; name or id
	Key      string // id of the key that paid
	Server   string
	Tool     string
	// Since and Until each hold one of three forms: a duration before now (36h or 7d),
	// the beginning of a day in UTC (2026-11-30), or a time in RFC 3339
	// (2026-11-30T12:00:00Z). A charge made exactly at Until is not selected.
	Since, Until string
}

// filter returns the query as the filter for a store.
func (s *Service) filter(ctx context.Context, q *ChargeQuery) (ledger.ChargeFilter, error) {
	f := ledger.ChargeFilter{Page: q.Page, Key: q.Key, Server: q.Server, Tool: q.Tool}
	if err := checkKeyID(q.Key); err != nil {
		return f, err
	}
	for _, of := range [...]struct {
		ref string
		id  *string
	}{{q.Account, &f.Account}, {q.Provider, &f.Provider}} {
		if of.ref == "" {
			continue
		}
		a, err := s.Account(ctx, of.ref)
		if err != nil {
			return f, err
		}
		*of.id = a.ID
	}
	if err := s.accountOfKey(ctx, &f); err != nil {
		return f, err
	}
	var err error
	if f.Since, err = s.Moment("since", q.Since); err != nil {
		return f, err
	}
	f.Until, err = s.Moment("until", q.Until)
	return f, err
}

// accountOfKey adds the account of the key to a filter that has a key and no account.
// All charges of the key belong to this account, and a store finds the charges of an
// account faster than the charges of a key. A key that the store does not know has no
// charges.
func (s *Service) accountOfKey(ctx context.Context, f *ledger.ChargeFilter) error {
	if f.Key == "" || f.Account != "" || f.Sort == ledger.ByTime { // no store lists the charges of one account in the order ByTime
		return nil
	}
	k, err := s.store.Key(ctx, f.Key)
	if errors.Is(err, ledger.ErrNotFound) {
		return nil
	}
	f.Account = k.Account
	return err
}

// checkKeyID refuses a text that is not the id of a key or of another credential. It
// accepts "", which stands for any key.
func checkKeyID(id string) error {
	if id != "" && !keys.IsCredentialID(id) {
		return refuse(Invalid, "key is not the id of a key, which begins with key_") // do not quote the value, which may be a secret
	}
	return nil
}

// Moment parses the text of Since or Until of a ChargeQuery. It returns the zero time
// for "". Error messages contain name, which is the name of the query's field.
func (s *Service) Moment(name, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if t, err := time.Parse(layout, text); err == nil {
			return t.UTC(), nil
		}
	}
	if ago, ok := parseAgo(text); ok {
		return s.now().Add(-ago), nil
	}
	return time.Time{}, refuse(Invalid, "%s %q is neither a time before now, such as 36h or 7d, nor a day, such as 2026-11-30, nor a time such as 2026-11-30T12:00:00Z", name, text)
}

// maxAgo is the longest duration that Since and Until accept. Stores accept only a
// certain range of times. The bound ensures that a time computed from such a
// duration is within that range.
const maxAgo = 36500 * 24 * time.Hour

func parseAgo(text string) (time.Duration, bool) {
	d, err := clock.ParseDuration(text)
	return d, err == nil && d >= 0 && d <= maxAgo
}

// Charges lists the charges that match the query, newest first. A page with fewer
// charges than the limit can still have a next page.
func (s *Service) Charges(ctx context.Context, q ChargeQuery) (List[ChargeView], error) {
	f, err := s.filter(ctx, &q)
	if err != nil {
		return List[ChargeView]{}, err
	}
	rows, next, err := s.store.Charges(ctx, f)
	if err != nil {
		return List[ChargeView]{}, err
	}
	ids := make([]string, 0, 2*len(rows))
	for i := range rows {
		ids = append(ids, rows[i].Account, rows[i].Provider)
	}
	names, err := s.names(ctx, ids...)
	if err != nil {
		return List[ChargeView]{}, err
	}
	l := ViewList(rows, next, func(c ledger.Charge) ChargeView { return viewCharge(c, names) })
	oldest := next == "" // whether the page has the oldest charges
	if f.Sort == ledger.ByTime {
		oldest = f.After == ""
	}
	if oldest {
		_, l.Archived, err = s.ArchivedCounts(ctx)
	}
	return l, err
}

// names returns the names of accounts by their ids.
func (s *Service) names(ctx context.Context, ids ...string) (map[string]string, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	return s.store.AccountNames(ctx, ids)
}

// ViewCharge returns the view of a charge.
func (s *Service) ViewCharge(ctx context.Context, c ledger.Charge) ChargeView {
	names, _ := s.names(ctx, c.Account, c.Provider) // a view without names is better than no view
	return viewCharge(c, names)
}

// ShowCharge returns the view of a charge with its entries.
func (s *Service) ShowCharge(ctx context.Context, id string) (ChargeView, error) {
	c, err := s.Charge(ctx, id)
	if err != nil {
		return ChargeView{}, err
	}
	transactions, err := s.store.ChargeTransactions(ctx, id)
	if err != nil {
		return ChargeView{}, explain(err, "charge", id)
	}
	accounts := []string{c.Account, c.Provider}
	for _, t := range transactions {
		accounts = append(accounts, t.Debtor, t.Creditor)
	}
	names, _ := s.names(ctx, accounts...) // a view without names is better than no view
	view := viewCharge(c, names)
	view.Entries = viewEntries(transactions, names)
	return view, nil
}

// partsOfSum is the maximum number of pages of charges that one call of SumCharges
// reads.
const partsOfSum = 20

// SumCharges sums up the charges that match the query. If there are too many charges
// for one call, it returns the sum of the first charges, and sets Next to the cursor
// for the remaining ones. The caller has to add these partial sums up.
func (s *Service) SumCharges(ctx context.Context, q ChargeQuery) (ChargeSums, error) {
	q.Limit = ledger.MaxPage
	f, err := s.filter(ctx, &q)
	if err != nil {
		return ChargeSums{}, err
	}
	var sums ChargeSums
	for range partsOfSum {
		var rows []ledger.Charge
		if rows, f.After, err = s.store.Charges(ctx, f); err != nil {
			return ChargeSums{}, err
		}
		for i := range rows {
			if err := sums.count(&rows[i]); err != nil {
				return ChargeSums{}, err
			}
		}
		if f.After == "" {
			_, sums.Archived, err = s.ArchivedCounts(ctx)
			return sums, err
		}
	}
	sums.Next = f.After
	return sums, nil
}

// ChargeSums are the sums of charges, live and test.
type ChargeSums struct {
	Live ChargeSum `json:"live"`
	Test ChargeSum `json:"test"`
	Next string    `json:"next,omitempty"` // cursor for the sum of the remaining charges; "" if the sum is complete
	// Archived is the number of archived charges of all accounts. It is set only if
	// Next is "".
	Archived int64 `json:"archived,omitempty"`
}

// ChargeSum is the sum of charges in one environment.
type ChargeSum struct {
	Charges  int64         `json:"charges"`
	Amount   ledger.Amount `json:"amount"` // sum of the amounts that payers paid
	Fees     ledger.Amount `json:"fees"`   // the operator's share of the amount, before refunds
	Refunded ledger.Amount `json:"refunded"`
}

func (s *ChargeSums) count(c *ledger.Charge) error {
	sum := &s.Live
	if c.Test {
		sum = &s.Test
	}
	return sum.Add(ChargeSum{1, c.Paid(), feeOf(c), c.Refunded})
}

// Add adds another sum. It fails if the result is too large.
func (s *ChargeSum) Add(other ChargeSum) error {
	s.Charges += other.Charges
	for _, of := range [...]struct {
		to   *ledger.Amount
		more ledger.Amount
	}{{&s.Amount, other.Amount}, {&s.Fees, other.Fees}, {&s.Refunded, other.Refunded}} {
		sum, err := of.to.Add(of.more)
		if err != nil {
			return refuse(Invalid, "the sum is too large: choose fewer charges")
		}
		*of.to = sum
	}
	return nil
}
