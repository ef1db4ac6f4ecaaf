package ledger

import (
	"encoding/json"
	"fmt"
)

// sealType is the JWS type of seals. It differs from the JWS type of receipts, so that
// a seal never passes for a receipt, nor a receipt for a seal.
const sealType = "farebox-archive+jws"

// Seal is the signed part of an archive file. It identifies the file and holds the
// sum of its content and the sum of the previous file.
type Seal struct {
	File         int64  `json:"file"`
	Previous     string `json:"previous"` // the sum of the previous file, in hex digits; "" for the first file
	Sum          string `json:"sha256"`   // the SHA-256 of everything before the seal, in hex digits
	First        int64  `json:"first"`    // First and Last are the numbers of the first and the last transaction in the file
	Last         int64  `json:"last"`
	Transactions int64  `json:"transactions"`
}

// Seal signs x and returns the compact JWS. The result is deterministic.
func (s *Signer) Seal(x Seal) (string, error) {
	payload, err := json.Marshal(x)
	if err != nil {
		return "", fmt.Errorf("encoding the seal: %w", err)
	}
	return string(s.appendJWS(nil, encodeHeader(sealType, s.Public()), payload)), nil
}

// VerifySeal checks a compact JWS against the keys and returns the seal in it.
// All errors wrap ErrReceipt, because a seal is signed as a receipt is.
func (k ReceiptKeys) VerifySeal(jws string) (Seal, error) {
	seal, _, err := verifyJWS[Seal](k, jws, sealType)
	return seal, err
}
