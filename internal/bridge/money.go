package bridge

import (
	"bytes"
	"encoding/json"

	"github.com/fareboxhq/farebox/internal/bridge/purse"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/mcp"
)

// longResponse is the size in bytes from which on a response may be without a charge of
// the gateway, or with one that the server made up (docs/receipts.md). The gateway's
// limit is 1 MiB for the whole response, which is a little more than the message.
const longResponse = 1<<20 - 1<<10

// stamps are the gateway's members in the _meta of a response.
type stamps struct {
	Charge *struct {
		ID       string        `json:"id"`
		Amount   ledger.Amount `json:"amount"`
		Currency string        `json:"currency"`
		Balance  ledger.Amount `json:"balance"`
		Free     bool          `json:"free"`
	} `json:"dev.farebox/charge"`
	Error *struct {
		Code         string         `json:"code"`
		Price        *ledger.Amount `json:"price"`
		Currency     string         `json:"currency"`
		RetryAfterMS int64          `json:"retry_after_ms"`
		Charge       string         `json:"charge"`
	} `json:"dev.farebox/error"`
	Replayed bool `json:"dev.farebox/replayed"`

	rawError []byte
}

// code returns the code of the gateway's refusal, or "".
func (s *stamps) code() string {
	if s.Error == nil {
		return ""
	}
	return s.Error.Code
}

// stampsOf reads the gateway's members. A message without them has none. Names are compared
// exactly, because json.Unmarshal would also read a member of the server's with a name that
// differs in case only.
func stampsOf(message []byte) (s stamps) {
	if !bytes.Contains(message, []byte("dev.farebox/")) {
		return s
	}
	members := object(message)
	meta := object(object(members["result"])["_meta"])
	if members["result"] == nil {
		meta = object(object(object(members["error"])["data"])["_meta"])
	}
	own := make(map[string]json.RawMessage)
	for _, name := range []string{"dev.farebox/charge", "dev.farebox/error", "dev.farebox/replayed"} {
		if meta[name] != nil {
			own[name] = meta[name]
		}
	}
	if json.Unmarshal(encode(own), &s) != nil {
		return stamps{}
	}
	if s.Error != nil {
		s.rawError = own["dev.farebox/error"]
	}
	return s
}

// settle learns from the response to a request, and settles its reservation. It may
// replace a refusal that is silent about an earlier attempt.
func (b *Bridge) settle(c *call, r *result) {
	if r.state != answered {
		b.settleGone(c)
		return
	}
	if r.verdict.Outcome == mcp.OutcomeResult {
		b.learn(c, r)
	}
	long := len(r.message) > longResponse
	s := stampsOf(r.message)
	if long && r.verdict.Outcome == mcp.OutcomeResult {
		s = stamps{}
	}
	if mcp.OfOneTask(c.m.Method) {
		b.settleTask(c, r, &s)
	}
	switch {
	case c.hold == nil:
	case r.own && c.doubt:
		c.hold.InDoubt()
	case r.own:
		c.hold.Free()
	case s.Charge != nil:
		b.charge(c, c.hold, &s)
	case s.Error != nil:
		b.settleRefusal(c, r, &s)
	case r.verdict.Outcome == mcp.OutcomeTask:
		c.hold.Park(taskIn(r.message))
	case r.verdict.Outcome == mcp.OutcomeResult, r.verdict.Outcome == mcp.OutcomeUnknown:
		c.hold.Unstamped(long)
	case c.doubt:
		c.hold.InDoubt() // the error says nothing about the earlier attempt
	default:
		c.hold.Free()
	}
}

// settleGone settles the reservation of a request that the client no longer waits for. If
// the gateway may have received it, it may have been charged.
func (b *Bridge) settleGone(c *call) {
	switch {
	case c.hold == nil:
	case c.tries > 0:
		c.hold.InDoubt()
	default:
		c.hold.Free()
	}
}

// charge settles a reservation by the charge in a response.
func (b *Bridge) charge(c *call, hold *purse.Hold, s *stamps) {
	hold.Charged(s.Charge.Amount)
	if !b.o.Verbose {
		return
	}
	spent, left, limited := b.purse.Spent()
	budget := ""
	if limited {
		budget = ", " + left.String() + " of the budget left"
	}
	b.notes.report("%s cost %s %s (%s); spent %s, %s in the account%s", describe(c.m), s.Charge.Amount, s.Charge.Currency, s.Charge.ID, spent, s.Charge.Balance, budget)
}

// settleRefusal settles the reservation of a call that the gateway has refused.
func (b *Bridge) settleRefusal(c *call, r *result, s *stamps) {
	if s.Error.Code == "PRICE_ABOVE_MAX" && s.Error.Price != nil {
		b.learnQuote(c, *s.Error.Price, s.Error.Currency)
	}
	switch {
	case s.Error.Charge != "", s.Error.Code == "RESULT_GONE":
		c.hold.InDoubt() // it was charged, by an amount that the refusal does not have
	case c.doubt && !endsDoubt[s.Error.Code]:
		c.hold.InDoubt()
		*r = b.own(c, 409, "an attempt of this call broke off, and its repetition was refused ("+s.Error.Code+")."+c.chargeText(), []mcp.Field{{Name: "dev.farebox/error", Value: s.rawError}})
	default:
		c.hold.Free()
	}
}

// learnQuote records a price that has changed since the list, or that no list had. A
// price within the bound of a varying one is the price of one call only.
func (b *Bridge) learnQuote(c *call, quote ledger.Amount, currency string) {
	listed, _ := b.purse.PriceOf(itemOf(c.m))
	if listed.Varies && quote <= listed.Most {
		return
	}
	b.purse.Learn(itemOf(c.m), purse.Price{Most: quote, Varies: listed.Varies, Currency: currency})
}

