package gate

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"strings"
	"time"

	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/mcp"
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
