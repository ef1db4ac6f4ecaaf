package ledger

import (
	"encoding/json"
	"fmt"
)

// sealType is the JWS type of seals. It differs from that of receipts, so that neither
// passes for the other.
const sealType = "farebox-archive+jws"

// Seal is the signed part of an archive file. It identifies the file and holds two
// sums: one over the file's content, and the sum of the previous file.
type Seal struct {
	File         int64  `json:"file"`
	Previous     string `json:"previous"` // in hex digits; "" for the first file
	Sum          string `json:"sha256"`   // the SHA-256 of everything before the seal, in hex digits
	First        int64  `json:"first"`    // First and Last are numbers of transactions
	Last         int64  `json:"last"`
	Transactions int64  `json:"transactions"`
}

// Seal returns the seal x as a compact JWS. The result is deterministic.
func (s *Signer) Seal(x Seal) (string, error) {
	payload, err := json.Marshal(x)
	if err != nil {
		return "", fmt.Errorf("encoding the seal: %w", err)
	}
	return string(s.appendJWS(nil, encodeHeader(sealType, s.Public()), payload)), nil
}

// VerifySeal checks a compact JWS against the keys and returns the seal in it.
// All errors are ErrReceipt.
func (k ReceiptKeys) VerifySeal(jws string) (Seal, error) {
	seal, _, err := verifyJWS[Seal](k, jws, sealType)
	return seal, err
}
