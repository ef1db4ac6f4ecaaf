// Package wire defines the JSON messages that a platform and its gateways without a
// store exchange over HTTP. Package platform serves the requests with these messages,
// and package remotestore sends them. Package wire only converts between the messages
// and the types of packages keys and ledger. Amounts are decimals in strings, times are
// RFC 3339 with microseconds, and digests and fingerprints are hex digits.
package wire

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// Base is the path of the API within the site that serves it.
const Base = "/api/v1"

// Lookup is the request to look up a key.
type Lookup struct {
	Digest string `json:"digest" doc:"SHA-256 of the token, in hex digits" minLength:"64" maxLength:"64"`
}

// ProofLife is the time for which a proof of a key is valid. It is the sum of three
// times: MaxBelief (the time for which a gateway may cache the key), one hour (for the
// longest call), and half an hour (to settle that call).
const ProofLife = 2 * time.Hour

// MaxBelief bounds the time for which a gateway caches a key.
const MaxBelief = 30 * time.Minute

// Key is a key with everything that a gateway needs to decide about a call.
type Key struct {
	ID          string       `json:"id"`
	Account     string       `json:"account"`
	Lineage     string       `json:"lineage"`
	Kind        string       `json:"kind"`
	Environment string       `json:"environment"`
	Name        string       `json:"name,omitempty"`
	Hint        string       `json:"hint,omitempty"`
	Digest      string       `json:"digest"`
	Scopes      []string     `json:"scopes,omitempty"`
	Servers     []string     `json:"servers,omitempty"`
	Limits      *keys.Limits `json:"limits,omitempty"`
	CreatedAt   time.Time    `json:"created_at"`
	ExpiresAt   time.Time    `json:"expires_at,omitzero"`
	DisabledAt  time.Time    `json:"disabled_at,omitzero"`
	DeletedAt   time.Time    `json:"deleted_at,omitzero"`
	LastUsedAt  time.Time    `json:"last_used_at,omitzero"`
	Successor   string       `json:"successor,omitempty"`
	AccountName string       `json:"account_name,omitempty" doc:"For what the key's holder is told"`
	Proof       string       `json:"proof,omitempty" doc:"That the gateway has asked for the key: it goes with orders, for two hours"`
}

// KeyOf converts a key to its wire form.
func KeyOf(k *keys.Key) Key {
	return Key{
		ID: k.ID, Account: k.Account, Lineage: k.Lineage, Kind: k.Kind.String(), Environment: string(k.Environment),
		Name: k.Name, Hint: k.Hint, Digest: hex.EncodeToString(k.Digest[:]), Scopes: k.Scopes, Servers: k.Servers, Limits: k.Limits,
		CreatedAt: k.CreatedAt, ExpiresAt: k.ExpiresAt, DisabledAt: k.DisabledAt, DeletedAt: k.DeletedAt,
		LastUsedAt: k.LastUsedAt, Successor: k.Successor, Proof: k.ProofText(),
	}
}

// Key converts the wire form back to a key. It reverses KeyOf.
func (k *Key) Key() (*keys.Key, error) {
	kind, err := keys.ParseKind(k.Kind)
	if err != nil {
		return nil, err
	}
	digest, err := ParseDigest(k.Digest)
	if err != nil {
		return nil, err
	}
	return &keys.Key{
		ID: k.ID, Account: k.Account, Lineage: k.Lineage, Kind: kind, Environment: keys.Environment(k.Environment),
		Name: k.Name, Hint: k.Hint, Digest: digest, Scopes: k.Scopes, Servers: k.Servers, Limits: k.Limits,
		CreatedAt: k.CreatedAt, ExpiresAt: k.ExpiresAt, DisabledAt: k.DisabledAt, DeletedAt: k.DeletedAt,
		LastUsedAt: k.LastUsedAt, Successor: k.Successor, Proof: proofOf(k.Proof),
	}, nil
}

