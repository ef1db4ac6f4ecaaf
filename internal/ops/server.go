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

// OnServers returns the operations on the servers of the running config. They need no
// store.
func OnServers() []Op[Servers] { return []Op[Servers]{ListServers, CheckServer} }

// Servers gives access to the servers of the running config.
type Servers interface {
	ListServers() []ServerView
	// CheckServer asks a server for its offer. If the path is "", it tries the usual
	// paths.
	CheckServer(ctx context.Context, name, path string) (*CheckView, error)
}

// ServerView is a server of the config, in JSON.
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

// ServerCheck is a request to check a server.
type ServerCheck struct {
	Path string `json:"path,omitempty" doc:"Where the server answers, as its proxy is asked; absent: look for it"`
}

// CheckView is the offer of a server compared with its price book, in JSON.
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

// OfferedView is one item of a server's offer.
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

// GoneView identifies an item that is no longer offered.
type GoneView struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
}

// IdlePrice is a price of the config that applies to no item.
type IdlePrice struct {
	Price  string `json:"price"`
	State  string `json:"state" doc:"unknown: the server offers nothing of the name; shadowed: other prices apply first"`
	Source string `json:"source,omitempty"`
}

// The states of an item of an offer.
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

// ListServers lists the servers of the running config.
var ListServers = Define(Operation{
	ID: "server.list", Method: http.MethodGet, Path: "/servers", Needs: identity.Operate, Tag: "servers",
	Summary: "List the servers of the running config", Command: "server list",
}, func(_ context.Context, s Servers, _ *identity.Principal, _ *None) (admin.List[ServerView], error) {
	return admin.List[ServerView]{Items: s.ListServers()}, nil
})

type checkServer struct {
	Name string `path:"name" maxLength:"64" doc:"The name of the server"`
	Body ServerCheck
}

// CheckServer compares the offer of a server with its price book.
var CheckServer = Define(Operation{
	ID: "server.check", Method: http.MethodPost, Path: "/servers/{name}/check", Needs: identity.Operate, Tag: "servers",
	Summary: "Compare the offer of a server with its price book", Command: "server check <server>", Problems: []wire.Code{wire.NotFound},
}, func(ctx context.Context, s Servers, _ *identity.Principal, in *checkServer) (*CheckView, error) {
	return s.CheckServer(ctx, in.Name, in.Body.Path)
})
