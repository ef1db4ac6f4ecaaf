package alert

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// Texts makes the texts of an alert for people. The names of accounts and keys in a
// text are each on one line and have no control characters, because operators and
// owners choose them freely.
type Texts struct {
	Account  string // name of the account
	Currency string
}

// Title returns a description of the event in one line.
func (t Texts) Title(a *Alert) string {
	d := &a.Data
	switch a.Kind {
	case Balance:
		return fmt.Sprintf("The balance of %s is below %s", t.Account, t.money(d.Limit))
	case Cap:
		return fmt.Sprintf("%d %% of the cap of key %s for a %s are spent", d.Percent, a.key(), d.Period)
	case Spend:
		return fmt.Sprintf("Key %s spends far more than usual", a.key())
	case Tool:
		return fmt.Sprintf("Key %s pays for %s for the first time", a.key(), oneLine(d.Tool))
	case Network:
		return fmt.Sprintf("Key %s is used from a new network", a.key())
	}
	return "This is a test of Farebox's alerts"
}

// Detail returns one or two sentences with the figures and the remedy.
func (t Texts) Detail(a *Alert) string {
	d := &a.Data
	switch a.Kind {
	case Balance:
		return fmt.Sprintf("%s are available to the account %s. Calls are refused when the balance and the credit limit are used up.", t.money(d.Amount), t.Account)
	case Cap:
		return fmt.Sprintf("The key of the account %s has spent %s of %s. Its calls are refused when the cap is used up, until the next %s begins (UTC).", t.Account, t.money(d.Amount), t.money(d.Limit), d.Period)
	case Spend:
		return fmt.Sprintf("The key of the account %s has spent %s today (UTC), and %s on its usual day. If this is not wanted, disable the key.", t.Account, t.money(d.Amount), t.money(d.Limit))
	case Tool:
		return fmt.Sprintf("The key of the account %s has paid for the tool %s of the server %s. It had not before. If this is not wanted, disable the key or limit it to some servers.", t.Account, oneLine(d.Tool), oneLine(d.Server))
	case Network:
		return fmt.Sprintf("The key of the account %s was used from %s. It had not been before. If you do not know this network, rotate the key.", t.Account, d.Network)
	}
	return "If you can read it, alerts reach you this way."
}

// WithoutKeyName returns a message that calls the key by its hint and not by its name.
// It is for e-mails to the owners of an account. They choose the names of keys and
// invite members, so without this, an owner could make the operator's mail server send
// any text to any address.
func (m *Message) WithoutKeyName() *Message {
	c := *m
	c.Data.KeyName = ""
	t := Texts{Account: cmp.Or(c.AccountName, c.Account), Currency: c.Currency}
	c.Title, c.Detail = t.Title(&c.Alert), t.Detail(&c.Alert)
	return &c
}

func (t Texts) money(a *ledger.Amount) string {
	if a == nil {
		return "an unknown amount"
	}
	return a.String() + " " + t.Currency
}

// key returns the name by which texts call the alert's key.
func (a *Alert) key() string {
	name := oneLine(a.Data.KeyName)
	if name != "" && a.Data.KeyHint != "" {
		return name + " (" + a.Data.KeyHint + ")"
	}
	return cmp.Or(name, a.Data.KeyHint, a.Key)
}

// maxName bounds the length of a name in a text, in bytes.
const maxName = 100

// oneLine makes a name safe for a line of a message, by replacing control characters
// and cutting off the end of a long name.
func oneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '\u2028' || r == '\u2029' || r >= 0x80 && r < 0xa0 {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
	if len(s) > maxName {
		s = strings.ToValidUTF8(s[:maxName], "") + "…"
	}
	return s
}
