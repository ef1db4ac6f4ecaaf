// Package exchange serves one request on its way from a client to an MCP server and
// back. It checks the shape of the request, its origin, its key and its body, finds the
// price, sends the request to the server, and settles the call. The package depends on
// no particular web server. A Site holds the config, and a Host connects an exchange
// with the web server that runs it.
package exchange

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/mcp"
	"github.com/fareboxhq/farebox/internal/share"
)

// The values of Site.ErrorStyle.
const (
	StyleMCP  = "mcp"
	StyleHTTP = "http"
)

// Site is one MCP server as its config describes it. Gate and Rules are set
// before Engine.Acquire first succeeds; nothing changes afterwards.
type Site struct {
	Server                string
	MaxBody               int64         // maximum length of a request body, in bytes
	MaxCall               time.Duration // maximum duration of one call
	Keepalive             time.Duration // silence on an event stream after which a comment is sent; 0 for no comments
	ErrorStyle            string        // "" means StyleMCP
	Origins               map[string]bool
	UpstreamAuthorization string // the Authorization header for the server; "" for none
	IdentityHeaders       bool
	Contact               string // shown in refusals
	KeyHeader             KeyHeader
	Resource              *Resource    // nil without OAuth
	Secrets               *keys.Format // the format of keys
	Rules                 string       // access rules of the server, to compare with Engine.RulesOf

	// TopUpURL returns the page for buying credits that the caller of a request may
	// see, "" for none. It is nil if there is no such page.
	TopUpURL func(*http.Request, *gate.Caller) string

	// KnowsMethod reports whether a rule of the config names the message's
	// method, so that metrics may use it as a label.
	KnowsMethod func(*mcp.Message) bool

	Upstream Upstream // nil if the next handler leads to the server

	Gate    *gate.Gate
	Engine  Engine
	Shares  *Shares
	Metrics Metrics
	Calls   CallLog  // nil if no records of requests are wanted
	Records Recorder // nil if no records of calls are kept
	Logger  *slog.Logger
}

// Resource is a server as an OAuth protected resource (RFC 9728).
type Resource struct {
	Scopes      []string // scopes that the challenge in a 401 names
	MetadataURL func(*http.Request) string
}

// Engine is the running state behind all sites: the store, its cache, open
// streams and request ids.
type Engine interface {
	// Acquire waits, for a bounded time, until the engine runs, and keeps the engine
	// running until Release is called.
	Acquire(context.Context) error
	Release()
	// Used records that the key was used now.
	Used(*keys.Key)
	// Charged notes that a call with the key was charged to a client at the given
	// address, which is the zero Addr if unknown. Charged must be quick.
	Charged(k *keys.Key, client netip.Addr)
	// LockRequestID takes the id of a request within a session, until
	// UnlockRequestID is called. It returns ErrIDTaken, ErrSessionFull, a
	// share.RefusedError, or another error if the store is down.
	LockRequestID(ctx context.Context, holder share.Holder, session, id string) error
	// UnlockRequestID ends a lock. If resumable is true, the id stays taken, because
	// the answer may still come on another stream.
	UnlockRequestID(session, id string, resumable bool)
	// RulesOf returns the access rules of a server in the newest config.
	RulesOf(server string) string
	// AccountName returns the name of an account, "" if it is unknown.
	AccountName(ctx context.Context, id string) string
}

// Errors of Engine.LockRequestID. Clients see the text of ErrIDTaken.
var (
	ErrIDTaken     = errors.New("a request with this id is in flight")
	ErrSessionFull = errors.New("the session holds too many request ids")
)

// Metrics counts the requests of a site. Its methods must be fast and safe for
// concurrent use.
type Metrics interface {
	// Request counts a request by its method and its outcome.
	Request(method, decision string)
	// Failed counts a request that failed by a fault of the gateway, its store or the
	// server. Request counts the same request, too: with this code as its decision if
	// the request was not forwarded, otherwise with another decision.
	Failed(code gate.Code)
	// Overhead records the time that the gateway added to a request that it has
	// forwarded. The trace id is that of the request's trace, if the trace is sampled;
	// otherwise "".
	Overhead(took time.Duration, traceID string)
	// Upstream records the time that the server took for a message. The entry is the
	// price book's entry for the item of a paid call; otherwise "".
	Upstream(entry string, took time.Duration, traceID string)
	// Abandoned counts a paid call with a client that left before the response.
	Abandoned()
}

// Shares divides the resources of the process among callers.
type Shares struct {
	Memory, Calls, Streams *share.Budget

	Payers   *share.Payers
	BodyRate atomic.Int64 // lowest allowed rate of a request body, in bytes a second
}
