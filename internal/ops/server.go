package ops

import (
	"context"
	"net/http"
	"time"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/identity"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/wire"
)

// OnServers returns the operations on the MCP servers in the running config. They need
// no store.
func OnServers() []Op[Servers] { return []Op[Servers]{ListServers, ShowServer, CheckServer} }

// Servers gives access to the MCP servers in the running config.
type Servers interface {
	ListServers() []ServerView
	// ShowServer returns a server with its price book and the items that it offered at
	// the last check.
	ShowServer(name string) (*ServerDetail, error)
	// CheckServer lists the items that a server offers and compares them with its price
	// book. If path is "", CheckServer tries the usual paths.
	CheckServer(ctx context.Context, name, path string) (*CheckView, error)
}

// ServerView is a server in the config, in JSON.
type ServerView struct {
	Name         string   `json:"name"`
	Provider     string   `json:"provider"`
	Environments []string `json:"environments"`
	URL          string   `json:"url,omitempty" doc:"Where clients most likely call it, as far as the config says"`
	Upstreams    []string `json:"upstreams" doc:"Of the reverse proxies behind it, as far as they are known"`
	Priced       int      `json:"priced" doc:"How many prices there are"`
	Free         int      `json:"free" doc:"How many of these are zero"`
	Unpriced     string   `json:"unpriced"`
	Source       string   `json:"source,omitempty"`
}

// ServerDetail is a server of the config with its price book, in JSON.
type ServerDetail struct {
	ServerView
	Currency  string      `json:"currency"`
	Prices    []PriceView `json:"prices" doc:"In the order of the config; methods last"`
	ChargeOn  []string    `json:"charge_on,omitempty" doc:"The ends of a call that are charged, of prices without their own; absent: success"`
	ChargeIf  string      `json:"charge_if,omitempty" doc:"The expression that decides whether a tool's result is charged, of prices without their own"`
	FreeQuota string      `json:"free_quota,omitempty" doc:"Free calls of each account"`
	Fee       string      `json:"fee,omitempty" doc:"The operator's share and account"`
	Scopes    []ScopeView `json:"scopes" doc:"The scopes that calls need"`
	CheckedAt *time.Time  `json:"checked_at" doc:"When the server was asked for its offer last; null: never, so its items are not known"`
	NoPrice   []KnownItem `json:"unpriced_items" doc:"Items of that offer to which no price applies"`
}

// PriceView is one price of the config, in JSON.
type PriceView struct {
	Pattern    string         `json:"pattern" doc:"As in the config: a name or a pattern"`
	Kind       string         `json:"kind" doc:"tool, prompt, resource or method"`
	Amount     *ledger.Amount `json:"amount,omitempty" doc:"Absent if an expression gives the price"`
	Expression string         `json:"expression,omitempty"`
	Max        *ledger.Amount `json:"max,omitempty" doc:"The most that the expression may give"`
	ChargeOn   []string       `json:"charge_on,omitempty"`
	ChargeIf   string         `json:"charge_if,omitempty"`
	Source     string         `json:"source,omitempty"`
	Items      []KnownItem    `json:"items" doc:"Items of the last offer to which the price applies"`
}

// ScopeView is one rule for the scopes of calls, in JSON.
type ScopeView struct {
	Items  string   `json:"items"`
	Scopes []string `json:"scopes"`
}

// KnownItem is an item that the server offered at the last check, in JSON.
type KnownItem struct {
	Kind      string     `json:"kind"`
	Name      string     `json:"name"`
	Tool      string     `json:"tool" doc:"As in charges and usage"`
	State     string     `json:"state" doc:"priced, free or hidden"`
	Reason    string     `json:"reason,omitempty" doc:"Why it is hidden"`
	ChangedAt *time.Time `json:"changed_at,omitempty" doc:"When a check found another definition than before"`
}

// ServerCheck is a request to check a server.
type ServerCheck struct {
	Path string `json:"path,omitempty" doc:"Where the server answers, as its proxy is asked; absent: look for it"`
}

