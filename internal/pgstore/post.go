package pgstore

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/fareboxhq/farebox/internal/clock"
	ids "github.com/fareboxhq/farebox/internal/id"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/pgerr"
	"github.com/fareboxhq/farebox/internal/pgquery"
	"github.com/fareboxhq/farebox/internal/pgvalue"
)

// maxPosts bounds the attempts at a posting after conflicts and broken connections.
const maxPosts = 5

const postQuery = `SELECT code, debtor, creditor, amount, test, at, balance, reserved, remaining, made
	FROM post(ROW(@id, @kind, @debtor, @creditor, @test, @amount, @reason, @charge, @fee_id)::posting,
		ROW(NULL, @audit_at, @actor, @origin, @action, @target, @detail)::audit, @shift)`

// PostTransaction writes a top-up (ledger.KindCredit), an adjustment
// (KindAdjustment) or a refund (KindRefund) together with its audit row. It returns
// the transaction as recorded, and the balance of its account.
//
// For a top-up it reads ID, Creditor, Amount, Test and Reason. For an adjustment it
// reads the same fields, with Debtor in place of Creditor to take credits away. For a
// refund it reads ID, Charge, Amount and Reason; a zero Amount refunds the rest of the
// charge. A refund returns the operator's fee to the provider in proportion. A refund
// may take the provider's balance below zero, and an adjustment may do the same to the
// account's balance. Posting the same ID and content again returns the first outcome.
//
// Errors: ledger.ErrNotFound (account or charge), ErrConflict (the ID was used with
// other content), ErrSettled (all of the charge is refunded), ErrInsufficient
// (Amount exceeds the rest of the charge), ErrOverflow and ErrUnavailable. With
// ErrUnavailable the outcome is unknown; posting again under the same ID returns the
// outcome.
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
	args := postArgs(id, &t, &a)
	ctx, cancel := pgquery.Bounded(ctx)
	defer cancel()
	// Do not give up early because Healthy reports an outage: the database may be
	// back already, and only sending the posting again returns its outcome.
	for attempt := range maxPosts {
		args["shift"] = s.shift()
		var p posted
		if p, err = s.post(ctx, args); err == nil {
			recorded, balance, err := p.result(&t)
			if p.Code == codeNoCharge {
				err = s.noCharge(ctx, t.Charge, err)
			}
			if value(p.Made) {
				s.o.Audited(a)
			}
			return recorded, balance, err
		}
		if isArchived(err) {
			return ledger.Transaction{}, ledger.Balance{}, &ledger.ArchivedError{ID: t.ID, Cause: ledger.ErrConflict}
		}
		if !pgerr.Broken(err) && !pgerr.Contended(err) || ctx.Err() != nil || clock.Sleep(ctx, time.Duration(attempt)*minPause) != nil {
			break
		}
	}
	return ledger.Transaction{}, ledger.Balance{}, pgquery.Failure(ctx, err)
}

func (s *Store) post(ctx context.Context, args pgx.NamedArgs) (posted, error) {
	rows, err := s.db.Query(ctx, postQuery, args)
	if err != nil {
		return posted{}, err
	}
	return pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[posted])
}

// kindNumbers maps the kinds that can be posted to numbers in the database.
var kindNumbers = map[ledger.Kind]int16{ledger.KindCredit: 2, ledger.KindRefund: 3, ledger.KindAdjustment: 4}

// postArgs returns the arguments of postQuery, except for the shift.
func postArgs(id uuid.UUID, t *ledger.Transaction, a *ledger.Audit) pgx.NamedArgs {
	charge := pgtype.UUID{}
	if u, err := parseID(chargePrefix, t.Charge); err == nil && t.Kind == ledger.KindRefund {
		charge = asUUID(u)
	} // an id that cannot be parsed stays null, and then the refund finds no charge
	return pgx.NamedArgs{
		"id": asUUID(id), "kind": kindNumbers[t.Kind], "debtor": pgvalue.Pack(t.Debtor), "creditor": pgvalue.Pack(t.Creditor), "test": t.Test,
		"amount": int64(t.Amount), "reason": pgvalue.Pack(t.Reason), "charge": charge, "fee_id": asUUID(ids.V7()),
		"audit_at": pgvalue.Column(a.At), "actor": pgvalue.Pack(a.Actor), "origin": pgvalue.Pack(a.From), "action": pgvalue.Pack(a.Action), "target": pgvalue.Pack(a.Target), "detail": pgvalue.Pack(a.Detail),
	}
}

// posted is a row of the SQL type posted. After a refusal most columns are null.
type posted struct {
	Code                                 outcomeCode
	Debtor, Creditor                     *string
	Amount, Balance, Reserved, Remaining *int64
	Test, Made                           *bool
	At                                   *time.Time
}

func (p *posted) result(asked *ledger.Transaction) (ledger.Transaction, ledger.Balance, error) {
	if err := p.refusal(asked); err != nil {
		return ledger.Transaction{}, ledger.Balance{}, err
	}
	t := ledger.Transaction{
		ID: asked.ID, Kind: asked.Kind, Debtor: pgvalue.Unpack(value(p.Debtor)), Creditor: pgvalue.Unpack(value(p.Creditor)), Amount: ledger.Amount(value(p.Amount)),
		Test: value(p.Test), At: pgvalue.Time(p.At), Reason: asked.Reason,
	}
	if t.Kind == ledger.KindRefund {
		t.Charge = asked.Charge
	}
	return t, ledger.Balance{Posted: ledger.Amount(value(p.Balance)), Reserved: ledger.Amount(value(p.Reserved))}, nil
}

func (p *posted) refusal(asked *ledger.Transaction) error {
	switch p.Code {
	case codeDone:
		return nil
	case codeNoCharge:
		return fmt.Errorf("charge %q: %w", asked.Charge, ledger.ErrNotFound)
	case codeNoAccount:
		name := asked.Creditor
		if name == ledger.Funding {
			name = asked.Debtor
		}
		return fmt.Errorf("account %q: %w", name, ledger.ErrNotFound)
	case codeConflict:
		return ledger.ErrConflict
	case codeSettled:
		return fmt.Errorf("all of the charge is refunded: %w", ledger.ErrSettled)
	case codeInsufficient:
		return fmt.Errorf("refund of %s, but only %s of the charge is left: %w", asked.Amount, ledger.Amount(value(p.Remaining)), ledger.ErrInsufficient)
	case codeOverflow:
		return fmt.Errorf("balance: %w", ledger.ErrOverflow)
	default:
		return fmt.Errorf("%w: the database returned the code %q", ledger.ErrUnavailable, p.Code)
	}
}
