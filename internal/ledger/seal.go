package ledger

// sealType keeps a seal from being taken for a receipt, and a receipt for a seal.
const sealType = "farebox-archive+jws"

// Seal is what a file of the archive is signed with: which file it is, and the
// sums of its content and of the file before it.
type Seal struct {
	File         int64  `json:"file"`
	Previous     string `json:"previous"` // in hex digits; "" for the first file
	Sum          string `json:"sha256"`   // of all that comes before the seal, in hex digits
	First        int64  `json:"first"`    // numbers of transactions
	Last         int64  `json:"last"`
	Transactions int64  `json:"transactions"`
}

// Seal returns the seal as a compact JWS. The same seal always gives the same.
func (s *Signer) Seal(x Seal) (string, error) { return s.sign(encodeHeader(sealType, s.Public()), x) }

// VerifySeal checks a compact JWS against the keys and returns the seal in it.
// Its errors are ErrReceipt.
func (k ReceiptKeys) VerifySeal(jws string) (Seal, error) {
	seal, _, err := verifyJWS[Seal](k, jws, sealType)
	return seal, err
}