// CheckView compares the items that a server offers with its price book, in JSON.
type CheckView struct {
	Server    string        `json:"server"`
	Name      string        `json:"name,omitempty" doc:"As the server calls itself"`
	Version   string        `json:"version,omitempty" doc:"As the server says"`
	Path      string        `json:"path"`
	Since     *time.Time    `json:"since" doc:"The check before this one; null if there was none"`
	Items     []OfferedView `json:"items"`
	Gone      []GoneView    `json:"gone" doc:"Items of the check before that the server does not offer any more"`
	Prices    []IdlePrice   `json:"prices" doc:"Prices that apply to no item of the offer"`
	Currency  string        `json:"currency"`
	Unpriced  string        `json:"unpriced"`
	CheckedAt time.Time     `json:"checked_at"`
}

// OfferedView is an item that a server offers, in JSON.
type OfferedView struct {
	Kind   string         `json:"kind"`
	Name   string         `json:"name"`
	State  string         `json:"state" doc:"priced, free or hidden"`
	Price  *ledger.Amount `json:"price,omitempty"`
	Varies bool           `json:"varies,omitempty" doc:"The price is the most that it costs"`
	By     string         `json:"by,omitempty" doc:"The price of the config that applies"`
	Reason string         `json:"reason,omitempty" doc:"Why it is hidden"`
	Change string         `json:"change,omitempty" doc:"new or changed, since the last check"`
}

// GoneView identifies an item that the server no longer offers, in JSON.
type GoneView struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
}

// IdlePrice is a price in the config that applies to no item, in JSON.
type IdlePrice struct {
	Price  string `json:"price"`
	State  string `json:"state" doc:"unknown: the server offers nothing of the name; shadowed: other prices apply first"`
	Source string `json:"source,omitempty"`
}

// The states of an item that a server offers.
const (
	ItemPriced = "priced"
	ItemFree   = "free"
	ItemHidden = "hidden"
)

// The states of a price that applies to no item.
const (
	PriceUnknown  = "unknown"  // the server offers no item with this name
	PriceShadowed = "shadowed" // other prices apply to all items with this name
)

// ListServers lists the servers in the running config.
var ListServers = Define(Operation{
	ID: "server.list", Method: http.MethodGet, Path: "/servers", Needs: identity.Operate, Tag: "servers",
	Summary: "List the servers of the running config", Command: "server list",
}, func(_ context.Context, s Servers, _ *identity.Principal, _ *None) (admin.List[ServerView], error) {
	return admin.List[ServerView]{Items: s.ListServers()}, nil
})

type serverPath struct {
	Name string `path:"name" maxLength:"64" doc:"The name of the server"`
}

// ShowServer shows a server with its price book.
var ShowServer = Define(Operation{
	ID: "server.show", Method: http.MethodGet, Path: "/servers/{name}", Needs: identity.Operate, Tag: "servers",
	Summary: "Show a server with its price book", Description: "It does not ask the server: the items are those of the last check.",
	Command: "server show <server>", Problems: []wire.Code{wire.NotFound},
}, func(_ context.Context, s Servers, _ *identity.Principal, in *serverPath) (*ServerDetail, error) {
	return s.ShowServer(in.Name)
})

type checkServer struct {
	Name string `path:"name" maxLength:"64" doc:"The name of the server"`
	Body ServerCheck
}

// CheckServer compares the items that a server offers with its price book.
var CheckServer = Define(Operation{
	ID: "server.check", Method: http.MethodPost, Path: "/servers/{name}/check", Needs: identity.Operate, Tag: "servers",
	Summary: "Compare the offer of a server with its price book", Command: "server check <server>", Problems: []wire.Code{wire.NotFound},
}, func(ctx context.Context, s Servers, _ *identity.Principal, in *checkServer) (*CheckView, error) {
	return s.CheckServer(ctx, in.Name, in.Body.Path)
})
