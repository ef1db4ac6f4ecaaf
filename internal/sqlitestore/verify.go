package sqlitestore

import (
	"context"
	"errors"
	"fmt"

	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/rollup"
)

// Bounds of a verification.
const (
	verifyStep     = 2000 // the number of transactions in one read; a long read would delay checkpoints
	maxDifferences = 1000 // the maximum number of differences that are reported
)

// Verify replays the whole journal and compares it with the snapshots, the
// reservations, memory and the sums of usage. It works while the store serves calls.
// Only the last part, which is short, blocks the writer. progress, if not nil, is
// called now and then. Differences are not errors; the Verification lists them.
//
// Only one verification runs at a time. A second one waits for the first, or until
// ctx ends.
func (s *Store) Verify(ctx context.Context, progress func(done, total int64)) (ledger.Verification, error) {
	select {
	case s.verifying <- struct{}{}:
		defer func() { <-s.verifying }()
	case <-ctx.Done():
		return ledger.Verification{}, ctx.Err()
	}
	done := s.writer.archived.Load()
	v := verifier{store: s, archived: done.Archived, done: done.Last, refunds: map[int64]ledger.Amount{}, returned: map[int64]*feeReturn{}, counters: map[counterKey]*spendCounter{}, usage: rollup.NewVerifier()}
	if err := v.snapshots(ctx); err != nil {
		return ledger.Verification{}, err
	}
	if err := v.usageSums(ctx, progress); err != nil {
		return ledger.Verification{}, err
	}
	if err := v.catchUp(ctx, progress); err != nil {
		return ledger.Verification{}, err
	}
	err := s.inspect(ctx, func(t *tx) error {
		v.newAccounts()
		for v.done < t.w.committed {
			if err := v.step(min(v.done+verifyStep, t.w.committed)); err != nil {
				return err
			}
		}
		v.memory(t.w.committed)
		return nil
	})
	if err != nil {
		return ledger.Verification{}, err
	}
	for _, difference := range v.usage.Differences() {
		v.differ("%s", difference)
	}
	return v.found, nil
}

// catchUp replays the journal until close to its end, even while the journal grows.
// The rest, which blocks the writer, is then short.
func (v *verifier) catchUp(ctx context.Context, progress func(done, total int64)) error {
	for total := v.to; ; {
		for v.done < total {
			if err := ctx.Err(); err != nil {
				return err
			}
			v.newAccounts()
			if err := v.step(min(v.done+verifyStep, total)); err != nil {
				return err
			}
			if progress != nil {
				progress(v.done, total)
			}
		}
		if err := v.store.readers.QueryRowContext(background(), `SELECT coalesce(max(seq), 0) FROM txn`).Scan(&total); err != nil {
			return failure(err)
		}
		total = max(total, v.done)
		if total-v.done < verifyStep {
			return nil
		}
	}
}

// verifier replays the journal on its own copy of the accounts.
type verifier struct {
	store    *Store
	archived ledger.Archived     // the replay begins after the archived transactions
	accounts []*verified         // indexed by account.n
	strange  map[int64]*verified // accounts that appear only in the journal, by account.n
	refunds  map[int64]ledger.Amount
	returned map[int64]*feeReturn // the returned fees, by the seq of the refunded charge
	owedFee  *row                 // the last charge that was replayed, if the next row must be its fee
	counters map[counterKey]*spendCounter
	usage    *rollup.Verifier
	found    ledger.Verification
	done, to int64
	from     int64 // the transaction at which the replay of a restart would begin
}

// feeReturn has two amounts for the returned part of a charge's fee. The first is the
// amount according to the journal. The second is the amount that the refunds of the
// charge demand.
type feeReturn struct{ is, want ledger.Amount }

// verified is an account in the replay, together with the account's snapshot.
type verified struct {
	name          string
	balances      [2]ledger.Amount
	debit, credit int64
	asOf          int64
	snapshot      [2]ledger.Amount
	snapDebit     int64
	snapCredit    int64
	compared      bool
}

func (v *verifier) differ(format string, args ...any) {
	if len(v.found.Differences) < maxDifferences {
		v.found.Differences = append(v.found.Differences, fmt.Sprintf(format, args...))
	}
}

