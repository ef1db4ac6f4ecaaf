package ledger

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Receipt is the proof of a captured charge. Signed, it is a compact JWS
// (RFC 7515) with the EdDSA algorithm of RFC 8037.
type Receipt struct {
	Charge      string `json:"charge"`
	Payer       string `json:"payer"` // account id
	Server      string `json:"server"`
	Tool        string `json:"tool"`
	Amount      Amount `json:"amount"` // a decimal as a string
	Currency    string `json:"currency"`
	Environment string `json:"environment"`
	At          int64  `json:"iat"` // seconds since 1970, UTC
}

// NewReceipt returns the receipt of a captured charge.
func NewReceipt(c *Charge, currency string) Receipt {
	environment := "live"
	if c.Sandbox {
		environment = "test"
	}
	return Receipt{
		Charge: c.ID, Payer: c.Account, Server: c.Server, Tool: c.Tool, Amount: c.Paid(),
		Currency: currency, Environment: environment, At: c.At.Unix(),
	}
}

// Time is when the charge was captured, to the second.
func (r *Receipt) Time() time.Time { return time.Unix(r.At, 0).UTC() }

const receiptType = "farebox-receipt+jws"

// Signer signs receipts with the installation's key. It may be used by many
// goroutines at once.
type Signer struct {
	key    ed25519.PrivateKey
	header string // encoded, constant for a key
}

// NewSigner returns a signer with the key made from that seed.
func NewSigner(seed [ed25519.SeedSize]byte) *Signer {
	key := ed25519.NewKeyFromSeed(seed[:])
	public := key.Public().(ed25519.PublicKey)
	header, err := json.Marshal(receiptHeader{Alg: "EdDSA", Typ: receiptType, Kid: KeyID(public)})
	if err != nil {
		panic(err) // three strings always encode
	}
	return &Signer{key: key, header: base64.RawURLEncoding.EncodeToString(header)}
}

type receiptHeader struct {
	Alg string `json:"alg"`
	Typ string `json:"typ"`
	Kid string `json:"kid"`
}

// KeyID names a public key: the first 12 bytes of its SHA-256, in base64url.
func KeyID(public ed25519.PublicKey) string {
	sum := sha256.Sum256(public)
	return base64.RawURLEncoding.EncodeToString(sum[:12])
}

// Public returns the public key that verifies what the signer signs.
func (s *Signer) Public() ed25519.PublicKey { return s.key.Public().(ed25519.PublicKey) }

// Sign returns the receipt as a compact JWS.
func (s *Signer) Sign(r Receipt) (string, error) {
	payload, err := json.Marshal(r)
	if err != nil {
		return "", fmt.Errorf("encoding receipt: %w", err)
	}
	signed := s.header + "." + base64.RawURLEncoding.EncodeToString(payload)
	signature := ed25519.Sign(s.key, []byte(signed))
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature), nil
}

// ErrReceipt says that a text is no receipt that the given keys have signed.
var ErrReceipt = errors.New("not a valid receipt")

// VerifyReceipt checks a compact JWS against the public keys, one of which its
// header must name, and returns the receipt in it. Its errors are ErrReceipt.
func VerifyReceipt(jws string, public ...ed25519.PublicKey) (Receipt, error) {
	parts := strings.Split(jws, ".")
	if len(parts) != 3 {
		return Receipt{}, fmt.Errorf("%w: want three parts with points between them, have %d", ErrReceipt, len(parts))
	}
	var raw [3][]byte
	for i, part := range parts {
		text, err := base64.RawURLEncoding.Strict().DecodeString(part)
		if err != nil {
			return Receipt{}, fmt.Errorf("%w: part %d is not base64url", ErrReceipt, i+1)
		}
		raw[i] = text
	}
	var header receiptHeader
	if err := json.Unmarshal(raw[0], &header); err != nil || header.Alg != "EdDSA" || header.Typ != receiptType {
		return Receipt{}, fmt.Errorf("%w: header is not that of a Farebox receipt", ErrReceipt)
	}
	for _, key := range public {
		if KeyID(key) != header.Kid {
			continue
		}
		if !ed25519.Verify(key, []byte(parts[0]+"."+parts[1]), raw[2]) {
			return Receipt{}, fmt.Errorf("%w: the signature is wrong", ErrReceipt)
		}
		var r Receipt
		if err := json.Unmarshal(raw[1], &r); err != nil {
			return Receipt{}, fmt.Errorf("%w: its content cannot be read", ErrReceipt)
		}
		return r, nil
	}
	return Receipt{}, fmt.Errorf("%w: signed by the unknown key %q", ErrReceipt, header.Kid)
}
