package admin

import (
	"context"

	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// Caps are spending caps, of a key's lineage or of an account. In what asks for
// a change, nil stays as it is and zero takes the cap away; in what is shown,
// nil is no cap.
type Caps struct {
	Call  *ledger.Amount `json:"call,omitempty"`
	Day   *ledger.Amount `json:"day,omitempty"`   // UTC
	Month *ledger.Amount `json:"month,omitempty"` // UTC
}

// apply changes the caps as asked.
func (c *Caps) apply(to *ledger.Caps) error {
	if c == nil {
		return nil
	}
	for _, cap := range [...]struct {
		asked *ledger.Amount
		to    *ledger.Amount
		of    ledger.Period
	}{{c.Call, &to.Call, ledger.PerCall}, {c.Day, &to.Day, ledger.PerDay}, {c.Month, &to.Month, ledger.PerMonth}} {
		if cap.asked == nil {
			continue
		}
		if *cap.asked < 0 {
			return refuse(Invalid, "the cap for a %s cannot be below zero: %s; none takes it away", cap.of, *cap.asked)
		}
		*cap.to = *cap.asked
	}
	return nil
}

// limitKey changes the limits of a key as asked; what is nil stays. The key's
// own are replaced, not altered: others may hold them.
func limitKey(k *keys.Key, c *Caps, rate *string) error {
	caps := capsOfKey(k)
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

// parseRate reads a rate; what shows that there is none, takes it away.
func parseRate(text string) (keys.Rate, error) {
	none := keys.Rate{}
	if text == none.String() {
		return none, nil
	}
	rate, err := keys.ParseRate(text)
	if err != nil {
		return none, refuse(Invalid, "%v; %s takes it away", err, none)
	}
	return rate, nil
}

// viewRate returns "" if there is none.
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

func capsOfKey(k *keys.Key) ledger.Caps {
	l := limitsOf(k)
	return ledger.Caps{Call: ledger.Amount(l.Call), Day: ledger.Amount(l.Day), Month: ledger.Amount(l.Month)}
}

// viewCaps returns nil if there are none.
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

// AccountChange says what of an account to set; what is nil stays.
type AccountChange struct {
	// CreditLimit is how far below zero the live balance may go.
	CreditLimit *ledger.Amount `json:"credit_limit,omitempty"`
	Caps        *Caps          `json:"caps,omitempty"`
}

func (c *AccountChange) apply(a *ledger.Account) error {
	if c.CreditLimit != nil {
		if *c.CreditLimit < 0 {
			return refuse(Invalid, "the credit limit cannot be below zero: %s", *c.CreditLimit)
		}
		a.CreditLimit = *c.CreditLimit
	}
	return c.Caps.apply(&a.Caps)
}

// UpdateAccount changes the limits of the account of that name or id. When it
// returns, every reservation that begins afterwards heeds them.
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
