package admin

import (
	"context"
	"errors"
	"strings"
	"time"

	ids "github.com/fareboxhq/farebox/internal/id"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// Credit moves credits to an account, or from it if the amount is negative.
type Credit struct {
	ID      string        `json:"id,omitempty" doc:"txn_ and a UUID, made by the caller: repeating the same under the same id changes nothing"`
	Account string        `json:"-"` // name or id of the account
	Amount  ledger.Amount `json:"amount"`
	Reason  string        `json:"reason" doc:"For the journal and the audit log"`
	Test    bool          `json:"test,omitempty" doc:"Move test credits"`
}

// Credit tops an account up and returns the account as it is afterwards. Repeating a
// credit with the same id changes nothing.
func (s *Service) Credit(ctx context.Context, actor Actor, c Credit) (ledger.Account, error) {
	if c.Amount <= 0 {
		return ledger.Account{}, refuseField("amount", "the amount must be more than zero, not %s", c.Amount)
	}
	return s.fund(ctx, actor, "account.credit", ledger.KindCredit, c)
}

// Adjust corrects an account's balance by an amount that may be negative, and
// returns the account as it is afterwards. An adjustment may take the balance below
// the credit limit, and then no further reservation is possible. Repeating an
// adjustment with the same id changes nothing.
func (s *Service) Adjust(ctx context.Context, actor Actor, c Credit) (ledger.Account, error) {
	if c.Amount == 0 {
		return ledger.Account{}, refuseField("amount", "an adjustment of zero changes nothing")
	}
	return s.fund(ctx, actor, "account.adjust", ledger.KindAdjustment, c)
}

func (s *Service) fund(ctx context.Context, actor Actor, action string, kind ledger.Kind, c Credit) (ledger.Account, error) {
	var err error
	if c.ID, err = checkBooking(c.ID, c.Reason); err != nil {
		return ledger.Account{}, err
	}
	account, err := s.Account(ctx, c.Account)
	if err != nil {
		return account, err
	}
	t := ledger.Transaction{
		ID: c.ID, Kind: kind, Creditor: account.ID, Amount: c.Amount, Test: c.Test, At: s.now(), Reason: c.Reason,
	}
	if c.Amount < 0 {
		t.Creditor, t.Debtor, t.Amount = "", account.ID, -c.Amount
	}
	if _, _, err = s.store.PostTransaction(ctx, t, s.audit(actor, action, account.ID, c)); err != nil {
		return ledger.Account{}, explain(err, "account", c.Account)
	}
	return s.Account(ctx, account.ID)
}

// checkBooking refuses a movement of credits without a reason. It returns the id of the
// movement, or a new id if the request has none.
func checkBooking(id, reason string) (string, error) {
	switch {
	case strings.TrimSpace(reason) == "":
		return "", refuseField("reason", "a reason is needed: --reason \"…\"")
	case id == "":
		return ids.New("txn_"), nil
	case !validID("txn_", id):
		return "", refuse(Invalid, "id %q is not allowed: want txn_ and a UUID", id)
	}
	return id, nil
}

// Refund is a request to refund a charge.
type Refund struct {
	ID     string         `json:"id,omitempty" doc:"txn_ and a UUID, made by the caller: repeating the same under the same id changes nothing"`
	Charge string         `json:"-"`
	Amount *ledger.Amount `json:"amount,omitempty" doc:"Absent: all that is left of the charge"`
	Reason string         `json:"reason" doc:"For the journal and the audit log"`
}

// Refund refunds a charge in whole or in part, but never more than its amount, and
// returns the charge as it is afterwards. The provider pays for the refund, even if
// the provider's balance becomes negative. Repeating a refund with the same id
// changes nothing.
func (s *Service) Refund(ctx context.Context, actor Actor, r Refund) (ledger.Charge, error) {
	repeatable := r.ID != ""
	var err error
	if r.ID, err = checkBooking(r.ID, r.Reason); err != nil {
		return ledger.Charge{}, err
	}
	t := ledger.Transaction{ID: r.ID, Kind: ledger.KindRefund, Charge: r.Charge, At: s.now(), Reason: r.Reason}
	if r.Amount != nil {
		if t.Amount = *r.Amount; t.Amount <= 0 {
			return ledger.Charge{}, refuseField("amount", "the amount must be more than zero, not %s; leave it out to refund all that is left", t.Amount)
		}
	}
	posted, _, err := s.store.PostTransaction(ctx, t, s.audit(actor, "charge.refund", r.Charge, r))
	switch {
	case errors.Is(err, ledger.ErrArchived):
		if errors.Is(err, ledger.ErrNotFound) {
			return ledger.Charge{}, refuse(Invalid, "it cannot be refunded any more: %v. To give the amount back all the same, use adjust", err)
		}
		return ledger.Charge{}, explain(err, "charge", r.Charge)
	case errors.Is(err, ledger.ErrSettled):
		return ledger.Charge{}, refuse(Invalid, "nothing is left to refund of charge %q", r.Charge)
	case errors.Is(err, ledger.ErrInsufficient):
		return ledger.Charge{}, refuseField("amount", "that is more than is left of charge %q", r.Charge)
	case err != nil:
		return ledger.Charge{}, explain(err, "charge", r.Charge)
	}
	c, err := s.Charge(ctx, r.Charge)
	// Do not count a refund again if the request is a repetition. A repetition gets the
	// refund that was booked before, and that refund has an earlier time. The minute
	// allows for a difference between the clock of this process and the clock of the
	// store, which sets the refund's time.
	if s.refunded != nil && (!repeatable || posted.At.After(t.At.Add(-time.Minute))) {
		s.refunded(c.Server, posted.Amount, c.Test)
	}
	return c, err
}

// Charge returns the charge with the given id.
func (s *Service) Charge(ctx context.Context, id string) (ledger.Charge, error) {
	c, err := s.store.ChargeByID(ctx, id)
	return c, explain(err, "charge", id)
}

// Journal lists all movements of credits, oldest first.
func (s *Service) Journal(ctx context.Context, p ledger.Page) ([]ledger.Transaction, string, error) {
	return s.store.Journal(ctx, p)
}

// JournalLength returns the number of movements of credits.
func (s *Service) JournalLength(ctx context.Context) (int64, error) {
	return s.store.JournalLength(ctx)
}

// JournalPage returns a page of the journal. The first page also contains the
// number of transactions and the number of archived ones.
func (s *Service) JournalPage(ctx context.Context, p ledger.Page) (view JournalView, err error) {
	if p.After == "" {
		if view.Total, err = s.JournalLength(ctx); err != nil {
			return view, err
		}
	}
	rows, next, err := s.Journal(ctx, p)
	if err != nil {
		return view, err
	}
	view.List = ViewList(rows, next, ViewTransaction)
	if p.After == "" {
		view.Archived, _, err = s.ArchivedCounts(ctx)
	}
	return view, err
}