// snapshots reads, in one transaction, all snapshots and the number of the transaction
// at which the replay of a restart would begin.
func (v *verifier) snapshots(ctx context.Context) error {
	read, err := v.store.readers.BeginTx(background(), nil)
	if err != nil {
		return failure(err)
	}
	defer read.Rollback() //nolint:errcheck // the transaction only reads
	if err := read.QueryRowContext(background(), `SELECT replay_from, (SELECT coalesce(max(seq), 0) FROM txn) FROM meta`).
		Scan(&v.from, &v.to); err != nil {
		return failure(err)
	}
	v.to = max(v.to, v.archived.Last)
	rows, err := read.QueryContext(background(), `SELECT n, name, live, test, as_of, debit_head, credit_head FROM account ORDER BY n`)
	if err != nil {
		return failure(err)
	}
	defer rows.Close()
	for rows.Next() {
		var n int64
		a := verified{}
		if err := rows.Scan(&n, &a.name, (*int64)(&a.snapshot[0]), (*int64)(&a.snapshot[1]), &a.asOf, &a.snapDebit, &a.snapCredit); err != nil {
			return failure(err)
		}
		if !plausible(n, int64(len(v.accounts))) {
			v.differ("account %s has number %d, which no account can have", a.name, n)
			continue
		}
		v.add(n, &a)
		if a.asOf > v.to {
			v.differ("the snapshot of account %s is of transaction %d, but the journal ends at %d", a.name, a.asOf, v.to)
		}
	}
	if err := rows.Err(); err != nil {
		return failure(err)
	}
	if err := v.opening(ctx, read); err != nil {
		return err
	}
	return ctx.Err()
}

func (v *verifier) add(n int64, a *verified) {
	for int64(len(v.accounts)) <= n {
		v.accounts = append(v.accounts, nil)
	}
	v.accounts[n] = a
}

// newAccounts adds the accounts created since the snapshots were read.
func (v *verifier) newAccounts() {
	b := v.store.books
	b.mu.Lock()
	defer b.mu.Unlock()
	for n, a := range b.numbered {
		if a != nil && (n >= len(v.accounts) || v.accounts[n] == nil) {
			v.add(int64(n), &verified{name: a.name})
		}
	}
}

// step replays the journal up to the given transaction.
func (v *verifier) step(to int64) error {
	refunds, err := v.replayTo(to)
	if err != nil {
		return err
	}
	v.done = to
	// Check the refunds only after the rows are closed. Each check needs a second
	// connection, and verifications that hold one connection while they wait for
	// another could deadlock.
	for i := range refunds {
		if err := v.refund(&refunds[i]); err != nil {
			return err
		}
	}
	return nil
}

// replayTo replays the journal up to the given transaction. It returns the refunds
// and the returned fees among the replayed rows.
func (v *verifier) replayTo(to int64) (refunds []row, err error) {
	rows, err := v.store.readers.QueryContext(background(), selectRowIndexed+`WHERE seq > ? AND seq <= ? ORDER BY seq`, v.done, to)
	if err != nil {
		return nil, failure(err)
	}
	defer rows.Close()
	for rows.Next() {
		var r row
		var indexed int64
		if err := r.scan(rows, &indexed); err != nil {
			return nil, failure(err)
		}
		if indexed != r.seq {
			v.differ("transaction %d shares its id with transaction %d", r.seq, indexed)
		}
		paid := v.feePaid(&r)
		v.replay(&r)
		if r.kind == rowRefund || r.kind == rowFee && !paid {
			refunds = append(refunds, r)
		}
	}
	return refunds, failure(rows.Err())
}

// selectRowIndexed reads rows. It also looks up each row's id in the index of ids, and
// reads the seq found there. The index has one entry per id. If two rows have the same
// id, the seq found there differs from the seq of at least one row, which reveals the
// duplicate.
const selectRowIndexed = `SELECT ` + rowColumns + `, ` + lineage + `, 0, coalesce((SELECT u.seq FROM txn u WHERE u.id = txn.id), 0) FROM txn `

