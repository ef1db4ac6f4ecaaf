package admin

import (
	"context"
	"errors"
	"time"

	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// UsageQuery selects charges, and determines how a report sums them up. A field that
// selects charges matches all charges if it is empty.
type UsageQuery struct {
	ledger.Page
	Account      string // the account that paid; name or id
	Provider     string // the account that earned; name or id
	Key          string // id of a key; selects the charges of the key's lineage
	Server       string
	Tool         string
	Environment  string // live or test; "" means live
	Since, Until string // in the forms of ChargeQuery; extended to whole periods
	By           string // hour, day or month; "" means day
	Group        string // none, account, key, server or tool; "" means none
}

// UsageRowView is a row of a report of usage in JSON.
type UsageRowView struct {
	At          time.Time     `json:"at"` // the beginning of the period
	Account     string        `json:"account,omitempty"`
	AccountName string        `json:"account_name,omitempty"`
	Key         string        `json:"key,omitempty"` // lineage of the keys that paid: the id of its first key
	Server      string        `json:"server,omitempty"`
	Tool        string        `json:"tool,omitempty"`
	Environment string        `json:"environment"`
	Calls       int64         `json:"calls"`
	Free        int64         `json:"free"`    // calls that a free quota covered
	Charged     ledger.Amount `json:"charged"` // amount before refunds
	Refunds     int64         `json:"refunds"`
	Refunded    ledger.Amount `json:"refunded"`
	Fee         ledger.Amount `json:"fee"` // the operator's share of the charged amount
	FeeReturned ledger.Amount `json:"fee_returned"`
	Earned      ledger.Amount `json:"earned"`  // the providers' share, after refunds and fees
	Refused     int64         `json:"refused"` // number of calls that were refused; Calls does not include them
	Failed      int64         `json:"failed"`  // number of calls that failed; Calls does not include them
}

// UsageView is a page of a report of usage in JSON.
type UsageView struct {
	Items []UsageRowView `json:"items"`
	Next  string         `json:"next,omitempty"`
	// Complete reports whether the sums include all charges. If not, the server is
	// still summing up, and the charges after AsOf are missing.
	Complete bool       `json:"complete"`
	AsOf     *time.Time `json:"as_of"`
	// From is the beginning of the hourly sums: the store has deleted the sums of
	// earlier hours. It is nil if no hourly sums were deleted, or if the report is not
	// by hours.
	From *time.Time `json:"from,omitempty"`
	// After is the time of the last transaction that the sums lack because it was
	// archived before it was summed up. It is nil if the sums lack no such transaction.
	After *time.Time `json:"after,omitempty"`
}

// Usage sums up charges, and counts the calls that were refused or failed, by periods.
// Rows are sorted by their period. The rows of some reports are sorted by their group
// first: when the group is the account or the key, and the query has a filter or asks
// for hours.
func (s *Service) Usage(ctx context.Context, q UsageQuery) (UsageView, error) {
	query, err := s.usageQuery(ctx, &q)
	if err != nil {
		return UsageView{}, err
	}
	r, err := s.store.UsageReport(ctx, query)
	if err != nil {
		return UsageView{}, err
	}
	var ids []string
	for i := range r.Rows {
		if id := r.Rows[i].Account; id != "" {
			ids = append(ids, id)
		}
	}
	names, err := s.names(ctx, ids...)
	if err != nil {
		return UsageView{}, err
	}
	v := UsageView{
		Items: make([]UsageRowView, len(r.Rows)), Next: r.Next, Complete: r.Complete,
		AsOf: timeOrNull(r.AsOf), From: timeOrNull(r.From), After: timeOrNull(r.Archived),
	}
	for i := range r.Rows {
		v.Items[i] = viewUsage(&r.Rows[i], names, query.Test)
	}
	return v, nil
}

func viewUsage(r *ledger.UsageRow, names map[string]string, test bool) UsageRowView {
	return UsageRowView{
		At: r.At, Account: r.Account, AccountName: names[r.Account], Key: r.Key, Server: r.Server, Tool: r.Tool, Environment: string(environmentOf(test)),
		Calls: r.Calls, Free: r.Free, Charged: r.Charged, Refunds: r.RefundCount, Refunded: r.Refunded, Fee: r.Fee, FeeReturned: r.FeeReturned, Earned: r.Earned(),
		Refused: r.Refused, Failed: r.Failed,
	}
}

// usageQuery returns the query for a store.
func (s *Service) usageQuery(ctx context.Context, q *UsageQuery) (ledger.UsageQuery, error) {
	f, err := s.filter(ctx, &ChargeQuery{
		Page: q.Page, Account: q.Account, Provider: q.Provider, Key: q.Key, Server: q.Server, Tool: q.Tool, Since: q.Since, Until: q.Until,
	})
	query := ledger.UsageQuery{
		Page: f.Page, Account: f.Account, Provider: f.Provider, Server: f.Server, Tool: f.Tool, Since: f.Since, Until: f.Until,
		By: ledger.UsageBy(q.By), Group: ledger.UsageGroup(q.Group),
	}
	if err != nil {
		return query, err
	}
	switch keys.Environment(q.Environment) {
	case "", keys.Live:
	case keys.Test:
		query.Test = true
	default:
		return query, refuse(Invalid, "environment %q is not known: want live or test", q.Environment)
	}
	if f.Key == "" {
		return query, nil
	}
	key, err := s.store.Key(ctx, f.Key)
	switch {
	case err == nil:
		query.Key = key.Lineage
	case errors.Is(err, ledger.ErrNotFound), errors.Is(err, keys.ErrUnknown):
		query.Key, err = f.Key, nil // other credentials than stored keys can have charges, too
	}
	return query, err
}
