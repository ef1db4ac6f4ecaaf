package gate

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/trace"
)

// Debts records refunds that fell due while the store was not responding. They are
// posted later, possibly by another process.
type Debts interface {
	// Owe notes a debt. It must not wait for the store.
	Owe(d Debt)
}

// Debt is a refund owed to a payer: the response was not delivered, and the
// charge was captured or may have been.
type Debt struct {
	Charge string    `json:"charge"`
	Refund string    `json:"refund"` // the id of the refund, the same on every attempt
	At     time.Time `json:"at"`
	// Server and Test describe the charge, for metrics. Older records lack them.
	Server string `json:"server,omitempty"`
	Test   bool   `json:"test,omitempty"`
	// By identifies the gateway that recorded the debt, if the gateway's store hides
	// charges from other gateways. Otherwise By is "". Owe sets By.
	By string `json:"by,omitempty"`
}

// Posting returns the transaction that refunds all that is left of the charge, and
// its audit record. Both are the same on every attempt, so posting them again does
// not refund more.
func (d *Debt) Posting() (ledger.Transaction, ledger.Audit) {
	return ledger.Transaction{
			ID: d.Refund, Kind: ledger.KindRefund, Charge: d.Charge, At: d.At,
			Reason: "the result was not delivered",
		},
		ledger.Audit{At: d.At, Actor: "gateway", Action: "charge.refund", Target: d.Charge}
}

// debt returns the refund that is owed for this call, in case its charge was captured
// or will be captured later.
func (c *Call) debt() Debt {
	return Debt{Charge: c.id, Refund: c.gate.deps.NewID("txn_"), At: c.gate.deps.Now(), Server: c.order.Server, Test: c.order.Test}
}

var errRefunded = errors.New("the call was refunded")

// certain lists the ledger errors after which the books are certainly unchanged.
var certain = []error{
	ledger.ErrNotFound, ledger.ErrConflict, ledger.ErrSettled, ledger.ErrInsufficient, ledger.ErrInvalid, ledger.ErrOverflow,
	ledger.ErrInFlight, ledger.ErrReused, ledger.ErrGone, ledger.ErrCapped, errRefunded,
}

// inDoubt reports whether an operation of the ledger that failed with this error may
// have taken effect nonetheless.
func inDoubt(err error) bool {
	return err != nil && !slices.ContainsFunc(certain, func(e error) bool { return errors.Is(err, e) })
}

// refund gives back the captured amount. If the ledger fails to post the refund,
// refund records it as owed.
func (c *Call) refund(ctx context.Context) {
	charge := c.charge
	c.charge = nil
	c.move(eventRefunded)
	if charge.Paid() == 0 { // the call was free under a quota
		c.count(Ended{Result: ResultRefunded})
		return
	}
	debt := c.debt()
	t, audit := debt.Posting()
	ctx, span := c.span(ctx, trace.Refund)
	posted, _, err := c.gate.deps.Ledger.PostTransaction(ctx, t, audit)
	EndSpan(span, storeRefusal(err))
	if err != nil && !errors.Is(err, ledger.ErrSettled) { // PostTransaction returns ErrSettled for a call that was free under a quota
		c.log(slog.LevelError, "an undelivered call is not refunded yet", err)
		c.gate.deps.Debts.Owe(debt)
		c.count(Ended{Result: ResultFailed})
		return
	}
	c.count(Ended{Result: ResultRefunded, Amount: posted.Amount})
}