func (v *verifier) account(r *row, n int64) *verified {
	if n < 0 || n >= int64(len(v.accounts)) || v.accounts[n] == nil {
		v.differ("transaction %d names account number %d, which does not exist", r.seq, n)
		if v.strange == nil {
			v.strange = make(map[int64]*verified)
		}
		if v.strange[n] == nil {
			v.strange[n] = &verified{name: fmt.Sprintf("number %d", n)}
		}
		return v.strange[n]
	}
	return v.accounts[n]
}

func (v *verifier) replay(r *row) {
	v.found.Transactions++
	debtor, creditor := v.account(r, r.debtor), v.account(r, r.creditor)
	for _, a := range [...]*verified{debtor, creditor} {
		v.crossSnapshot(a, r.seq)
	}
	if r.amount <= 0 && (r.kind != rowCharge || r.waived <= 0 || r.amount < 0) {
		v.differ("transaction %d is of %s", r.seq, r.amount)
	}
	if r.kind == rowCharge {
		v.countSpend(r)
		v.countUsage(r, r, rollup.Charge)
	}
	if r.prevDebtor != debtor.debit {
		v.differ("transaction %d says that account %s paid %d before it, but that was %d", r.seq, debtor.name, r.prevDebtor, debtor.debit)
	}
	if r.prevCreditor != creditor.credit {
		v.differ("transaction %d says that account %s earned %d before it, but that was %d", r.seq, creditor.name, r.prevCreditor, creditor.credit)
	}
	i := balanceIndex(r.test)
	less, err := debtor.balances[i].Sub(r.amount)
	if err != nil {
		v.differ("transaction %d takes account %s out of range", r.seq, debtor.name)
	}
	debtor.balances[i], debtor.debit = less, r.seq
	more, err := creditor.balances[i].Add(r.amount)
	if err != nil {
		v.differ("transaction %d takes account %s out of range", r.seq, creditor.name)
	}
	creditor.balances[i], creditor.credit = more, r.seq
}

// feePaid reports whether the row pays the whole fee of the charge right before it,
// from the provider to the operator. After a charge with a fee, the next row must be
// such a payment.
func (v *verifier) feePaid(r *row) bool {
	c := v.owedFee
	v.owedFee = nil
	if r.kind == rowCharge && r.fee > 0 && r.waived == 0 {
		owedFee := *r
		v.owedFee = &owedFee
	}
	if c == nil {
		return false
	}
	paid := r.kind == rowFee && r.ref == c.seq && r.debtor == c.creditor && r.creditor == c.feeTo &&
		r.amount == c.fee && r.test == c.test
	if !paid {
		v.differ("the fee of charge %d is missing", c.seq)
	}
	return paid
}

// crossSnapshot compares an account with its snapshot before the replay goes beyond
// the snapshot.
func (v *verifier) crossSnapshot(a *verified, seq int64) {
	if a.compared || seq <= a.asOf {
		return
	}
	v.compare(a)
	if seq < v.from {
		v.differ("transaction %d is not in the snapshot of account %s, but a replay would begin at %d", seq, a.name, v.from)
	}
}

func (v *verifier) compare(a *verified) {
	a.compared = true
	for i, balance := range [...]string{"live", "test"} {
		if a.snapshot[i] != a.balances[i] {
			v.differ("snapshot of account %s: the %s balance is %s, but the journal gives %s", a.name, balance, a.snapshot[i], a.balances[i])
		}
	}
	if a.snapDebit != a.debit || a.snapCredit != a.credit {
		v.differ("snapshot of account %s: it last paid %d and earned %d, but the journal gives %d and %d", a.name, a.snapDebit, a.snapCredit, a.debit, a.credit)
	}
}

