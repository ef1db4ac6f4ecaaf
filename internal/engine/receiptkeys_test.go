package engine

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// reopen opens a runtime in the directory, signs a receipt, and closes the runtime.
// It returns the receipt and the public keys that the runtime served.
func reopen(t *testing.T, dir string) (receipt string, served ledger.ReceiptKeys) {
	t.Helper()
	r, _ := open(t, dir)
	receipt = r.signer.Sign(ledger.Receipt{Charge: "chg_1"})
	var err error
	if served, err = r.Service().ReceiptKeys(); err != nil {
		t.Error(err)
	}
	if err := r.Destruct(); err != nil {
		t.Error(err)
	}
	return receipt, served
}

// TestPublicKeysAreWritten checks that the public keys are in a world-readable file
// beside the store. The file is rewritten only for a new key.
func TestPublicKeysAreWritten(t *testing.T) {
	dir := t.TempDir()
	file := ReceiptKeysFile(filepath.Join(dir, "f.db.receipt-key"))
	if want := filepath.Join(dir, "f.db.receipt-keys.json"); file != want {
		t.Fatalf("the file is %s, want %s", file, want)
	}
	receipt, served := reopen(t, dir)
	keys, ignored, err := ReadReceiptKeys(file)
	if err != nil || ignored != 0 || len(keys) != 1 || len(served) != 1 || !served[0].Equal(keys[0]) {
		t.Fatalf("%v in the file, %d ignored, %v; %v served", keys, ignored, err, served)
	}
	if _, _, err := keys.Verify(receipt); err != nil {
		t.Error(err)
	}
	before, err := os.Stat(file)
	if err != nil || before.Mode().Perm() != 0o644 {
		t.Fatalf("mode %v, %v", before.Mode(), err)
	}
	reopen(t, dir)
	if after, err := os.Stat(file); err != nil || !os.SameFile(before, after) || !after.ModTime().Equal(before.ModTime()) {
		t.Errorf("the file was written again: %v", err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, ".receipt-key-*")); err != nil || len(left) > 0 {
		t.Errorf("left over: %v, %v", left, err)
	}
}

// TestReplacedKeysStay checks that the receipts of every former key stay verifiable,
// even if private keys are replaced or lost.
func TestReplacedKeysStay(t *testing.T) {
	dir := t.TempDir()
	private := filepath.Join(dir, "f.db.receipt-key")
	var receipts []string
	for range 3 {
		receipt, _ := reopen(t, dir)
		receipts = append(receipts, receipt)
		if err := os.Remove(private); err != nil {
			t.Fatal(err)
		}
	}
	_, served := reopen(t, dir)
	kept, _, err := ReadReceiptKeys(ReceiptKeysFile(private))
	if err != nil || len(kept) != 4 || len(served) != 4 {
		t.Fatalf("%d keys are kept, %d served, %v", len(kept), len(served), err)
	}
	for i, receipt := range receipts {
		if _, id, err := kept.Verify(receipt); err != nil || id != ledger.KeyID(kept[i]) {
			t.Errorf("receipt of key %d: %q, %v", i+1, id, err)
		}
	}
}

// TestMissingPublicKeysAreMade checks that a store without a file of public keys gets
// one with the current key. The store may be older than such files, or the file may
// be lost.
func TestMissingPublicKeysAreMade(t *testing.T) {
	dir := t.TempDir()
	receipt, _ := reopen(t, dir)
	if err := os.Remove(filepath.Join(dir, "f.db.receipt-keys.json")); err != nil {
		t.Fatal(err)
	}
	if _, served := reopen(t, dir); len(served) != 1 {
		t.Errorf("%d keys are served", len(served))
	} else if _, _, err := served.Verify(receipt); err != nil {
		t.Error(err)
	}
}

// TestDamagedPublicKeysStopTheStart checks that a damaged file causes an error that
// names the file. The file is left unchanged, since it may be the only record of a
// key.
func TestDamagedPublicKeysStopTheStart(t *testing.T) {
	dir := t.TempDir()
	reopen(t, dir)
	file := filepath.Join(dir, "f.db.receipt-keys.json")
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for name, damaged := range map[string]string{
		"empty":         "",
		"half":          string(good[:len(good)/2]),
		"a list":        "[]",
		"twice":         string(good) + string(good),
		"a private key": `{"keys":[{"kty":"OKP","crv":"Ed25519","d":"AA"}]}`,
		"other keys":    `{"keys":[{"kty":"EC"}]}`,
	} {
		if err := os.WriteFile(file, []byte(damaged), 0o644); err != nil {
			t.Fatal(err)
		}
		signer, err := LoadSigner(filepath.Join(dir, "f.db.receipt-key"))
		if err != nil {
			t.Fatal(err)
		}
		if keys, err := publish(file, signer.Public()); err == nil || !strings.Contains(err.Error(), file) || keys != nil {
			t.Errorf("%s: %v, %v", name, keys, err)
		}
		if left, err := os.ReadFile(file); err != nil || string(left) != damaged {
			t.Errorf("%s: the file is now %q, %v", name, left, err)
		}
	}
	if err := os.WriteFile(file, good, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, served := reopen(t, dir); len(served) != 1 {
		t.Errorf("after the file was restored, %d keys are served", len(served))
	}
}

// TestReadReceiptKeysIsBounded checks that the number of bytes read is bounded for
// any size of the file, and that a missing file is fs.ErrNotExist.
func TestReadReceiptKeysIsBounded(t *testing.T) {
	dir := t.TempDir()
	long := filepath.Join(dir, "long")
	set, err := json.Marshal(ledger.ReceiptKeys{})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(long, append(set, bytes.Repeat([]byte(" "), ledger.MaxReceiptKeys)...), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := ReadReceiptKeys(long); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("got %v", err)
	}
	if _, _, err := ReadReceiptKeys(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// TestPrivateKeyIsMadeOnce checks processes that start concurrently with the same
// key file, which is missing. All of them use the key that the file has afterwards.
func TestPrivateKeyIsMadeOnce(t *testing.T) {
	for range 20 {
		file := filepath.Join(t.TempDir(), "receipt-key")
		signers := make([]*ledger.Signer, 8)
		var starting sync.WaitGroup
		for i := range signers {
			starting.Go(func() {
				var err error
				if signers[i], err = LoadSigner(file); err != nil {
					t.Error(err)
				}
			})
		}
		starting.Wait()
		if t.Failed() {
			return
		}
		kept, err := LoadSigner(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range signers {
			if !s.Public().Equal(kept.Public()) {
				t.Fatal("a process has a key that is not in the file")
			}
		}
		left, err := os.ReadDir(filepath.Dir(file))
		if err != nil || len(left) != 1 {
			t.Fatalf("%d files are there, %v", len(left), err)
		}
	}
}
