package archive

import (
	"bytes"
	"compress/gzip"
	"crypto/ed25519"
	"io"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/fareboxhq/farebox/internal/ledger"
)

var signer = ledger.NewSigner([ed25519.SeedSize]byte{1})

// parts returns an archive of two files. The second file has a refund of a charge in
// the first file.
func parts(t *testing.T) []ledger.ArchivePart {
	t.Helper()
	charge := ledger.Entry{Seq: 2, ID: "chg_2", Kind: ledger.KindCharge, Debtor: "acct_a", Creditor: "acct_b", Amount: 100, At: 20, Key: "key_1", Lineage: "key_1", Server: "s", Tool: "no UTF-8: \xff", Day: 3, Fee: 10, FeeTo: "acct_c"}
	first := ledger.ArchivePart{
		Number: 1, Opening: []ledger.RunningBalance{{Account: "@funding"}, {Account: "acct_a"}, {Account: "acct_b"}, {Account: "acct_c"}},
		Entries: []ledger.Entry{
			{Seq: 1, ID: "txn_1", Kind: ledger.KindCredit, Debtor: "@funding", Creditor: "acct_a", Amount: 500, At: 10, Reason: "top-up"},
			charge,
			{Seq: 3, ID: "txn_3", Kind: ledger.KindFee, Debtor: "acct_b", Creditor: "acct_c", Amount: 10, At: 20, Ref: 2},
		},
	}
	second := ledger.ArchivePart{
		Number: 2, Carried: []ledger.Carried{{Entry: charge}},
		Entries: []ledger.Entry{
			{Seq: 4, ID: "txn_4", Kind: ledger.KindRefund, Debtor: "acct_b", Creditor: "acct_a", Amount: 50, At: 30, Ref: 2, Reason: "half"},
			{Seq: 5, ID: "txn_5", Kind: ledger.KindFee, Debtor: "acct_c", Creditor: "acct_b", Amount: 5, At: 30, Ref: 2},
		},
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second.Opening = first.Closing[1:]
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	var err error
	if second.Previous, err = Sum(&first); err != nil {
		t.Fatal(err)
	}
	return []ledger.ArchivePart{first, second}
}

// file returns the file of a part, sealed by the given signer.
func file(t *testing.T, p *ledger.ArchivePart, by *ledger.Signer) []byte {
	t.Helper()
	var b bytes.Buffer
	if _, err := Write(&b, p, by); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func written(t *testing.T, list []ledger.ArchivePart) fstest.MapFS {
	t.Helper()
	dir := fstest.MapFS{}
	for i := range list {
		dir[ledger.ArchiveName(list[i].Number)] = &fstest.MapFile{Data: file(t, &list[i], signer)}
	}
	return dir
}

func verify(dir fstest.MapFS) Chain {
	return Verify(dir, 2, ledger.ReceiptKeys{signer.Public()}, func(int64, int64) {})
}

// TestChain checks that an intact archive verifies with the right final balances. It
// also checks that a text that is not UTF-8 is read back unchanged.
func TestChain(t *testing.T) {
	list := parts(t)
	dir := written(t, list)
	c := verify(dir)
	want := ledger.SumBalances([]ledger.RunningBalance{
		{Account: "@funding", Live: -500, Paid: 1}, {Account: "acct_a", Live: 450, Paid: 2, Earned: 4},
		{Account: "acct_b", Live: 45, Paid: 4, Earned: 5}, {Account: "acct_c", Live: 5, Paid: 5, Earned: 3},
	})
	if len(c.Differences) > 0 || c.Files != 2 || c.Transactions != 5 || c.Balances != want || c.Last.Last != 5 {
		t.Errorf("%+v", c)
	}
	var tool string
	if _, err := Read(bytes.NewReader(dir[ledger.ArchiveName(1)].Data), ledger.ReceiptKeys{signer.Public()}, Visitor{Entry: func(e *ledger.Entry) { tool += e.Tool }}); err != nil || tool != "no UTF-8: \xff" {
		t.Errorf("%q: %v", tool, err)
	}
}

// altered returns the file with its old seal, and with one occurrence of a text
// replaced by another text.
func altered(t *testing.T, data []byte, from, to string) []byte {
	t.Helper()
	zip, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(zip)
	if err != nil || !bytes.Contains(text, []byte(from)) {
		t.Fatalf("%q is not in the file: %v", from, err)
	}
	var b bytes.Buffer
	out := gzip.NewWriter(&b)
	_, _ = out.Write(bytes.Replace(text, []byte(from), []byte(to), 1)) // writing to a buffer cannot fail
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestTamperedFile checks that Verify detects any change to an archive file. This
// includes a changed file that was sealed again, with the same key or with another key.
func TestTamperedFile(t *testing.T) {
	one, two := ledger.ArchiveName(1), ledger.ArchiveName(2)
	for name, c := range map[string]struct {
		tamper func(fstest.MapFS)
		words  string
	}{
		"an amount":       {func(d fstest.MapFS) { d[one].Data = altered(t, d[one].Data, `"amount":"0.0005"`, `"amount":"0.0006"`) }, "not what was sealed"},
		"a line is gone":  {func(d fstest.MapFS) { d[one].Data = altered(t, d[one].Data, `{"closing"`, "\n{\"closing\"") }, "cannot be read"},
		"cut off":         {func(d fstest.MapFS) { d[two].Data = d[two].Data[:len(d[two].Data)/2] }, "breaks off"},
		"a byte":          {func(d fstest.MapFS) { d[two].Data[len(d[two].Data)/2] ^= 1 }, "file"},
		"absent":          {func(d fstest.MapFS) { delete(d, one) }, "not exist"},
		"swapped":         {func(d fstest.MapFS) { d[one], d[two] = d[two], d[one] }, "it is file 2"},
		"twice the first": {func(d fstest.MapFS) { d[two] = d[one] }, "it is file 1"},
		"another signer": {func(d fstest.MapFS) {
			p := parts(t)[1]
			d[two].Data = file(t, &p, ledger.NewSigner([ed25519.SeedSize]byte{2}))
		}, "unknown key"},
		"another past": {func(d fstest.MapFS) {
			p := parts(t)[1]
			p.Previous[0]++
			d[two].Data = file(t, &p, signer)
		}, "does not follow"},
		"balances that do not follow": {func(d fstest.MapFS) {
			p := parts(t)[1]
			p.Opening[0].Live++
			d[two].Data = file(t, &p, signer)
		}, "opening balances"},
		"a carried charge that was another": {func(d fstest.MapFS) {
			p := parts(t)[1]
			p.Carried[0].Amount++
			d[two].Data = file(t, &p, signer)
		}, "carried differently"},
		"a refund that is too much": {func(d fstest.MapFS) {
			p := parts(t)[1]
			p.Entries[0].Amount = 101
			if err := p.Close(); err != nil {
				t.Fatal(err)
			}
			d[two].Data = file(t, &p, signer)
		}, "more than the charge"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := written(t, parts(t))
			c.tamper(dir)
			got := verify(dir)
			if all := strings.Join(got.Differences, "\n"); len(got.Differences) == 0 || !strings.Contains(all, c.words) && c.words != "file" {
				t.Errorf("%q, want %q", all, c.words)
			}
		})
	}
}

// TestSealIsNoReceipt checks that a receipt is not accepted as a seal, and a seal is not
// accepted as a receipt, although one key signs both.
func TestSealIsNoReceipt(t *testing.T) {
	keys := ledger.ReceiptKeys{signer.Public()}
	seal, err := signer.Seal(ledger.Seal{File: 1})
	if err != nil {
		t.Fatal(err)
	}
	receipt := signer.Sign(ledger.Receipt{Charge: "chg_1"})
	if _, err := keys.VerifySeal(seal); err != nil {
		t.Error(err)
	}
	if _, err := keys.VerifySeal(receipt); err == nil {
		t.Error("a receipt was taken for a seal")
	}
	if _, _, err := keys.Verify(seal); err == nil {
		t.Error("a seal was taken for a receipt")
	}
}
