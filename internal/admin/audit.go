package admin

import (
	"context"
	"regexp"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// AuditQuery selects audit records. An empty field matches all records.
type AuditQuery struct {
	ledger.Page
	Actor        string // the id of a key, or a name such as "offline"
	Action       string // such as "key.delete"
	Account      string // the account that was changed; name or id
	Key          string // id of the key that was changed, or that a rotation made
	Target       string // id of the object that was changed, such as a charge
	Since, Until string // times, written as in ChargeQuery
}

// action matches the form of all actions: words separated by dots, such as key.delete.
var action = regexp.MustCompile(`^[a-z]+(\.[a-z]+)+$`)

// AuditLog lists the audit records that match the query, newest first. The returned
// cursor is "" on the last page.
func (s *Service) AuditLog(ctx context.Context, q AuditQuery) ([]ledger.Audit, string, error) {
	f := ledger.AuditFilter{Page: q.Page, Actor: q.Actor, Action: q.Action}
	if q.Action != "" && !action.MatchString(q.Action) {
		return nil, "", refuse(Invalid, "action %q is not a noun and a verb, such as key.delete", q.Action)
	}
	err := checkKeyID(q.Key)
	if err == nil && countGiven(q.Account, q.Key, q.Target) > 1 {
		err = refuse(Invalid, "a record has one target: choose by account, by key or by target")
	}
	if err != nil {
		return nil, "", err
	}
	f.Key, f.Target = q.Key, q.Target
	if q.Account != "" {
		account, err := s.Account(ctx, q.Account)
		if err != nil {
			return nil, "", err
		}
		f.Target = account.ID
	}
	if f.Since, err = s.Moment("since", q.Since); err != nil {
		return nil, "", err
	}
	if f.Until, err = s.Moment("until", q.Until); err != nil {
		return nil, "", err
	}
	return s.store.AuditLog(ctx, f)
}

// countGiven returns the number of texts that are not empty.
func countGiven(texts ...string) (n int) {
	for _, text := range texts {
		if text != "" {
			n++
		}
	}
	return n
}
