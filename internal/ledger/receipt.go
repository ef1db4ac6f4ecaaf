package ledger

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Receipt is the proof of a captured charge. Signed, it is a compact JWS
// (RFC 7515) with the EdDSA algorithm of RFC 8037. A member added in a later version
// must be omitted when it is empty, or older receipts become invalid.
type Receipt struct {
	Charge      string `json:"charge"`
	Payer       string `json:"payer"` // account id
	Server      string `json:"server"`
	Tool        string `json:"tool"`
	Amount      Amount `json:"amount"` // a decimal as a string
	Currency    string `json:"currency"`
	Environment string `json:"environment"`
	At          int64  `json:"iat"`            // seconds since 1970, UTC
	Free        bool   `json:"free,omitempty"` // whether a free quota paid for the call
}

// NewReceipt returns the receipt of a captured charge.
func NewReceipt(c *Charge, currency string) Receipt {
	environment := "live"
	if c.Test {
		environment = "test"
	}
	return Receipt{
		Charge: c.ID, Payer: c.Account, Server: c.Server, Tool: c.Tool, Amount: c.Paid(),
		Currency: currency, Environment: environment, At: c.At.Unix(), Free: c.Waived,
	}
}

// Time returns when the charge was captured, to the second.
func (r *Receipt) Time() time.Time { return time.Unix(r.At, 0).UTC() }

const (
	receiptType = "farebox-receipt+jws"
	algorithm   = "EdDSA"
)

// Signer signs receipts with the installation's key. It may be used by many
// goroutines at once.
type Signer struct {
	key    ed25519.PrivateKey
	header string // the encoded header of receipts, which depends only on the key
}

// NewSigner returns a signer with the key derived from the seed.
func NewSigner(seed [ed25519.SeedSize]byte) *Signer {
	key := ed25519.NewKeyFromSeed(seed[:])
	public := key.Public().(ed25519.PublicKey)
	return &Signer{key: key, header: encodeHeader(receiptType, public)}
}

func encodeHeader(typ string, public ed25519.PublicKey) string {
	header, err := json.Marshal(receiptHeader{Alg: algorithm, Typ: typ, Kid: KeyID(public)})
	if err != nil {
		panic(err) // cannot happen, because three strings always encode
	}
	return base64.RawURLEncoding.EncodeToString(header)
}

type receiptHeader struct {
	Alg string `json:"alg"`
	Typ string `json:"typ"`
	Kid string `json:"kid"`
}

// KeyID returns the id of a public key: the first 12 bytes of its SHA-256, in
// base64url.
func KeyID(public ed25519.PublicKey) string {
	sum := sha256.Sum256(public)
	return base64.RawURLEncoding.EncodeToString(sum[:12])
}

// Public returns the public key for the signer's signatures.
func (s *Signer) Public() ed25519.PublicKey { return s.key.Public().(ed25519.PublicKey) }

// Sign returns the receipt as a compact JWS.
func (s *Signer) Sign(r Receipt) string { return string(s.AppendSigned(nil, &r)) }

// AppendSigned appends the receipt as a compact JWS.
func (s *Signer) AppendSigned(to []byte, r *Receipt) []byte {
	return s.appendJWS(to, s.header, r.appendJSON(make([]byte, 0, 512)))
}

func (s *Signer) appendJWS(to []byte, header string, payload []byte) []byte {
	encoding := base64.RawURLEncoding
	to = slices.Grow(to, len(header)+encoding.EncodedLen(len(payload))+encoding.EncodedLen(ed25519.SignatureSize)+2)
	from := len(to)
	to = append(append(to, header...), '.')
	to = encoding.AppendEncode(to, payload)
	signature := ed25519.Sign(s.key, to[from:])
	return encoding.AppendEncode(append(to, '.'), signature)
}

// appendJSON appends the receipt as json.Marshal encodes it.
func (r *Receipt) appendJSON(to []byte) []byte {
	for _, member := range [...]struct{ name, value string }{
		{`{"charge":`, r.Charge}, {`,"payer":`, r.Payer}, {`,"server":`, r.Server}, {`,"tool":`, r.Tool},
		{`,"amount":`, r.Amount.String()}, {`,"currency":`, r.Currency}, {`,"environment":`, r.Environment},
	} {
		to = appendJSONString(append(to, member.name...), member.value)
	}
	to = strconv.AppendInt(append(to, `,"iat":`...), r.At, 10)
	if r.Free {
		to = append(to, `,"free":true`...)
	}
	return append(to, '}')
}

