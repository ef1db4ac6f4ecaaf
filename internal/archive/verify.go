package archive

import (
	"fmt"
	"io/fs"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// maxDifferences bounds the sentences of a verification.
const maxDifferences = 1000

// Chain summarizes the files of an archive.
type Chain struct {
	Files        int64
	Transactions int64
	Last         ledger.Seal // the last file's
	Balances     ledger.Sum  // sum of all final balances; see ledger.SumBalances
	Differences  []string
}

// Verify reads all files of an archive, from the first one on: it checks each
// seal, that each follows on the one before, and replays every transaction from
// nothing. It reads as many files as the store has recorded; a later one is of
// an archiving that was broken off, and was not taken out of the store. A file
// that is absent or damaged is a difference. progress hears of each file.
func Verify(dir fs.FS, files int64, keys ledger.ReceiptKeys, progress func(done, total int64)) Chain {
	c := chain{balances: map[string]*ledger.RunningBalance{}, charges: map[int64]*ledger.Carried{}, wanted: map[int64]bool{}}
	for n := int64(1); n <= files; n++ {
		c.want(dir, n, keys)
	}
	for n := int64(1); n <= files; n++ {
		if err := c.file(dir, n, keys); err != nil {
			c.differ("%s: %v", ledger.ArchiveName(n), err)
			break // the rest cannot be replayed
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

// chain replays.
type chain struct {
	Chain
	balances map[string]*ledger.RunningBalance
	charges  map[int64]*ledger.Carried // in the current file, or carried by later files
	wanted   map[int64]bool            // charges that later files carry
	seq      int64
	closed   int64 // balances that the current file closed with
}

func (c *chain) differ(format string, args ...any) {
	if len(c.Differences) < maxDifferences {
		c.Differences = append(c.Differences, fmt.Sprintf(format, args...))
	}
}

// want notes which charges the file carries, so that they are kept on the way
// there. Whether the file is whole is seen later.
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

// compare compares a balance in a file with the replay.
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

// carried compares a charge carried by a file with the replay.
func (c *chain) carried(x *ledger.Carried) {
	if got := c.charges[x.Seq]; got == nil || *got != *x {
		c.differ("charge %d is carried as it was not archived", x.Seq)
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

// fee checks a fee: all of it on the way to the operator, or a part of it on the
// way back.
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
