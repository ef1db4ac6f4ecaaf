package server

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/fareboxhq/farebox/internal/clock"
)

// implementation is how this package names itself in handshakes.
const implementation = `{"name":"farebox","version":"1"}`

// hail makes the handshake of the versions with sessions with a shared process. It says
// that the client can do nothing, because a request of the process could not be brought to
// one of its clients.
func (s *Server) hail(ctx context.Context, p *peer) error {
	m, err := parse([]byte(`{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"`+legacyVersions[0]+`","capabilities":{},"clientInfo":`+implementation+`}}`), strict)
	if err != nil {
		return err
	}
	answer, err := p.ask(ctx, &call{id: m.id, method: m.method, stream: &stream{max: s.o.Buffer}}, m)
	if err != nil {
		return err
	}
	if p.hello = get(answer, "result"); p.hello == nil {
		return &refusal{status: codeBadGateway, reason: "the server refuses to be initialized: " + text(get(answer, "error", "message"))}
	}
	return p.proc.Send(ctx, []byte(`{"jsonrpc":"2.0","method":"`+methodInitialized+`"}`))
}

// discover asks a process whether it speaks 2026-07-28 (server/discover).
func (s *Server) discover(ctx context.Context, p *peer) error {
	m, err := parse([]byte(`{"jsonrpc":"2.0","id":0,"method":"`+methodDiscover+`","params":{"_meta":{"`+keyVersion+`":"`+versionModern+`","io.modelcontextprotocol/clientInfo":`+implementation+`,"`+keyCapabilities+`":{}}}}`), strict)
	if err != nil {
		return err
	}
	answer, err := p.ask(ctx, &call{id: m.id, method: m.method, stream: &stream{max: s.o.Buffer}}, m)
	known := probeLasts
	switch {
	case err == nil && strings.Contains(string(get(answer, "result", "supportedVersions")), `"`+versionModern+`"`):
		return nil
	case err != nil && !errors.Is(err, context.DeadlineExceeded):
		return err
	case err != nil || string(get(answer, "error", "code")) == strconv.Itoa(codeBadGateway):
		known = deathLasts // an older program may end at an unknown method, and a broken one at any
	}
	s.mu.Lock()
	s.legacy = clock.Now().Add(known)
	s.mu.Unlock()
	return errLegacy
}

// How long the answer to server/discover, or its lack, is remembered.
const (
	probeLasts = time.Hour
	deathLasts = time.Minute
)

// modernOwner returns the owner of the processes that speak 2026-07-28. A process speaks
// one kind of version only.
func modernOwner(owner string) string { return versionModern + " " + owner }

// modern returns a process that speaks 2026-07-28. The requests of an account share one.
func (s *Server) modern(ctx context.Context, account string) (*peer, error) {
	s.mu.Lock()
	legacy := clock.Now().Before(s.legacy)
	s.mu.Unlock()
	if legacy {
		return nil, errLegacy
	}
	owner := ownerOf(account)
	if s.o.Per == Shared {
		owner = ownerAll
	}
	return s.acquire(ctx, modernOwner(owner), account, s.discover)
}

// postModern serves a message of 2026-07-28.
func (s *Server) postModern(w http.ResponseWriter, r *http.Request, account string, m *message, version string) {
	if code, reason := checkModern(r, m, version); reason != "" {
		writeError(w, http.StatusBadRequest, m.id, code, reason)
		return
	}
	if m.kind == notification { // the version has none that a client sends over HTTP
		w.WriteHeader(http.StatusAccepted)
		return
	}
	p, err := s.modern(r.Context(), account)
	switch {
	case errors.Is(err, errLegacy) || version != versionModern:
		supported := legacyVersions
		if err == nil {
			supported = append([]string{versionModern}, legacyVersions...)
		}
		data := fmt.Sprintf(`{"supported":["%s"],"requested":%s}`, strings.Join(supported, `","`), quote(version))
		writeMessage(w, http.StatusBadRequest, failure(m.id, -32022, "this server does not speak the version", jsontext.Value(data)))
		return
	case err != nil:
		s.refuse(w, m.id, err)
		return
	}
	c := &call{id: m.id, method: m.method, stream: &stream{max: s.o.Buffer}}
	if err := p.send(r.Context(), c, m); err != nil {
		s.refuse(w, m.id, err)
		return
	}
	(&answering{s: s, w: w, r: r, c: c}).serve()
}

// checkModern compares the headers with the message, as every server of 2026-07-28 must
// (basic/transports/streamable-http, "Request Metadata"). Mcp-Param headers are left to
// farebox and the client: they need the schemas of the tools.
func checkModern(r *http.Request, m *message, version string) (code int, reason string) {
	const mismatch = -32020
	if m.kind == response {
		return -32600, "clients send no responses in this version"
	}
	if r.Header.Get(headerVersion) != version {
		return mismatch, headerVersion + " differs from the version in _meta"
	}
	if m.kind == request && get(m.params, keyMeta, keyCapabilities) == nil {
		return -32602, "_meta needs " + keyCapabilities
	}
	if r.Header.Get("Mcp-Method") != m.method {
		return mismatch, "Mcp-Method differs from the method"
	}
	want, named := "", true
	switch m.method {
	case "tools/call", "prompts/get":
		want = text(get(m.params, "name"))
	case "resources/read":
		want = text(get(m.params, "uri"))
	default:
		named = false
	}
	if got, ok := decodeHeader(r.Header.Get("Mcp-Name")); named && (!ok || got != want) {
		return mismatch, "Mcp-Name differs from the name in params"
	}
	return 0, ""
}

// decodeHeader decodes a value of a header that mirrors a member of the message.
func decodeHeader(value string) (string, bool) {
	inner, ok := strings.CutPrefix(value, "=?base64?")
	if !ok {
		return value, true
	}
	inner, ok = strings.CutSuffix(inner, "?=")
	decoded, err := base64.StdEncoding.DecodeString(inner)
	return string(decoded), ok && err == nil
}