// refund compares a refund, or a returned fee, with its charge.
func (v *verifier) refund(r *row) error {
	c, err := v.charge(r.ref)
	if err != nil && !errors.Is(err, ledger.ErrNotFound) {
		return err
	}
	if r.kind == rowFee && err == nil {
		v.fee(r, &c)
		return nil
	}
	if err != nil || c.kind != rowCharge || c.seq >= r.seq ||
		c.debtor != r.creditor || c.creditor != r.debtor || c.test != r.test {
		v.differ("transaction %d is a refund of %d, which is no charge that it could refund", r.seq, r.ref)
		return nil
	}
	v.countUsage(r, &c, rollup.Refund)
	v.refunds[r.ref] += r.amount
	if v.refunds[r.ref] > c.amount || v.refunds[r.ref] < 0 {
		v.differ("refunds of %s are more than the charge %d of %s", v.refunds[r.ref], r.ref, c.amount)
		return nil
	}
	if c.fee > 0 {
		v.feeOf(c.seq).want = ledger.FeeReturned(c.fee, c.amount, 0, v.refunds[r.ref])
	}
	return nil
}

func (v *verifier) feeOf(charge int64) *feeReturn {
	f := v.returned[charge]
	if f == nil {
		f = new(feeReturn)
		v.returned[charge] = f
	}
	return f
}

// fee adds the returned fee r to the sum for the charge c. A returned fee goes from
// the operator to the provider.
func (v *verifier) fee(r, c *row) {
	if c.kind != rowCharge || c.seq >= r.seq || r.test != c.test || r.debtor != c.feeTo || r.creditor != c.creditor {
		v.differ("transaction %d is not a part of the fee of charge %d", r.seq, r.ref)
		return
	}
	v.countUsage(r, c, rollup.FeeReturned)
	v.feeOf(c.seq).is += r.amount
}

// compareFees compares the returned fees with the refunds.
func (v *verifier) compareFees() {
	if v.owedFee != nil {
		v.differ("the fee of charge %d is missing", v.owedFee.seq)
	}
	for charge, f := range v.returned {
		if f.is != f.want {
			v.differ("the operator has given back %s of the fee of charge %d, and should have given %s", f.is, charge, f.want)
		}
	}
}

// memory compares the replay with the store's memory. The writer writes nothing
// meanwhile, but reservations come and go.
func (v *verifier) memory(committed int64) {
	b := v.store.books
	b.mu.Lock()
	defer b.mu.Unlock()
	held := map[*account]*[2]ledger.Amount{}
	for _, h := range b.holds {
		if h.state >= holdCaptured {
			continue
		}
		v.holdSpend(h)
		if held[h.payer] == nil {
			held[h.payer] = new([2]ledger.Amount)
		}
		held[h.payer][balanceIndex(h.order.Test)] += h.paid()
	}
	var sum [2]ledger.Amount
	for n, a := range v.accounts {
		if a == nil {
			continue
		}
		v.found.Accounts++
		if !a.compared && a.asOf <= committed {
			v.compare(a)
		}
		sum[0], sum[1] = sum[0]+a.balances[0], sum[1]+a.balances[1]
		m := b.number(int64(n))
		if m == nil {
			v.differ("account %s is in the file, but not in memory", a.name)
			continue
		}
		v.compareMemory(a, m, held[m])
	}
	for _, a := range v.strange {
		sum[0], sum[1] = sum[0]+a.balances[0], sum[1]+a.balances[1]
	}

	v.compareFees()
	v.compareCounters(b)
	if sum != [2]ledger.Amount{} {
		v.differ("all balances sum to %s and of test credits to %s instead of zero", sum[0], sum[1])
	}
}

func (v *verifier) compareMemory(a *verified, m *account, held *[2]ledger.Amount) {
	if held == nil {
		held = new([2]ledger.Amount)
	}
	for i, balance := range [...]string{"live", "test"} {
		if m.balances[i].Posted != a.balances[i] {
			v.differ("account %s: the %s balance is %s, but the journal gives %s", a.name, balance, m.balances[i].Posted, a.balances[i])
		}
		if m.balances[i].Reserved != held[i] {
			v.differ("account %s: %s is reserved in the %s balance, but its reservations hold %s", a.name, m.balances[i].Reserved, balance, held[i])
		}
	}
	if m.debitHead != a.debit || m.creditHead != a.credit {
		v.differ("account %s: it last paid %d and earned %d, but the journal gives %d and %d", a.name, m.debitHead, m.creditHead, a.debit, a.credit)
	}
}
