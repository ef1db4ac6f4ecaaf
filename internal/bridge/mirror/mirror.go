// Package mirror copies parts of a message into the headers of its HTTP request (MCP
// 2026-07-28, Streamable HTTP, "Request Metadata").
package mirror

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"sync"

	"github.com/fareboxhq/farebox/internal/mcp"
)

// Params knows the arguments that tools want in headers. The zero value is empty and
// ready to use. Params is safe for concurrent use.
type Params struct {
	mu    sync.RWMutex
	tools map[string][]binding
}

// binding says that the argument at a path is copied into a header.
type binding struct {
	header string
	path   []string
}

// maxDepth bounds the nesting of a schema in which annotations are looked for.
const maxDepth = 16

// Learn reads the annotations x-mcp-header of a tool's input schema. It replaces the
// annotations that an earlier call has found for the tool. A schema that cannot be read
// has none.
func (p *Params) Learn(tool string, schema []byte) {
	var found []binding
	if bytes.Contains(schema, []byte("x-mcp-header")) {
		found = annotations(schema, nil)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(found) == 0 {
		delete(p.tools, tool)
		return
	}
	if p.tools == nil {
		p.tools = make(map[string][]binding)
	}
	p.tools[tool] = found
}

func annotations(schema []byte, path []string) (found []binding) {
	var node struct {
		Properties map[string]json.RawMessage `json:"properties"`
	}
	if len(path) > maxDepth || json.Unmarshal(schema, &node) != nil {
		return nil
	}
	for name, property := range node.Properties {
		at := append(path[:len(path):len(path)], name)
		var annotated struct {
			Header string `json:"x-mcp-header"`
		}
		if json.Unmarshal(property, &annotated) == nil && isToken(annotated.Header) {
			found = append(found, binding{header: annotated.Header, path: at})
		}
		found = append(found, annotations(property, at)...)
	}
	return found
}

// isToken reports whether a text can be a part of a header's name (RFC 9110, 5.6.2).
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := 'a' <= c|0x20 && c|0x20 <= 'z'
		if !letter && (c < '0' || c > '9') && !strings.ContainsRune("!#$%&'*+-.^_`|~", rune(c)) {
			return false
		}
	}
	return s != ""
}

// Set sets Mcp-Protocol-Version, Mcp-Method, Mcp-Name and the Mcp-Param headers for a
// message of a version without sessions.
func (p *Params) Set(h http.Header, m *mcp.Message) {
	h.Set("Mcp-Protocol-Version", m.ProtocolVersion)
	h.Set("Mcp-Method", Value(m.Method))
	method, ok := mcp.LookupMethod(m.Method)
	if !ok {
		return
	}
	if method.Names != mcp.ParamNone {
		h.Set("Mcp-Name", Value(method.Target(m)))
	}
	if method.About != mcp.AboutTool || m.Arguments == nil {
		return
	}
	p.mu.RLock()
	bindings := p.tools[m.Name]
	p.mu.RUnlock()
	for _, b := range bindings {
		if text, ok := argument(m.Arguments, b.path); ok {
			h.Set("Mcp-Param-"+b.header, Value(text))
		}
	}
}

// argument returns the text of the string, number or boolean at the path.
func argument(arguments []byte, path []string) (string, bool) {
	value := json.RawMessage(arguments)
	for _, name := range path {
		var object map[string]json.RawMessage
		if json.Unmarshal(value, &object) != nil {
			return "", false
		}
		value = object[name]
	}
	value = bytes.TrimSpace(value)
	if len(value) == 0 {
		return "", false
	}
	switch value[0] {
	case '{', '[', 'n':
		return "", false
	case '"':
		var text string
		err := json.Unmarshal(value, &text)
		return text, err == nil
	}
	return string(value), true
}

// Value returns a text in the form of a header's value: as it is if it is printable
// ASCII without spaces at its ends, and otherwise as =?base64?...?=.
func Value(text string) string {
	plain := text != "" && strings.TrimSpace(text) == text && !strings.HasPrefix(text, "=?base64?")
	for i := 0; plain && i < len(text); i++ {
		plain = ' ' <= text[i] && text[i] <= '~'
	}
	if plain {
		return text
	}
	return "=?base64?" + base64.StdEncoding.EncodeToString([]byte(text)) + "?="
}
