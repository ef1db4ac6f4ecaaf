package gate

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"slices"
	"strings"
	"time"

	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/mcp"
	"github.com/fareboxhq/farebox/internal/pricing"
)

// SealKeySize is the size of a sealing key in bytes.
const SealKeySize = 32

// Sealer makes what an MCP server hands out good for one account at one server:
// session ids and event ids go to clients with an authenticated tag (HMAC with
// SHA-256, RFC 2104, cut to 128 bits), and come back only with it. No memory is
// needed for that, so that every node with the same keys can do it. It may be
// used by many goroutines at once.
type Sealer struct {
	now  func() time.Time
	keys []SealKey
}

// SealKey is a key of a Sealer.
type SealKey struct {
	Key   [SealKeySize]byte
	Until time.Time // from then on it opens nothing; the zero time is never
}

// NewSealer returns a sealer that seals with the first key and opens what any
// of them has sealed, until its end. There must be one.
func NewSealer(now func() time.Time, keys ...SealKey) *Sealer { return &Sealer{now: now, keys: keys} }

const tagSize = 16

// What a tag is for, and in which version: one of a kind never passes for one of
// another.
const (
	sealedSession = "session/1"
	sealedEvent   = "event/1"
)

// tag authenticates the content as what belongs to the parts, of which the first
// is its purpose.
func (s *Sealer) tag(key int, content []byte, parts ...string) []byte {
	h := hmac.New(sha256.New, s.keys[key].Key[:])
	for _, part := range parts {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(part))))
		h.Write([]byte(part))
	}
	h.Write(content)
	return h.Sum(nil)[:tagSize]
}

// opens reports whether one of the keys that are good now has made the tag.
func (s *Sealer) opens(tag, content []byte, parts ...string) bool {
	for key, k := range s.keys {
		if !k.Until.IsZero() && !s.now().Before(k.Until) {
			continue
		}
		if hmac.Equal(tag, s.tag(key, content, parts...)) {
			return true
		}
	}
	return false
}

// Tag authenticates the content, for whoever has the same keys, as what belongs
// to the parts. The first part is its purpose: a tag for one never passes for one
// for another.
func (s *Sealer) Tag(content []byte, parts ...string) []byte { return s.tag(0, content, parts...) }

// Opens reports whether Tag has made the tag of the content and the parts, with
// one of the keys that are good now.
func (s *Sealer) Opens(tag, content []byte, parts ...string) bool {
	return s.opens(tag, content, parts...)
}

// SealSession returns the session id that the key's account is to see for one
// of the server's.
func (g *Gate) SealSession(key *keys.Key, id string) string {
	tag := g.Sealer.tag(0, []byte(id), sealedSession, g.policy.Server, key.Account)
	return id + "." + base64.RawURLEncoding.EncodeToString(tag)
}

// OpenSession returns the server's session id. false says that the id is none
// that SealSession gave to the key's account.
func (g *Gate) OpenSession(key *keys.Key, sealed string) (string, bool) {
	dot := strings.LastIndexByte(sealed, '.')
	if dot < 0 {
		return "", false
	}
	id := sealed[:dot]
	tag, err := base64.RawURLEncoding.Strict().DecodeString(sealed[dot+1:])
	return id, err == nil && g.Sealer.opens(tag, []byte(id), sealedSession, g.policy.Server, key.Account)
}

// Ticket says what a stream is of, so that a client who comes back with the id
// of one of its events finds the rest of it, and pays for it once.
type Ticket struct {
	// Request and Method are of the request that the stream answers; the zero
	// ID is for a stream that a client has opened by GET.
	Request mcp.ID
	Method  string
	// Charge is the id of the charge of a paid call, "" for what costs nothing.
	Charge string
	// asked returns the request's fingerprint, where it may be asked for input;
	// not sealed, and nil on a stream that is resumed.
	asked func() [32]byte
	// accepted is called when the call was accepted as a task; nil for none.
	accepted func()
	scopes   []string // that the call's key needed
	began    int64    // when the call was reserved, in seconds since 1970
	order    ledger.Order
	on       pricing.ChargeOn
	retry    ledger.Idempotency
	entry    string
}

// Paid reports whether the stream is of a paid call.
func (t *Ticket) Paid() bool { return t.Charge != "" }

