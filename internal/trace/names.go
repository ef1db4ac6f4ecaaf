package trace

// Name is the name of a span. Only the span of a message has another name, made from
// the message's method and target.
type Name string

// The spans of the steps of a call.
const (
	Authenticate Name = "authenticate" // the key is looked up and checked
	Admit        Name = "admit"        // the gate decides about the message, and its price is reserved
	Reserve      Name = "reserve"      // the ledger holds the price
	Upstream     Name = "upstream"     // one request to the server, to the end of its response
	Renew        Name = "renew"        // the ledger prolongs the reservation of a long call
	Capture      Name = "capture"      // the ledger makes the charge durable
	Release      Name = "release"      // the ledger ends the reservation without a charge
	Refund       Name = "refund"       // the ledger takes the charge back
)

// Key is the key of an attribute.
type Key string

// The attributes that OpenTelemetry defines for MCP (semantic-conventions-genai 0.1.0,
// docs/gen-ai/mcp.md, in development) and for HTTP.
const (
	KeyMethod     Key = "mcp.method.name"
	KeyVersion    Key = "mcp.protocol.version"
	KeySession    Key = "mcp.session.id" // a hash of the id of the session
	KeyOperation  Key = "gen_ai.operation.name"
	KeyTool       Key = "gen_ai.tool.name"
	KeyPrompt     Key = "gen_ai.prompt.name"
	KeyRequestID  Key = "jsonrpc.request.id"
	KeyStatusCode Key = "rpc.response.status_code"
	KeyErrorType  Key = "error.type"
	KeyHTTPMethod Key = "http.request.method"
	KeyHTTPStatus Key = "http.response.status_code"
	KeyAddress    Key = "server.address"
	KeyPort       Key = "server.port"
)

// Farebox's own attributes, named like the fields of the access log and the labels of
// metrics.
const (
	KeyServer   Key = "farebox.server"
	KeyAccount  Key = "farebox.account"  // the id of the account
	KeyKey      Key = "farebox.key"      // the id of the key
	KeySource   Key = "farebox.source"   // where the key was found, as in the label "source" of farebox_key_lookups_total
	KeyDecision Key = "farebox.decision" // the decision about the request, as in the label "decision" of farebox_requests_total
	KeyRefused  Key = "farebox.refused"  // the code of a refusal
	KeyCharge   Key = "farebox.charge"   // the id of the charge
	KeyEntry    Key = "farebox.entry"    // the entry of the price book for the tool
	KeyPrice    Key = "farebox.price"    // the price of the call, a decimal in the store's currency
)
