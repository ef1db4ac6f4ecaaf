package admin

import (
	"context"

	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// Caps are the spending caps of a key's lineage or of an account. In a request, nil
// keeps the cap and zero removes it. In a view, nil means that there is no cap.
type Caps struct {
	Call  *ledger.Amount `json:"call,omitempty" doc:"For one call"`
	Day   *ledger.Amount `json:"day,omitempty" doc:"For a UTC day"`
	Month *ledger.Amount `json:"month,omitempty" doc:"For a UTC month"`
}

// apply applies the requested changes to the caps.
func (c *Caps) apply(to *ledger.Caps) error {
	if c == nil {
		return nil
	}
	for _, cap := range [...]struct {
		asked *ledger.Amount
		to    *ledger.Amount
		of    ledger.Period
		field string
	}{{c.Call, &to.Call, ledger.PerCall, "caps.call"}, {c.Day, &to.Day, ledger.PerDay, "caps.day"}, {c.Month, &to.Month, ledger.PerMonth, "caps.month"}} {
		if cap.asked == nil {
			continue
		}
		if *cap.asked < 0 {
			return refuseField(cap.field, "the cap for a %s cannot be below zero: %s; none takes it away", cap.of, *cap.asked)
		}
		*cap.to = *cap.asked
	}
	return nil
}

// limitKey changes the limits of a key. Nil arguments leave limits unchanged.
// limitKey replaces k.Limits by a new value instead of altering the old one, because
// other keys may share the old one.
func limitKey(k *keys.Key, c *Caps, rate *string) error {
	caps := ledger.CapsOf(k.Limits.Spending())
	if err := c.apply(&caps); err != nil {
		return err
	}
	limits := keys.Limits{Call: int64(caps.Call), Day: int64(caps.Day), Month: int64(caps.Month), Rate: limitsOf(k).Rate}
	if rate != nil {
		var err error
		if limits.Rate, err = parseRate(*rate); err != nil {
			return err
		}
	}
	k.Limits = nil
	if limits != (keys.Limits{}) {
		k.Limits = &limits
	}
	return nil
}

// parseRate parses a rate. The text "none" stands for the zero rate, which removes
// the limit.
func parseRate(text string) (keys.Rate, error) {
	none := keys.Rate{}
	if text == none.String() {
		return none, nil
	}
	rate, err := keys.ParseRate(text)
	if err != nil {
		return none, refuseField("rate", "%v; %s takes it away", err, none)
	}
	return rate, nil
}

// viewRate returns the text of a rate, or "" if there is no rate.
func viewRate(r keys.Rate) string {
	if r.IsZero() {
		return ""
	}
	return r.String()
}

func limitsOf(k *keys.Key) keys.Limits {
	if k.Limits == nil {
		return keys.Limits{}
	}
	return *k.Limits
}

// ViewLimits returns the views of the spending caps and the rate of limits, nil and "" for
// none. The limits may be nil.
func ViewLimits(l *keys.Limits) (*Caps, string) {
	if l == nil {
		return nil, ""
	}
	return viewCaps(ledger.CapsOf(l.Spending())), viewRate(l.Rate)
}

// viewCaps returns the view of caps, or nil if there are no caps.
func viewCaps(c ledger.Caps) *Caps {
	if c == (ledger.Caps{}) {
		return nil
	}
	set := func(a ledger.Amount) *ledger.Amount {
		if a == 0 {
			return nil
		}
		return &a
	}
	return &Caps{Call: set(c.Call), Day: set(c.Day), Month: set(c.Month)}
}

// AccountChange changes an account. Nil fields remain unchanged.
type AccountChange struct {
	CreditLimit *ledger.Amount `json:"credit_limit,omitempty" doc:"How far below zero the live balance may go"`
	Caps        *Caps          `json:"caps,omitempty" doc:"On the spending of the account; a cap of zero removes the cap"`
}

func (c *AccountChange) apply(a *ledger.Account) error {
	if c.CreditLimit != nil {
		if *c.CreditLimit < 0 {
			return refuseField("credit_limit", "the credit limit cannot be below zero: %s", *c.CreditLimit)
		}
		a.CreditLimit = *c.CreditLimit
	}
	return c.Caps.apply(&a.Caps)
}

// UpdateAccount changes the limits of the account with the given name or id. After
// UpdateAccount has returned, the limits apply to every new reservation.
func (s *Service) UpdateAccount(ctx context.Context, actor Actor, ref string, c AccountChange) (ledger.Account, error) {
	if c == (AccountChange{}) || c.CreditLimit == nil && *c.Caps == (Caps{}) {
		return ledger.Account{}, refuse(Invalid, "nothing to change: give credit_limit or caps, and not null")
	}
	account, err := s.Account(ctx, ref)
	if err != nil {
		return ledger.Account{}, err
	}
	changed, err := s.store.UpdateAccount(ctx, account.ID, c.apply, s.audit(actor, "account.update", account.ID, c))
	return changed, explain(err, "account", ref)
}
