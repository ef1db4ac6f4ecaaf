// Package exchange serves one request on its way from a client to an MCP server and
// back. It does so in seven steps: shape, origin, key, body, price, server and
// settlement. The package depends on no particular web server. A Site holds the
// config, and a Host connects an exchange with the web server that runs it.
package exchange

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
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
	ErrorStyle            string        // "" is StyleMCP
	Origins               map[string]bool
	UpstreamAuthorization string // the Authorization header for the server; "" for none
	IdentityHeaders       bool
	Contact, TopUpURL     string // shown in refusals
	KeyHeader             KeyHeader
	Resource              *Resource    // nil without OAuth
	Secrets               *keys.Format // the format of keys
	Rules                 string       // access rules of the server, to compare with Engine.RulesOf

	// KnowsMethod reports whether a rule of the config names the message's
	// method, so that metrics may use it as a label.
	KnowsMethod func(*mcp.Message) bool

	Upstream Upstream // nil if the next handler leads to the server

	Gate    *gate.Gate
	Engine  Engine
	Shares  *Shares
	Metrics Metrics
	Logger  *slog.Logger
}

// Resource is a server as an OAuth protected resource (RFC 9728).
type Resource struct {
	Scopes      []string // for the challenge in a 401
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
	// LockRequestID takes the id of a request within a session, until
	// UnlockRequestID is called. It returns ErrIDTaken, ErrSessionFull, a
	// share.RefusedError, or another error if the store is down.
	LockRequestID(ctx context.Context, holder share.Holder, session, id string) error
	// UnlockRequestID ends a lock. If the parameter resumable is true, the id stays
	// taken, because the answer may still come on another stream.
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

// Metrics counts requests.
type Metrics interface {
	Request(server, method, decision string)
	Overhead(time.Duration)
	Abandoned(server string)
}

// Shares divides the resources of the process among callers.
type Shares struct {
	Memory, Calls, Streams *share.Budget

	Payers   *share.Payers
	BodyRate atomic.Int64 // lowest allowed rate of a request body, in bytes a second
}