// appendJSONString appends a text as json.Marshal encodes it.
func appendJSONString(to []byte, text string) []byte {
	for i := range len(text) {
		if b := text[i]; b < ' ' || b > '~' || b == '"' || b == '\\' || b == '<' || b == '>' || b == '&' {
			encoded, err := json.Marshal(text)
			if err != nil {
				panic(err) // cannot happen, because strings always encode
			}
			return append(to, encoded...)
		}
	}
	return append(append(append(to, '"'), text...), '"')
}

// ErrReceipt says that a text is not a receipt signed with one of the given keys.
var ErrReceipt = errors.New("not a valid receipt")

// MaxReceipt bounds the text of a receipt in bytes. The longest member is the URI of a
// called resource: its 1024 bytes can become six times as many in JSON, and base64 adds
// a third.
const MaxReceipt = 16 << 10

// VerifyReceipt checks a compact JWS and returns the receipt in it. The header of the
// JWS must name one of the public keys. All errors are ErrReceipt.
func VerifyReceipt(jws string, public ...ed25519.PublicKey) (Receipt, error) {
	r, _, err := ReceiptKeys(public).Verify(jws)
	return r, err
}

// Verify checks a compact JWS. It returns the receipt in the JWS, and the id of the key
// that signed the JWS. The header must name one of the keys. The header and the content
// must have exactly the members of a receipt, so that an accepted receipt has only one
// form and one meaning. All errors are ErrReceipt.
func (k ReceiptKeys) Verify(jws string) (r Receipt, keyID string, err error) {
	return verifyJWS[Receipt](k, jws, receiptType)
}

// verifyJWS checks a compact JWS of type typ, and returns its content and the id of the
// key that signed the JWS.
func verifyJWS[T any](k ReceiptKeys, jws, typ string) (content T, keyID string, err error) {
	var none T
	if len(jws) > MaxReceipt {
		return none, "", fmt.Errorf("%w: it is longer than %d bytes", ErrReceipt, MaxReceipt)
	}
	parts := strings.Split(jws, ".")
	if len(parts) != 3 {
		return none, "", fmt.Errorf("%w: want three parts with points between them, have %d", ErrReceipt, len(parts))
	}
	var raw [3][]byte
	for i, part := range parts {
		if raw[i], err = decodeURL(part); err != nil {
			return none, "", fmt.Errorf("%w: part %d is not base64url", ErrReceipt, i+1)
		}
	}
	key, err := k.named(raw[0], typ)
	if err != nil {
		return none, "", err
	}
	if !ed25519.Verify(key, []byte(parts[0]+"."+parts[1]), raw[2]) {
		return none, "", fmt.Errorf("%w: the signature is wrong", ErrReceipt)
	}
	if content, err = decodeExactly[T](raw[1]); err != nil {
		return none, "", fmt.Errorf("%w: its content cannot be read: %w", ErrReceipt, err)
	}
	return content, KeyID(key), nil
}

// named returns the key that the header names. The header cannot choose the
// algorithm: it must name the only supported one (RFC 8725, section 3.1).
func (k ReceiptKeys) named(header []byte, typ string) (ed25519.PublicKey, error) {
	h, err := decodeExactly[receiptHeader](header)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: its header is not that of a Farebox receipt: %w", ErrReceipt, err)
	case h.Alg != algorithm:
		return nil, fmt.Errorf("%w: its header asks for the algorithm %.20q, not %s", ErrReceipt, h.Alg, algorithm)
	case h.Typ != typ:
		return nil, fmt.Errorf("%w: its header says that it is a %.40q, not a %s", ErrReceipt, h.Typ, typ)
	}
	for _, key := range k {
		if KeyID(key) == h.Kid {
			return key, nil
		}
	}
	return nil, fmt.Errorf("%w: signed by the unknown key %.40q", ErrReceipt, h.Kid)
}