func proofOf(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

// ParseDigest parses a digest in hex digits.
func ParseDigest(text string) (d keys.Digest, err error) {
	raw, err := hex.DecodeString(text)
	if err != nil || len(raw) != len(d) {
		return d, fmt.Errorf("this is no SHA-256: want %d hex digits", 2*len(d))
	}
	return keys.Digest(raw), nil
}

// Used has the times at which keys were last used, by the ids of the keys.
type Used struct {
	Keys map[string]time.Time `json:"keys" maxProperties:"10000"`
}

// Follow is the request to renew a gateway's lease on its cached keys. It also asks for
// the changes of keys that came after the position Seen.
type Follow struct {
	Node    string `json:"node" doc:"An id that the gateway has made up for as long as it runs" minLength:"1" maxLength:"64"`
	Seen    int64  `json:"seen" doc:"The position up to which it has read; -1 at the beginning"`
	LeaseMS int64  `json:"lease_ms" minimum:"1" maximum:"2000" doc:"No longer than a platform that was started anew waits for leases that it does not know of"`
}

// Revocations has the changes of keys after a position.
type Revocations struct {
	Digests  []string `json:"digests" doc:"The first halves of the keys' digests, 32 hex digits each"`
	Position int64    `json:"position"`
	Gap      bool     `json:"gap,omitempty" doc:"Some may be missing: everything known of keys is in doubt"`
	More     bool     `json:"more,omitempty"`
}

// RevocationsOf converts the changes to their wire form, with only the first half of
// each digest. With half a digest, a gateway can find a key that it has cached, but
// nobody can look up an unknown key.
func RevocationsOf(r keys.Revocations) Revocations {
	w := Revocations{Digests: make([]string, len(r.Digests)), Position: r.Position, Gap: r.Gap, More: r.More}
	for i, d := range r.Digests {
		w.Digests[i] = hex.EncodeToString(d[:keys.HalfDigest])
	}
	return w
}

// Revocations converts the wire form back to changes of keys. It reverses
// RevocationsOf, except that the second half of each digest is zero.
func (w *Revocations) Revocations() (r keys.Revocations, err error) {
	r = keys.Revocations{Position: w.Position, Gap: w.Gap, More: w.More, Digests: make([]keys.Digest, len(w.Digests))}
	for i, text := range w.Digests {
		raw, err := hex.DecodeString(text)
		if err != nil || len(raw) != keys.HalfDigest {
			return keys.Revocations{}, errHalf
		}
		copy(r.Digests[i][:], raw)
	}
	return r, nil
}

var errHalf = fmt.Errorf("this is no half of a SHA-256: want %d hex digits", 2*keys.HalfDigest)

// errFingerprint describes the form of a fingerprint.
var errFingerprint = errors.New("a fingerprint has 64 hex digits")

// Idempotency identifies a call, so that a caller can repeat the call without a second
// charge; see ledger.Idempotency.
type Idempotency struct {
	Key         string `json:"key" maxLength:"256"`
	Fingerprint string `json:"fingerprint" minLength:"64" maxLength:"64"`
}

// Caps are spending caps; see ledger.Caps. If a cap is absent, spending is not bounded.
type Caps struct {
	Call  ledger.Amount `json:"call,omitzero"`
	Day   ledger.Amount `json:"day,omitzero"`
	Month ledger.Amount `json:"month,omitzero"`
}

// Order is the request to reserve money for a call. The platform determines the payer
// and the key's caps from the key. It determines the provider and the operator's fee
// from the server.
type Order struct {
	ID     string        `json:"id" doc:"chg_ and a UUIDv7, made by the caller and reused by each retry" pattern:"^chg_[0-9a-f-]{36}$"`
	Key    string        `json:"key,omitempty" doc:"Id of the paying key; for gateways" maxLength:"64"`
	Proof  string        `json:"proof,omitempty" doc:"That of the paying key, or of another key of its account: from the lookup; for gateways" maxLength:"256"`
	Token  string        `json:"token,omitempty" doc:"The paying agent's token; for providers" maxLength:"512"`
	Server string        `json:"server" maxLength:"64"`
	Tool   string        `json:"tool" maxLength:"1100"`
	Amount ledger.Amount `json:"amount"`
	// Currency is the currency of the amount, from the gateway's config.
	Currency string `json:"currency,omitempty" doc:"Must be the platform's, if given" maxLength:"3"`

	Caps        Caps         `json:"caps,omitzero" doc:"On what the paying account spends at the server; for gateways"`
	FreeCalls   int64        `json:"free_calls,omitempty" minimum:"0" doc:"Calls a day of the account at the server that cost nothing; for gateways"`
	Idempotency *Idempotency `json:"idempotency,omitempty" doc:"Lets the caller send its call again; for gateways"`
}

// OrderOf converts an order and its terms to their wire form.
func OrderOf(id string, o ledger.Order, t ledger.Terms) Order {
	w := Order{ID: id, Key: o.Key, Proof: t.Proof, Server: o.Server, Tool: o.Tool, Amount: o.Amount, Caps: Caps(t.Server), FreeCalls: t.FreeCalls}
	if t.Idempotency.Key != "" {
		w.Idempotency = &Idempotency{Key: idempotencyKey(t.Idempotency.Key), Fingerprint: hex.EncodeToString(t.Idempotency.Fingerprint[:])}
	}
	return w
}

// idempotencyKey encodes a caller's idempotency key for JSON. JSON replaces bytes that
// are not valid UTF-8 by U+FFFD, which could make different keys equal. Therefore,
// idempotencyKey replaces a key that contains such bytes by its hash. The hash follows
// a byte that never occurs in a header, so the replacement differs from every other
// key.
func idempotencyKey(key string) string {
	if utf8.ValidString(key) {
		return key
	}
	sum := sha256.Sum256([]byte(key))
	return "\x01" + hex.EncodeToString(sum[:])
}

// Terms returns the terms of the order that a gateway is allowed to set.
func (w *Order) Terms() (t ledger.Terms, err error) {
	t = ledger.Terms{Server: ledger.Caps(w.Caps), FreeCalls: w.FreeCalls, Proof: w.Proof}
	if err := t.Server.Check(); err != nil {
		return t, err
	}
	if w.Idempotency == nil {
		return t, nil
	}
	raw, err := hex.DecodeString(w.Idempotency.Fingerprint)
	if err != nil || len(raw) != len(t.Idempotency.Fingerprint) {
		return t, errFingerprint
	}
	t.Idempotency = ledger.Idempotency{Key: w.Idempotency.Key, Fingerprint: [32]byte(raw)}
	return t, nil
}

// Balance is the balance of an account, and the amount of it that open reservations
// hold.
type Balance struct {
	Posted   ledger.Amount `json:"posted"`
	Reserved ledger.Amount `json:"reserved"`
}

// Charge is the wire form of a charge.
type Charge struct {
	ID       string        `json:"id"`
	Account  string        `json:"account"`
	Provider string        `json:"provider"`
	Key      string        `json:"key"`
	Lineage  string        `json:"lineage"`
	Server   string        `json:"server"`
	Tool     string        `json:"tool"`
	Amount   ledger.Amount `json:"amount"`
	Fee      ledger.Amount `json:"fee"`
	FeeTo    string        `json:"fee_to,omitempty"`
	Test     bool          `json:"test,omitempty"`
	State    string        `json:"state"`
	At       time.Time     `json:"at"`
	Waived   bool          `json:"waived,omitempty"`
	Refunded ledger.Amount `json:"refunded,omitzero"`
}

// ChargeOf converts a charge to its wire form.
func ChargeOf(c *ledger.Charge) Charge {
	return Charge{
		ID: c.ID, Account: c.Account, Provider: c.Provider, Key: c.Key, Lineage: c.Lineage, Server: c.Server, Tool: c.Tool,
		Amount: c.Amount, Fee: c.Fee, FeeTo: c.FeeTo, Test: c.Test, State: string(c.State), At: c.At, Waived: c.Waived, Refunded: c.Refunded,
	}
}

// Charge converts the wire form back to a charge. It reverses ChargeOf, except for the
// settler, which is not sent.
func (c *Charge) Charge() ledger.Charge {
	return ledger.Charge{
		ID: c.ID, State: ledger.State(c.State), At: c.At, Waived: c.Waived, Refunded: c.Refunded,
		Order: ledger.Order{
			Account: c.Account, Provider: c.Provider, Key: c.Key, Lineage: c.Lineage, Server: c.Server, Tool: c.Tool,
			Amount: c.Amount, Fee: c.Fee, FeeTo: c.FeeTo, Test: c.Test,
		},
	}
}

// Answer is the stored response for a call that the caller has repeated.
type Answer struct {
	Charge  Charge  `json:"charge"`
	Balance Balance `json:"balance"`
	Body    []byte  `json:"body" doc:"As it was kept, in base64"`
}

// Reserved is the response to an Order.
type Reserved struct {
	Balance Balance `json:"balance"`
	Waived  bool    `json:"waived,omitempty"`
	First   *Answer `json:"first,omitempty" doc:"The call was answered before: nothing is reserved"`
}

// Capture is the request to pay a reservation.
type Capture struct {
	Answer []byte `json:"answer,omitempty" doc:"The answer, to be kept for a caller that sends its call again, in base64"`
	// Order is the order of the reservation. If the reservation no longer exists, the
	// platform uses the order to make the charge under the same id. In this case, the
	// platform checks the balance and the caps again.
	Order *Order `json:"order,omitempty"`
}

// Captured is the response to a Capture: the paid charge, and the payer's balance after
// the charge.
type Captured struct {
	Charge  Charge  `json:"charge"`
	Balance Balance `json:"balance"`
	Made    bool    `json:"made,omitempty" doc:"It was captured by this request, and not before"`
}

// Refund is the request to refund a charge, in whole or in part.
type Refund struct {
	ID     string        `json:"id" doc:"txn_ and a UUIDv7, made by the caller and reused by each retry" pattern:"^txn_[0-9a-f-]{36}$"`
	Amount ledger.Amount `json:"amount,omitzero" doc:"All that is left of it, if absent"`
	Reason string        `json:"reason" maxLength:"500"`
}

// Refunded is the response to a Refund: the refund, and the payer's balance after the
// refund.
type Refunded struct {
	ID      string        `json:"id"`
	Charge  string        `json:"charge"`
	Amount  ledger.Amount `json:"amount"`
	At      time.Time     `json:"at"`
	Balance Balance       `json:"balance"`
}

// Binding is the wire form of a ledger.Binding.
type Binding struct {
	Server     string    `json:"server" maxLength:"64"`
	HandleHash string    `json:"hash" minLength:"32" maxLength:"32"`
	Account    string    `json:"account" maxLength:"64"`
	Until      time.Time `json:"until"`
	Payload    []byte    `json:"payload,omitempty"`
}

// BindingOf converts a binding to its wire form.
func BindingOf(b ledger.Binding) Binding {
	return Binding{Server: b.Server, HandleHash: hex.EncodeToString(b.HandleHash[:]), Account: b.Account, Until: b.Until, Payload: b.Payload}
}

// Binding converts the wire form back to a binding. It reverses BindingOf.
func (w *Binding) Binding() (b ledger.Binding, err error) {
	raw, err := hex.DecodeString(w.HandleHash)
	if err != nil || len(raw) != len(b.HandleHash) {
		return b, errors.New("a handle hash has 32 hex digits")
	}
	return ledger.Binding{Server: w.Server, HandleHash: ledger.HandleHash(raw), Account: w.Account, Until: w.Until, Payload: w.Payload}, nil
}