// endsDoubt has the refusals that come only after the gateway has found no charge with
// the idempotency key. Refusals with other codes say nothing about earlier attempts.
var endsDoubt = map[string]bool{
	"INSUFFICIENT_BALANCE": true, "SPENDING_CAP": true, "UPSTREAM_FAILED": true, "UPSTREAM_TIMEOUT": true, "CHARGE_FAILED": true,
}

// taskIn returns the id of the task in a result (MCP 2025-11-25, Tasks; SEP-2663).
func taskIn(message []byte) string {
	var m struct {
		Result struct {
			ID   string `json:"taskId"`
			Task struct {
				ID string `json:"taskId"`
			} `json:"task"`
		} `json:"result"`
	}
	_ = json.Unmarshal(message, &m) // without an id the reservation stays
	if m.Result.Task.ID != "" {
		return m.Result.Task.ID
	}
	return m.Result.ID
}

// learn remembers the parts of a result that later requests need.
func (b *Bridge) learn(c *call, r *result) {
	switch c.m.Method {
	case "initialize":
		b.session.begun(c.body, r.session, versionIn(r.message))
	case "logging/setLevel", "resources/subscribe", "resources/unsubscribe":
		b.session.remember(c.m, c.body)
	case "tools/list", "prompts/list", "resources/list":
		b.learnList(r.message)
	}
}

// listed is an item of a list.
type listed struct {
	Name        string          `json:"name"`
	URI         string          `json:"uri"`
	InputSchema json.RawMessage `json:"inputSchema"`
	Annotations struct {
		ReadOnly   bool `json:"readOnlyHint"`
		Idempotent bool `json:"idempotentHint"`
	} `json:"annotations"`
	Meta struct {
		Price *struct {
			Amount   *ledger.Amount `json:"amount"`
			Max      *ledger.Amount `json:"max"`
			Currency string         `json:"currency"`
		} `json:"dev.farebox/price"`
	} `json:"_meta"`
}

// learnList remembers prices, safe tools and the arguments that belong into headers. An
// item without a price is free: the gateway names the price of everything that has one.
func (b *Bridge) learnList(message []byte) {
	var m struct {
		Result struct {
			Tools     []json.RawMessage `json:"tools"`
			Prompts   []json.RawMessage `json:"prompts"`
			Resources []json.RawMessage `json:"resources"`
		} `json:"result"`
	}
	if json.Unmarshal(message, &m) != nil {
		return
	}
	for _, raw := range m.Result.Tools {
		if item, ok := readItem(raw); ok {
			b.params.Learn(item.Name, item.InputSchema)
			b.session.setSafe(item.Name, item.Annotations.ReadOnly || item.Annotations.Idempotent)
			b.purse.Learn("tools/call "+item.Name, item.price())
		}
	}
	for _, raw := range m.Result.Prompts {
		if item, ok := readItem(raw); ok {
			b.purse.Learn("prompts/get "+item.Name, item.price())
		}
	}
	for _, raw := range m.Result.Resources {
		if item, ok := readItem(raw); ok {
			b.purse.Learn("resources/read "+item.URI, item.price())
		}
	}
}

// readItem reads an item by the exact names of its members; see stampsOf.
func readItem(raw []byte) (item listed, ok bool) {
	all, exact := object(raw), make(map[string]json.RawMessage)
	for _, name := range []string{"name", "uri", "inputSchema", "annotations"} {
		if all[name] != nil {
			exact[name] = all[name]
		}
	}
	if price := object(all["_meta"])["dev.farebox/price"]; price != nil {
		exact["_meta"] = encode(map[string]json.RawMessage{"dev.farebox/price": price})
	}
	err := json.Unmarshal(encode(exact), &item)
	return item, err == nil
}

func (l *listed) price() purse.Price {
	switch p := l.Meta.Price; {
	case p == nil:
		return purse.Price{}
	case p.Amount != nil:
		return purse.Price{Most: *p.Amount, Currency: p.Currency}
	case p.Max != nil:
		return purse.Price{Most: *p.Max, Varies: true, Currency: p.Currency}
	}
	return purse.Price{Most: -1} // cannot be read, so it is not learnt
}

// withMaxPrice returns the message with its highest price in _meta, unless the client
// has set a lower one. The values of all other members stay as they were written.
func withMaxPrice(m *mcp.Message, body []byte, most ledger.Amount) []byte {
	if own, err := ledger.ParseAmount(m.MaxPrice); err == nil && own <= most {
		return body
	}
	price, _ := json.Marshal(most) // cannot fail for an amount
	meta := object(m.Meta)
	meta["dev.farebox/max-price"] = price
	params := object(m.Params)
	params["_meta"] = encode(meta)
	message := object(body)
	message["params"] = encode(params)
	return encode(message)
}

func object(text []byte) map[string]json.RawMessage {
	members := make(map[string]json.RawMessage)
	_ = json.Unmarshal(text, &members) // the decoder has accepted the text, unless it is absent
	return members
}

// encode is json.Marshal without the escapes for HTML.
func encode(members map[string]json.RawMessage) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(members) // cannot fail for members that were read
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// isAcknowledgement reports whether a message is the first one on a stream of
// subscriptions/listen (MCP 2026-07-28, subscriptions).
func isAcknowledgement(message []byte) bool {
	var m struct {
		Method string `json:"method"`
	}
	return json.Unmarshal(message, &m) == nil && m.Method == "notifications/subscriptions/acknowledged"
}
