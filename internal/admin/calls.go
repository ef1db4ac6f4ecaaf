package admin

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/fareboxhq/farebox/internal/callrecord"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// CallQuery selects records of calls that charged nothing. An empty field matches all
// records.
type CallQuery struct {
	ledger.Page
	Account      string // the calling account; name or id
	Key          string // id of the key
	Server       string
	Tool         string // the price book's entry
	Outcome      string // refused, failed or free
	Code         string
	Since, Until string // in the forms of ChargeQuery
}

// CallView is the record of a call in JSON.
type CallView struct {
	At           time.Time      `json:"at"` // the end of the call
	Account      string         `json:"account"`
	AccountName  string         `json:"account_name"`
	Key          string         `json:"key"`
	Server       string         `json:"server"`
	Method       string         `json:"method"`
	Tool         string         `json:"tool,omitempty"` // the price book's entry
	Outcome      string         `json:"outcome"`
	Code         string         `json:"code"`
	Environment  string         `json:"environment"`
	Price        *ledger.Amount `json:"price,omitempty"`
	Status       int            `json:"status,omitempty"` // HTTP status of a refusal
	Milliseconds float64        `json:"milliseconds"`     // from the arrival to the end of the response
	Trace        string         `json:"trace,omitempty"`
}

// Calls lists the records of calls that match the query, newest first. A page with
// fewer records than the limit can still have a next page.
func (s *Service) Calls(ctx context.Context, q CallQuery) (List[CallView], error) {
	if s.calls == nil {
		return List[CallView]{}, refuse(Unavailable, "this store keeps no records of calls")
	}
	if q.Outcome != "" && !slices.Contains(callrecord.Outcomes(), callrecord.Outcome(q.Outcome)) {
		return List[CallView]{}, refuse(Invalid, "outcome %q is not known: want refused, failed or free", q.Outcome)
	}
	c, err := s.filter(ctx, &ChargeQuery{Page: q.Page, Account: q.Account, Key: q.Key, Since: q.Since, Until: q.Until})
	if err != nil {
		return List[CallView]{}, err
	}
	if q.Account != "" && q.Key != "" { // without an account, the filter gets the account of the key
		if foreign, err := s.foreignKey(ctx, c.Account, c.Key); foreign || err != nil {
			return List[CallView]{Items: []CallView{}}, err
		}
	}
	rows, next, err := s.calls.Calls(ctx, &callrecord.Filter{
		Page: c.Page, Account: c.Account, Key: c.Key, Server: q.Server, Tool: q.Tool,
		Outcome: callrecord.Outcome(q.Outcome), Code: q.Code, Since: c.Since, Until: c.Until,
	})
	if err != nil {
		return List[CallView]{}, err
	}
	var ids []string
	for i := range rows {
		ids = append(ids, rows[i].Account)
	}
	names, err := s.names(ctx, ids...)
	return ViewList(rows, next, func(r callrecord.Record) CallView { return viewCall(&r, names) }), err
}

// foreignKey reports whether a key belongs to another account than the given one. A
// list filtered by this account and this key would be empty, but its cursors would show
// when the key was used.
func (s *Service) foreignKey(ctx context.Context, account, key string) (bool, error) {
	k, err := s.store.Key(ctx, key)
	if errors.Is(err, ledger.ErrNotFound) {
		return true, nil
	}
	return k.Account != account, err
}

func viewCall(r *callrecord.Record, names map[string]string) CallView {
	return CallView{
		At: r.At, Account: r.Account, AccountName: names[r.Account], Key: r.Key, Server: r.Server, Method: r.Method, Tool: r.Tool,
		Outcome: string(r.Outcome), Code: r.Code, Environment: string(environmentOf(r.Test)), Price: r.Price, Status: r.Status,
		Milliseconds: float64(r.Duration.Microseconds()) / 1000, Trace: r.Trace,
	}
}