// SealEvent returns the event id that the key's lineage is to see for one of the
// server's in that session of the server's ("" for none), with the ticket in it.
func (g *Gate) SealEvent(key *keys.Key, session string, t *Ticket, event []byte) []byte {
	var w ticketWriter
	w.text(string(event))
	w.text(string(t.Request.AppendJSON(nil)))
	w.text(t.Method)
	w.text(t.Charge)
	w.scopes(t.scopes)
	if t.Paid() {
		w.call(t)
	}
	w.b = append(w.b, g.Sealer.tag(0, w.b, sealedEvent, g.policy.Server, key.Account, key.Lineage, session)...)
	return base64.RawURLEncoding.AppendEncode(nil, w.b)
}

// OpenEvent returns the server's event id and the ticket. false says that the
// id is none that SealEvent gave to the key's lineage in that session.
func (g *Gate) OpenEvent(key *keys.Key, session, sealed string) (event string, t *Ticket, ok bool) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(sealed)
	if err != nil || len(raw) < tagSize {
		return "", nil, false
	}
	content, tag := raw[:len(raw)-tagSize], raw[len(raw)-tagSize:]
	if !g.Sealer.opens(tag, content, sealedEvent, g.policy.Server, key.Account, key.Lineage, session) {
		return "", nil, false
	}
	r := ticketReader{b: content}
	t = new(Ticket)
	event = r.text()
	request := r.text()
	t.Method, t.Charge = r.text(), r.text()
	t.scopes = r.scopes()
	if t.Paid() {
		r.call(t)
	}
	if t.Request, ok = readID(request); !ok || r.bad || len(r.b) > 0 {
		return "", nil, false // of another version of this program
	}
	return event, t, true
}

// readID reads an id as AppendJSON wrote it.
func readID(text string) (mcp.ID, bool) {
	if text == "null" {
		return mcp.ID{}, true
	}
	m, err := mcp.Decode([]byte(`{"jsonrpc":"2.0","id":` + text + `,"method":"ping"}`))
	return m.ID, err == nil
}

// ticketWriter writes what is sealed: each part after its length.
type ticketWriter struct{ b []byte }

func (w *ticketWriter) text(s string) {
	w.b = append(binary.AppendUvarint(w.b, uint64(len(s))), s...)
}

func (w *ticketWriter) number(n uint64) { w.b = binary.AppendUvarint(w.b, n) }

// scopes writes a list. The usual one takes a byte.
func (w *ticketWriter) scopes(list []string) {
	if slices.Equal(list, usual) {
		w.number(1)
		return
	}
	if len(list) == 0 {
		w.number(0)
		return
	}
	w.number(uint64(len(list)) + 1)
	for _, s := range list {
		w.text(s)
	}
}

func (w *ticketWriter) call(t *Ticket) {
	o := &t.order
	w.number(uint64(t.began))
	w.text(o.Key)
	w.text(o.Lineage)
	w.text(o.Tool)
	w.number(uint64(o.Amount))
	w.number(uint64(o.Fee))
	w.text(o.FeeTo)
	test := uint64(0)
	if o.Test {
		test = 1
	}
	w.number(test)
	w.number(uint64(t.on))
	w.text(t.entry)
	w.text(t.retry.Key)
	if t.retry.Key != "" {
		w.b = append(w.b, t.retry.Fingerprint[:]...)
	}
}

// ticketReader reads what a ticketWriter wrote.
type ticketReader struct {
	b   []byte
	bad bool
}

func (r *ticketReader) number() uint64 {
	n, size := binary.Uvarint(r.b)
	if size <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[size:]
	return n
}

func (r *ticketReader) bytes(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.bad, r.b = true, nil
		return nil
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

func (r *ticketReader) text() string { return string(r.bytes(r.number())) }

func (r *ticketReader) scopes() (list []string) {
	switch n := r.number(); {
	case n == 1:
		return usual
	case n > uint64(len(r.b)): // each takes a byte at least
		r.bad = true
	default:
		for ; n > 1; n-- {
			list = append(list, r.text())
		}
	}
	return list
}

func (r *ticketReader) call(t *Ticket) {
	o := &t.order
	t.began = int64(r.number())
	o.Key, o.Lineage, o.Tool = r.text(), r.text(), r.text()
	o.Amount, o.Fee = ledger.Amount(r.number()), ledger.Amount(r.number())
	o.FeeTo = r.text()
	o.Test = r.number() == 1
	t.on = pricing.ChargeOn(r.number())
	t.entry = r.text()
	if t.retry.Key = r.text(); t.retry.Key != "" {
		copy(t.retry.Fingerprint[:], r.bytes(uint64(len(t.retry.Fingerprint))))
	}
}
