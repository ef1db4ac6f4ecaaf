package gate

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// Debts are refunds that could not be made when they were due, because the store
// did not answer. They are made later, also by another process than this one.
type Debts interface {
	// Owe notes a debt. It must not wait for the store.
	Owe(d Debt)
}

// Debt is owed to a payer: the charge was not delivered and was captured, or may
// have been.
type Debt struct {
	Charge string    `json:"charge"`
	Refund string    `json:"refund"` // the id of the refund, however often it is tried
	At     time.Time `json:"at"`
	// By says who has noted it, where the store tells others that it knows no such
	// charge; "" elsewhere. It is for Debts to fill in.
	By string `json:"by,omitempty"`
}

// Posting returns the refund of all that is left of the charge, and its audit.
// It is the same each time, as what has an id must be.
func (d *Debt) Posting() (ledger.Transaction, ledger.Audit) {
	return ledger.Transaction{
			ID: d.Refund, Kind: ledger.KindRefund, Charge: d.Charge, At: d.At,
			Reason: "the result was not delivered",
		},
		ledger.Audit{At: d.At, Actor: "gateway", Action: "charge.refund", Target: d.Charge}
}

// debt returns what is owed if the charge is, or comes to be, captured.
func (c *Call) debt() Debt {
	return Debt{Charge: c.id, Refund: c.gate.NewID("txn_"), At: c.gate.Now()}
}

var errRefunded = errors.New("the call was refunded")

// certain are the ledger errors after which nothing has changed.
var certain = []error{
	ledger.ErrNotFound, ledger.ErrConflict, ledger.ErrSettled, ledger.ErrInsufficient, ledger.ErrInvalid, ledger.ErrOverflow,
	ledger.ErrInFlight, ledger.ErrReused, ledger.ErrGone, ledger.ErrCapped, errRefunded,
}

// inDoubt reports whether an error of the ledger leaves it open what was done.
func inDoubt(err error) bool {
	return err != nil && !slices.ContainsFunc(certain, func(e error) bool { return errors.Is(err, e) })
}

func (c *Call) refund(ctx context.Context) {
	charge := c.charge
	c.charge = nil
	c.move(eventRefunded)
	if charge.Paid() == 0 { // by a free quota: there is nothing to give back
		c.count(ResultRefunded)
		return
	}
	debt := c.debt()
	t, audit := debt.Posting()
	_, _, err := c.gate.Ledger.PostTransaction(ctx, t, audit)
	if err != nil && !errors.Is(err, ledger.ErrSettled) { // that is a charge that a free quota has paid
		c.log(slog.LevelError, "an undelivered call is not refunded yet", err)
		c.gate.Debts.Owe(debt)
		c.count(ResultFailed)
		return
	}
	c.count(ResultRefunded)
}
