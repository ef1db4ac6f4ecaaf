package gate

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"strings"
	"time"

	"github.com/fareboxhq/farebox/internal/id"
	"github.com/fareboxhq/farebox/internal/mcp"
)

// SealKeySize is the size of a sealing key in bytes.
const SealKeySize = 32

// Sealer ties the session ids and event ids of an MCP server to one account at that
// server. Clients get each id with an authentication tag (HMAC with SHA-256, RFC
// 2104, truncated to 128 bits), and an id is accepted only with its tag. Sealing
// needs no memory, so every node with the same keys accepts the ids. A Sealer is
// safe for concurrent use.
type Sealer struct {
	now  func() time.Time
	keys []SealKey
}

// SealKey is a key of a Sealer.
type SealKey struct {
	Key   [SealKeySize]byte
	Until time.Time // the key opens no ids from this instant on; zero for never
}

// NewSealer returns a sealer that seals with the first key and opens with all of the
// keys, with each key until its end. It needs at least one key.
func NewSealer(now func() time.Time, keys ...SealKey) *Sealer { return &Sealer{now: now, keys: keys} }

const tagSize = 16

// The purposes of tags, each with a version. A tag made for one purpose never
// passes for another.
const (
	sealedSession = "session/1"
	sealedEvent   = "event/1"
)

// tag authenticates the content together with the given texts. The first text is the
// purpose.
func (s *Sealer) tag(key int, content []byte, parts ...string) []byte {
	h := hmac.New(sha256.New, s.keys[key].Key[:])
	h.Write(id.AppendParts(nil, parts...))
	h.Write(content)
	return h.Sum(nil)[:tagSize]
}

// opens reports whether the tag was made with one of the keys that are valid now.
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

// Tag authenticates the content together with the given texts, for all holders of the
// same keys. The first text is the purpose: a tag made for one purpose never passes for
// another.
func (s *Sealer) Tag(content []byte, parts ...string) []byte { return s.tag(0, content, parts...) }

// Opens reports whether Tag made the tag for this content and these texts with a key
// that is valid now.
func (s *Sealer) Opens(tag, content []byte, parts ...string) bool {
	return s.opens(tag, content, parts...)
}

// SealSession seals a session id of the server for the caller's account.
func (g *Gate) SealSession(caller *Caller, id string) string {
	tag := g.deps.Sealer.tag(0, []byte(id), sealedSession, g.policy.Server, caller.Account)
	return id + "." + base64.RawURLEncoding.EncodeToString(tag)
}

// OpenSession returns the server's session id, or false if SealSession did not seal
// this id for the caller's account.
func (g *Gate) OpenSession(caller *Caller, sealed string) (string, bool) {
	dot := strings.LastIndexByte(sealed, '.')
	if dot < 0 {
		return "", false
	}
	id := sealed[:dot]
	tag, err := base64.RawURLEncoding.Strict().DecodeString(sealed[dot+1:])
	return id, err == nil && g.deps.Sealer.opens(tag, []byte(id), sealedSession, g.policy.Server, caller.Account)
}

// SealEvent seals an event id of the server, together with the ticket, for the caller's
// lineage in the session. session is the server's id for the session, or "" without a
// session.
func (g *Gate) SealEvent(caller *Caller, session string, t *Ticket, event []byte) []byte {
	var w ticketWriter
	w.text(string(event))
	w.text(string(t.Request.AppendJSON(nil)))
	w.text(t.Method)
	w.text(t.Charge)
	w.scopes(t.scopes)
	if t.Paid() {
		w.call(t)
	}
	w.b = append(w.b, g.deps.Sealer.tag(0, w.b, sealedEvent, g.policy.Server, caller.Account, caller.Lineage, session)...)
	return base64.RawURLEncoding.AppendEncode(nil, w.b)
}

// OpenEvent returns the server's event id and the ticket, or false if SealEvent did
// not seal them for the caller's lineage in that session.
func (g *Gate) OpenEvent(caller *Caller, session, sealed string) (event string, t *Ticket, ok bool) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(sealed)
	if err != nil || len(raw) < tagSize {
		return "", nil, false
	}
	content, tag := raw[:len(raw)-tagSize], raw[len(raw)-tagSize:]
	if !g.deps.Sealer.opens(tag, content, sealedEvent, g.policy.Server, caller.Account, caller.Lineage, session) {
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
		return "", nil, false // the id was sealed by another version of this program
	}
	return event, t, true
}

// readID reads an id in the form that mcp.ID.AppendJSON writes.
func readID(text string) (mcp.ID, bool) {
	if text == "null" {
		return mcp.ID{}, true
	}
	m, err := mcp.Decode([]byte(`{"jsonrpc":"2.0","id":` + text + `,"method":"ping"}`))
	return m.ID, err == nil
}
