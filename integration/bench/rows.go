package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// The tools of the upstream, and their price.
const (
	freeTool   = "look_up"
	paidTool   = "get_forecast"
	streamTool = "watch_storm"
	price      = ledger.Amount(100) // 0.0001 in units of the currency
)

// The names of the servers that rows measure.
const (
	caddyServer    = "caddy"
	nginxServer    = "nginx"
	sqliteServer   = "farebox-sqlite"
	postgresServer = "farebox-postgres"
)

// The sites of a server. Each has an address of its own.
const (
	mainSite   = "main"
	authSite   = "auth"   // the site of Caddy or nginx that asks the authorization server
	limitsSite = "limits" // the site at Farebox with a scope, a rate limit and caps
	proxySite  = "proxy"  // the site at Farebox with a reverse_proxy
)

// The names of two rows that other rows and the report refer to.
const (
	directRow = "direct"
	caddyRow  = "caddy"
)

// row is a row of the result table. It stands for one way to the upstream, such as a
// gateway with certain settings.
type row struct {
	name, title string
	server      string // "" for the upstream itself
	site        string
	call        call
	base        string // the row that this one is compared with, "" for none
	quick       bool   // true if "make bench-quick" measures the row
	guarded     bool   // true if the gateway must refuse requests with a wrong token
}

var rows = []row{
	{name: directRow, title: "the upstream, without a gateway", call: call{tool: freeTool}, quick: true},
	{name: caddyRow, title: "Caddy: reverse_proxy", server: caddyServer, site: mainSite, call: call{tool: freeTool}, quick: true},
	{name: "forward_auth", title: "Caddy: forward_auth, reverse_proxy", server: caddyServer, site: authSite, call: call{tool: freeTool}, base: caddyRow, quick: true, guarded: true},
	{name: "nginx", title: "nginx: proxy_pass", server: nginxServer, site: mainSite, call: call{tool: freeTool}, base: caddyRow},
	{name: "nginx_auth", title: "nginx: auth_request, proxy_pass", server: nginxServer, site: authSite, call: call{tool: freeTool}, base: caddyRow, guarded: true},
	{name: "unpriced", title: "Farebox: free tool", server: sqliteServer, site: mainSite, call: call{tool: freeTool}, base: caddyRow, quick: true, guarded: true},
	{name: "unpriced_proxy", title: "Farebox: free tool, reverse_proxy", server: sqliteServer, site: proxySite, call: call{tool: freeTool}, base: caddyRow, guarded: true},
	{name: "paid", title: "Farebox: paid, SQLite", server: sqliteServer, site: mainSite, call: call{tool: paidTool, charge: price}, base: caddyRow, quick: true, guarded: true},
	{name: "paid_postgres", title: "Farebox: paid, PostgreSQL", server: postgresServer, site: mainSite, call: call{tool: paidTool, charge: price}, base: caddyRow, quick: true, guarded: true},
	{name: "limits", title: "Farebox: paid, scope, rate, caps", server: sqliteServer, site: limitsSite, call: call{tool: paidTool, charge: price}, base: caddyRow, guarded: true},
	{name: "stateless", title: "Farebox: paid, version 2026-07-28", server: sqliteServer, site: mainSite, call: call{tool: paidTool, charge: price, stateless: true}, base: caddyRow, guarded: true},
	{name: "caddy_stream", title: "Caddy: event stream", server: caddyServer, site: mainSite, call: call{tool: streamTool, stream: true}},
	{name: "stream", title: "Farebox: paid, event stream", server: sqliteServer, site: mainSite, call: call{tool: streamTool, stream: true, charge: price}, base: "caddy_stream", guarded: true},
}

func findRow(name string) (row, bool) {
	i := slices.IndexFunc(rows, func(r row) bool { return r.name == name })
	if i < 0 {
		return row{}, false
	}
	return rows[i], true
}

// selectRows returns the rows for the flag -rows: "all", "quick", or names with commas
// between them. It adds the bases of the rows, and keeps the order of the table.
func selectRows(flag string) ([]row, error) {
	wanted := make(map[string]bool)
	for _, r := range rows {
		wanted[r.name] = flag == "all" || flag == "quick" && r.quick
	}
	if flag != "all" && flag != "quick" {
		for name := range strings.SplitSeq(flag, ",") {
			r, ok := findRow(strings.TrimSpace(name))
			if !ok {
				return nil, fmt.Errorf("-rows: there is no row %q: want all, quick, or some of %s", name, rowNames(rows))
			}
			wanted[r.name] = true
			if r.base != "" {
				wanted[r.base] = true
			}
		}
	}
	return slices.DeleteFunc(slices.Clone(rows), func(r row) bool { return !wanted[r.name] }), nil
}

func rowNames(list []row) string {
	names := make([]string, len(list))
	for i, r := range list {
		names[i] = r.name
	}
	return strings.Join(names, ",")
}

// uses reports whether one of the rows needs the server.
func uses(list []row, server string) bool {
	return slices.ContainsFunc(list, func(r row) bool { return r.server == server })
}

// schedule returns the order of the turns in a round. Each row with a base stands
// between two turns of the base. Every second round is in reverse order, so that a row
// does not always follow the same row.
func schedule(list []row, round int) []row {
	var turns []row
	for _, base := range list {
		if base.base != "" {
			continue
		}
		turns = append(turns, base)
		for _, r := range list {
			if r.base == base.name {
				turns = append(turns, r, base)
			}
		}
	}
	if round%2 == 1 {
		slices.Reverse(turns)
	}
	return turns
}
