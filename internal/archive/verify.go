package archive

import (
	"fmt"
	"io/fs"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// maxDifferences bounds the number of differences that Verify reports.
const maxDifferences = 1000

// Chain is the result of verifying the files of an archive.
type Chain struct {
	Files        int64       // number of files that were verified
	Transactions int64       // number of transactions that were replayed
	Last         ledger.Seal // seal of the last verified file
	Balances     ledger.Sum  // hash of all final balances; see ledger.SumBalances
	Differences  []string    // sentences about errors in the archive; empty if the archive is intact
}

// Verify verifies an archive, from its first file on. It checks the seal of each file,
// and checks that each file continues the previous file. It also replays every
// transaction, beginning with empty balances. files is the number of files that the
// store has recorded. Verify ignores any later file, because such a file comes from an
// archiving that was interrupted, and the store still has its transactions. An absent
// or damaged file is a difference and ends the verification. progress is called after
// each verified file.
func Verify(dir fs.FS, files int64, keys ledger.ReceiptKeys, progress func(done, total int64)) Chain {
	c := chain{balances: map[string]*ledger.RunningBalance{}, charges: map[int64]*ledger.Carried{}, wanted: map[int64]bool{}}
	for n := int64(1); n <= files; n++ {
		c.want(dir, n, keys)
	}
	for n := int64(1); n <= files; n++ {
		if err := c.file(dir, n, keys); err != nil {
			c.differ("%s: %v", ledger.ArchiveName(n), err)
			break // later files cannot be replayed without this file
		}
		progress(n, files)
	}
	var end []ledger.RunningBalance
	for _, b := range c.balances {
		end = append(end, *b)
	}
	c.Balances = ledger.SumBalances(end)
	return c.Chain
}

// chain is the state of a verification.
type chain struct {
	Chain
	balances map[string]*ledger.RunningBalance // the replayed balances, by account
	charges  map[int64]*ledger.Carried         // by sequence number: the charges in the current file, and the charges in earlier files with numbers in wanted
	wanted   map[int64]bool                    // sequence numbers of the charges that some file carries over from an earlier file
	seq      int64                             // sequence number of the last transaction
	closed   int64                             // number of closing balances in the current file
}

func (c *chain) differ(format string, args ...any) {
	if len(c.Differences) < maxDifferences {
		c.Differences = append(c.Differences, fmt.Sprintf(format, args...))
	}
}

// want adds to c.wanted the charges that file n carries over from earlier files. After
// each file, the replay keeps only the charges in c.wanted. want ignores errors,
// because chain.file reads the file again and reports them.
func (c *chain) want(dir fs.FS, n int64, keys ledger.ReceiptKeys) {
	f, err := dir.Open(ledger.ArchiveName(n))
	if err != nil {
		return
	}
	defer f.Close()
	_, _ = Read(f, keys, Visitor{onlyCarried: true, Carried: func(x *ledger.Carried) { c.wanted[x.Seq] = true }})
}

func (c *chain) file(dir fs.FS, n int64, keys ledger.ReceiptKeys) error {
	f, err := dir.Open(ledger.ArchiveName(n))
	if err != nil {
		return err
	}
	defer f.Close()
	touched := map[string]bool{}
	c.closed = 0
	seal, err := Read(f, keys, Visitor{
		Opening: func(b *ledger.RunningBalance) { c.compare(b, "opening"); touched[b.Account] = true },
		Carried: c.carried,
		Entry:   c.replay,
		Closing: func(b *ledger.RunningBalance) { c.compare(b, "closing"); c.closed++ },
	})
	if err != nil {
		return err
	}
	switch {
	case seal.File != n:
		return fmt.Errorf("it is file %d of the archive", seal.File)
	case seal.Previous != c.Last.Sum:
		return fmt.Errorf("it does not follow on %s", ledger.ArchiveName(n-1))
	case seal.Last != c.seq:
		return fmt.Errorf("it ends with transaction %d, and its seal says %d", c.seq, seal.Last)
	}
	if c.closed != int64(len(touched)) {
		c.differ("%s opens with %d balances and closes with %d", ledger.ArchiveName(n), len(touched), c.closed)
	}
	for seq := range c.charges {
		if !c.wanted[seq] {
			delete(c.charges, seq)
		}
	}
	c.Files, c.Last = n, seal
	return nil
}

// compare compares an opening or closing balance in a file with the replayed balance.
func (c *chain) compare(b *ledger.RunningBalance, what string) {
	got := c.balances[b.Account]
	if got == nil {
		got = &ledger.RunningBalance{Account: b.Account}
	}
	if *got != *b {
		c.differ("after transaction %d, account %s has %s and %s of test credits, but the %s balances say %s and %s",
			c.seq, b.Account, got.Live, got.Test, what, b.Live, b.Test)
	}
}

// carried checks the charge x, which a file carries over from an earlier file. It
// compares x with the replayed charge, which includes the changes in all files since.
func (c *chain) carried(x *ledger.Carried) {
	if got := c.charges[x.Seq]; got == nil || *got != *x {
		c.differ("charge %d is carried differently than it was archived", x.Seq)
	}
}

func (c *chain) replay(e *ledger.Entry) {
	c.Transactions++
	if e.Seq <= c.seq {
		c.differ("transaction %d comes after transaction %d", e.Seq, c.seq)
	}
	c.seq = e.Seq
	if e.Amount < 0 || e.Amount == 0 && (e.Kind != ledger.KindCharge || e.Waived <= 0) {
		c.differ("transaction %d is of %s", e.Seq, e.Amount)
	}
	if err := e.Book(c.balances); err != nil {
		c.differ("%v", err)
	}
	switch e.Kind {
	case ledger.KindCharge:
		c.charges[e.Seq] = &ledger.Carried{Entry: *e}
	case ledger.KindRefund:
		c.refund(e)
	case ledger.KindFee:
		c.fee(e)
	}
}

func (c *chain) refund(e *ledger.Entry) {
	of := c.charges[e.Ref]
	if of == nil || of.Debtor != e.Creditor || of.Creditor != e.Debtor || of.Test != e.Test {
		c.differ("transaction %d is a refund of %d, which is no charge that it could refund", e.Seq, e.Ref)
		return
	}
	if of.Refunded += e.Amount; of.Refunded > of.Amount {
		c.differ("refunds of %s are more than the charge %d of %s", of.Refunded, e.Ref, of.Amount)
	}
}

// fee checks a transaction for the fee of a charge: either the payment of the whole fee
// to the operator, or the return of a part of the fee after a refund.
func (c *chain) fee(e *ledger.Entry) {
	of := c.charges[e.Ref]
	switch {
	case of == nil || of.Waived > 0 || of.Test != e.Test:
		c.differ("transaction %d is a fee of %d, which is no charge that has one", e.Seq, e.Ref)
	case of.Creditor == e.Debtor && of.FeeTo == e.Creditor:
		if of.Fee != e.Amount {
			c.differ("the fee of charge %d is %s, but %s were paid", e.Ref, of.Fee, e.Amount)
		}
	case of.Creditor == e.Creditor && of.FeeTo == e.Debtor:
		if of.FeeBack += e.Amount; of.FeeBack > ledger.FeeReturned(of.Fee, of.Amount, 0, of.Refunded) {
			c.differ("%s of the fee of charge %d came back, which is too much", of.FeeBack, e.Ref)
		}
	default:
		c.differ("transaction %d is not a part of the fee of charge %d", e.Seq, e.Ref)
	}
}
