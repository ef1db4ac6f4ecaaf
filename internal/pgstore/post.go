package pgstore

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"

	ids "github.com/fareboxhq/farebox/internal/id"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// maxPosts bounds how often a posting is sent when it met others, or when the
// connection broke and nobody knows what became of it.
const maxPosts = 5

const postQuery = `SELECT code, total, held, x_debtor, x_creditor, x_amount, x_sandbox, x_at, remaining
	FROM post($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14,$15,$16)`

// Post writes a top-up (ledger.KindCredit), an adjustment (KindAdjustment) or a
// refund (KindRefund) together with its audit row, and returns it as the books
// have it with the balance of the account that it is about. Of a top-up, ID,
// Creditor, Amount, Sandbox and Reason are read; of an adjustment the same, or
// Debtor in place of Creditor to take credits away; of a refund ID, Charge,
// Amount and Reason, where an amount of zero means all that is left of the
// charge; the operator's fee goes back to the provider in proportion. A refund
// may take the provider below zero, and an adjustment the account. The same ID
// and content again gives the first outcome.
//
// Errors: ledger.ErrNotFound (account or charge), ErrConflict (the ID was used
// with other content), ErrSettled (nothing is left to refund), ErrInsufficient
// (less is left of the charge than is asked for), ErrOverflow, ErrUnavailable:
// it is not posted, or nobody knows; to post it again under the same ID tells.
func (s *Store) PostTransaction(ctx context.Context, t ledger.Transaction, a ledger.Audit) (ledger.Transaction, ledger.Balance, error) {
	id, err := parseID(otherPrefix, t.ID)
	if err == nil {
		err = ctx.Err()
	}
	if err == nil {
		err = t.Complete()
	}
	if err != nil {
		return ledger.Transaction{}, ledger.Balance{}, err
	}
	p := posting{t: t}
	args, err := p.args(id, &a)
	if err != nil {
		return ledger.Transaction{}, ledger.Balance{}, err
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	// Whether others have found the database away does not matter here: it may be
	// back, and only sending the posting again tells what became of it.
	for attempt := range maxPosts {
		args[0] = s.shift()
		err = s.row(ctx, postQuery, args, &p.code, &p.total, &p.held, &p.debtor, &p.creditor, &p.amount, &p.test, &p.at, &p.left)
		if err == nil {
			posted, balance, err := p.outcome()
			if p.code == codeNoCharge {
				err = s.noCharge(ctx, t.Charge, err)
			}
			return posted, balance, err
		}
		if isArchived(err) {
			return ledger.Transaction{}, ledger.Balance{}, &ledger.ArchivedError{ID: t.ID, Cause: ledger.ErrConflict}
		}
		if !broken(err) && !contended(err) || ctx.Err() != nil || !wait(ctx.Done(), time.Duration(attempt)*10*time.Millisecond) {
			break
		}
	}
	return ledger.Transaction{}, ledger.Balance{}, failure(ctx, err)
}

// posting is a call of post.
type posting struct {
	t                         ledger.Transaction
	code                      int16
	total, held, amount, left *int64
	debtor, creditor          *string
	test                      *bool
	at                        *time.Time
}

func (p *posting) args(id uuid.UUID, a *ledger.Audit) ([]any, error) {
	t := &p.t
	kind, charge := 2, pgtype.UUID{}
	switch t.Kind {
	case ledger.KindAdjustment:
		kind = 4
	case ledger.KindRefund:
		u, err := parseID(chargePrefix, t.Charge)
		if err == nil {
			charge = asUUID(u)
		} // an id that can be none is that of no charge
		kind = 3
	}
	return []any{0, asUUID(id), kind, pack(t.Debtor), pack(t.Creditor), int64(t.Amount), t.Test, pack(t.Reason), charge, asUUID(ids.V7()),
		column(a.At), pack(a.Actor), pack(a.From), pack(a.Action), pack(a.Target), pack(a.Detail)}, nil
}

func (p *posting) outcome() (ledger.Transaction, ledger.Balance, error) {
	if err := p.refusal(); err != nil {
		return ledger.Transaction{}, ledger.Balance{}, err
	}
	t := ledger.Transaction{
		ID: p.t.ID, Kind: p.t.Kind, Debtor: unpack(value(p.debtor)), Creditor: unpack(value(p.creditor)), Amount: ledger.Amount(value(p.amount)),
		Test: value(p.test), At: ofColumn(p.at), Reason: p.t.Reason,
	}
	if t.Kind == ledger.KindRefund {
		t.Charge = p.t.Charge
	}
	return t, ledger.Balance{Posted: ledger.Amount(value(p.total)), Reserved: ledger.Amount(value(p.held))}, nil
}

func (p *posting) refusal() error {
	switch p.code {
	case codeDone:
		return nil
	case codeNoCharge:
		return fmt.Errorf("charge %q: %w", p.t.Charge, ledger.ErrNotFound)
	case codeNoAccount:
		name := p.t.Creditor
		if name == ledger.Funding {
			name = p.t.Debtor
		}
		return fmt.Errorf("account %q: %w", name, ledger.ErrNotFound)
	case codeConflict:
		return ledger.ErrConflict
	case codeSettled:
		return fmt.Errorf("all of the charge is refunded: %w", ledger.ErrSettled)
	case codeInsufficient:
		return fmt.Errorf("refund of %s, but only %s of the charge is left: %w", p.t.Amount, ledger.Amount(value(p.left)), ledger.ErrInsufficient)
	case codeOverflow:
		return fmt.Errorf("balance: %w", ledger.ErrOverflow)
	default:
		return fmt.Errorf("%w: the database answered with code %d", ledger.ErrUnavailable, p.code)
	}
}
