package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// firstID is the id of the first request in a measurement. All ids have ten digits, so
// that all requests of a row, and all answers of the upstream, have the same length.
const firstID = 1_000_000_000

const statelessVersion = "2026-07-28"

// call describes the tools/call requests of a row and the answers that they must get.
type call struct {
	tool      string
	stateless bool          // true for protocol version 2026-07-28, false for 2025-11-25
	stream    bool          // true if the answer is an event stream
	charge    ledger.Amount // the charge that the answer must have; 0 if it must have none
}

// version returns the value of the MCP-Protocol-Version header.
func (c call) version() string {
	if c.stateless {
		return statelessVersion
	}
	return "2025-11-25"
}

// headers returns the request's headers except for Authorization.
func (c call) headers() map[string]string {
	h := map[string]string{
		"Content-Type":         "application/json",
		"Accept":               "application/json, text/event-stream",
		"Mcp-Protocol-Version": c.version(),
	}
	if c.stateless {
		h["Mcp-Method"] = "tools/call"
		h["Mcp-Name"] = c.tool
	}
	return h
}

// appendBody appends the request's body.
func (c call) appendBody(b []byte, id int64) []byte {
	b = append(b, `{"jsonrpc":"2.0","id":`...)
	b = strconv.AppendInt(b, id, 10)
	b = append(b, `,"method":"tools/call","params":{"name":"`...)
	b = append(b, c.tool...)
	b = append(b, `","arguments":{"city":"Oslo"}`...)
	if c.stateless {
		b = append(b, `,"_meta":{"io.modelcontextprotocol/protocolVersion":"`+statelessVersion+`","io.modelcontextprotocol/clientCapabilities":{}}`...)
	}
	return append(b, `}}`...)
}

const (
	metaCharge  = "dev.farebox/charge"
	metaReceipt = "dev.farebox/receipt"
)

// check checks six parts of an answer: status, content type, id, result, charge and
// receipt. A free call must have no charge and no receipt. To save the client's CPU
// time, check only searches the body for the expected bytes. checkWhole decodes the
// body instead.
func (c call) check(id int64, status int, contentType string, body []byte) error {
	if err := c.checkHead(status, contentType); err != nil {
		return fmt.Errorf("%w: %s", err, body)
	}
	var wanted [16]byte
	if want := strconv.AppendInt(wanted[:0], id, 10); !bytes.Equal(answeredID(body), want) {
		return fmt.Errorf("the answer to the request %d has another id: %s", id, body)
	}
	if !bytes.Contains(body, quotedResult(c.stateless)) {
		return fmt.Errorf("the answer lacks the result: %s", body)
	}
	if charged := bytes.Contains(body, []byte(`"`+metaCharge+`":{"id":"`)); charged != (c.charge > 0) {
		return fmt.Errorf("charged %t: %s", charged, body)
	}
	if receipt := bytes.Contains(body, []byte(`"`+metaReceipt+`":"ey`)); receipt != (c.charge > 0) {
		return fmt.Errorf("receipt %t: %s", receipt, body)
	}
	return nil
}

func (c call) checkHead(status int, contentType string) error {
	want := "application/json"
	if c.stream {
		want = "text/event-stream"
	}
	if status != 200 || !strings.HasPrefix(contentType, want) {
		return fmt.Errorf("status %d, type %q; want 200 and %s", status, contentType, want)
	}
	return nil
}

// answeredID returns the digits of the first id in the body of an answer, or nil if
// there is no id.
func answeredID(body []byte) []byte {
	const before = `"id":`
	i := bytes.Index(body, []byte(before))
	if i < 0 {
		return nil
	}
	digits := body[i+len(before):]
	end := bytes.IndexFunc(digits, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		return nil
	}
	return digits[:end]
}

// checkWhole is like check, but decodes the whole answer and compares each member.
func (c call) checkWhole(id int64, status int, contentType string, body []byte) error {
	if err := c.checkHead(status, contentType); err != nil {
		return fmt.Errorf("%w: %s", err, body)
	}
	message := body
	if c.stream {
		_, data, _ := bytes.Cut(body, []byte("data:"))
		message, _, _ = bytes.Cut(data, []byte("\n"))
	}
	var m struct {
		ID     int64 `json:"id"`
		Result struct {
			Content []struct {
				Text string `json:"text"`
			} `json:"content"`
			IsError bool `json:"isError"`
			Meta    struct {
				Charge *struct {
					Amount ledger.Amount `json:"amount"`
				} `json:"dev.farebox/charge"`
				Receipt string `json:"dev.farebox/receipt"`
			} `json:"_meta"`
		} `json:"result"`
	}
	if err := json.Unmarshal(message, &m); err != nil {
		return fmt.Errorf("%w in %s", err, body)
	}
	charge := ledger.Amount(0)
	if m.Result.Meta.Charge != nil {
		charge = m.Result.Meta.Charge.Amount
	}
	switch {
	case m.ID != id:
		return fmt.Errorf("id %d; want %d", m.ID, id)
	case m.Result.IsError || len(m.Result.Content) != 1 || m.Result.Content[0].Text != resultText(c.stateless):
		return fmt.Errorf("not the upstream's result: %s", body)
	case charge != c.charge || (m.Result.Meta.Receipt != "") != (c.charge > 0):
		return fmt.Errorf("charge %s; want %s, with a receipt if it is not 0: %s", charge, c.charge, body)
	}
	return nil
}
