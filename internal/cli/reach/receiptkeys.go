package reach

import (
	"fmt"

	"github.com/fareboxhq/farebox/internal/engine"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// ReadReceiptKeys reads the public keys of receipts from a file. A file without such a
// key is an error.
func ReadReceiptKeys(file string) (ledger.ReceiptKeys, error) {
	keys, ignored, err := engine.ReadReceiptKeys(file)
	if err == nil && len(keys) == 0 {
		return nil, fmt.Errorf("public receipt keys %s: no key of receipts is among the %d in it", file, ignored)
	}
	return keys, err
}

// knownKeys returns the public receipt keys, which the server keeps in a file beside
// the private key. It adds the signer's own public key if the file lacks it. file is
// the path of the private key.
func knownKeys(file string, signer *ledger.Signer) ledger.ReceiptKeys {
	keys, err := ReadReceiptKeys(engine.ReceiptKeysFile(file))
	if err != nil || !keys.Has(signer.Public()) {
		keys = append(keys, signer.Public())
	}
	return keys
}
