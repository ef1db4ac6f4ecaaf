package console

import (
	"cmp"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/id"
	"github.com/fareboxhq/farebox/internal/identity"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/ops"
	"github.com/fareboxhq/farebox/internal/top"
)

// newBooking returns an id for a movement of credits. It is put into a form, so that
// sending the form twice moves the credits once.
func newBooking() string { return id.New("txn_") }

func (v *visit) servers() error {
	found, err := get[admin.List[ops.ServerView]](v, "servers", nil)
	if err != nil {
		return err
	}
	return v.show("servers", "servers", "Servers", found.Items)
}

// serverData is the data of server.html.
type serverData struct {
	Server ops.ServerDetail
	Check  *ops.CheckView // nil before the first check
	Prices []priceRow
	Tools  []admin.UsageRowView
}

// priceRow is a price of a server, with the sums of the tools that have it.
type priceRow struct {
	ops.PriceView
	Sum admin.UsageRowView
}

func (v *visit) serverPage() error { return v.showServer(nil) }

func (v *visit) showServer(check *ops.CheckView) error {
	server, err := get[ops.ServerDetail](v, "servers/"+pathSegment(v.r.PathValue("server")), nil)
	if err != nil {
		return err
	}
	tools, err := v.tools(server.Name)
	if err != nil {
		return err
	}
	return v.show("server", "servers", server.Name, serverData{*server, check, priceRows(server.Prices, tools), tools})
}

// priceRows adds to each price the sums of its tools. These were offered at the last
// check or, for a price without a pattern, have the price's name.
func priceRows(prices []ops.PriceView, tools []admin.UsageRowView) []priceRow {
	rows := make([]priceRow, len(prices))
	for i, p := range prices {
		var matched []admin.UsageRowView
		for _, t := range tools {
			known := slices.ContainsFunc(p.Items, func(item ops.KnownItem) bool { return item.Tool == t.Tool })
			if known || len(p.Items) == 0 && p.Pattern == t.Tool {
				matched = append(matched, t)
			}
		}
		rows[i] = priceRow{p, total(matched)}
	}
	return rows
}

// tools returns the sums for each tool of a server over the last 30 days, the tool with
// the highest sum first.
func (v *visit) tools(server string) ([]admin.UsageRowView, error) {
	filters := url.Values{"server": {server}, "group": {string(ledger.GroupTool)}, "since": {usageSince}}
	byTool := make(map[string]admin.UsageRowView)
	err := each(v, "usage", filters, func(row admin.UsageRowView) bool {
		sum := total([]admin.UsageRowView{byTool[row.Tool], row})
		sum.Tool = row.Tool
		byTool[row.Tool] = sum
		return true
	})
	if err != nil {
		return nil, err
	}
	return slices.SortedFunc(maps.Values(byTool), func(a, b admin.UsageRowView) int {
		return cmp.Or(cmp.Compare(b.Charged, a.Charged), cmp.Compare(b.Calls, a.Calls), cmp.Compare(a.Tool, b.Tool))
	}), nil
}

// checkServer asks the server for its offer.
func (v *visit) checkServer() error {
	name := v.r.PathValue("server")
	check, err := post[ops.CheckView](v, "servers/"+url.PathEscape(name)+"/check", ops.ServerCheck{})
	if err != nil {
		return err
	}
	return v.showServer(check)
}

// auditData is the data of audit.html.
type auditData struct {
	listing[admin.AuditView]
	Names map[string]string // by actor; see authors
}

func (v *visit) audit() error {
	rows, err := list[admin.AuditView](v, "audit", v.filters("actor", "action", "account", "key", "target", "since", "until"))
	if err != nil {
		return err
	}
	return v.show("audit", "audit", "Audit log", auditData{rows, v.authors(rows.Items)})
}

// ledgerData is the data of ledger.html.
type ledgerData struct {
	admin.VerificationState
	Runner string // the node that runs the verification, if another node answers the request; otherwise ""
}

// nodeForm matches the names of nodes. The page of the ledger ignores any other value of
// the URL's parameter "node", so that a link cannot make it show a text of its own.
var nodeForm = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}/[0-9]{1,10}$`)

func (v *visit) ledger() error {
	state, err := get[admin.VerificationState](v, "ledger/verification", nil)
	if err != nil {
		return err
	}
	data := ledgerData{VerificationState: *state}
	if started := v.r.URL.Query().Get("node"); started != state.Node && nodeForm.MatchString(started) {
		data.Runner = started
	}
	v.refresh = data.State == admin.VerificationRunning || data.Runner != ""
	return v.show("ledger", "ledger", "Ledger", data)
}

// verify starts a verification of the books, which goes on when the visitor leaves the
// page. Only the node that runs the verification knows its progress, so the page's URL
// has the name of the node.
func (v *visit) verify() error {
	state, err := post[admin.VerificationState](v, "ledger/verification", nil)
	if err != nil {
		return err
	}
	http.Redirect(v.w, v.r, v.c.path("ledger")+"?node="+url.QueryEscape(state.Node), http.StatusSeeOther)
	return nil
}

// healthData is the data of health.html.
type healthData struct {
	ops.HealthView
	Figures *top.View      // nil if they are unavailable
	Node    string         // name of this process
	Nodes   []ops.NodeView // the processes that use the store; empty if they cannot be listed
}

func (v *visit) health() error {
	data := healthData{HealthView: v.c.o.Health(), Figures: v.figures(), Node: v.c.o.Node}
	if nodes, err := get[admin.List[ops.NodeView]](v, "nodes", nil); err != nil {
		v.c.o.Logger.Warn("the nodes at the store cannot be listed", "error", err)
	} else {
		data.Nodes = nodes.Items
	}
	return v.show("health", "health", "Health", data)
}

// figures returns the measurements of this process, or nil if they are unavailable.
func (v *visit) figures() *top.View {
	view, err := v.c.o.Figures()
	if err != nil {
		v.c.o.Logger.Warn("the figures of the process cannot be read", "error", err)
		return nil
	}
	return view
}

// attention is a line about something that an operator should look at.
type attention struct {
	Text string
	Link string
}

// overviewData is the data of overview.html.
type overviewData struct {
	Attention []attention
	Figures   *top.View // nil if they are unavailable
	Expiring  []admin.KeyView
	Charges   []admin.ChargeView
	Accounts  []admin.AccountView // the visitor's accounts, on the overview of a member
	// Uncharged has the sums of the last 30 days, by the id of the account, if calls were
	// refused or failed.
	Uncharged map[string]*admin.UsageRowView
	Recent    recentUsage
}

func (v *visit) overview() error {
	if !v.operator() {
		return v.memberOverview()
	}
	data := overviewData{Figures: v.figures()}
	expiring, err := get[admin.List[admin.KeyView]](v, "keys", url.Values{"expiring": {"14d"}, "limit": {recentRows}})
	if err != nil {
		return err
	}
	charges, err := get[admin.List[admin.ChargeView]](v, "charges", url.Values{"limit": {recentRows}})
	if err != nil {
		return err
	}
	if data.Recent, err = v.recent(url.Values{}); err != nil {
		return err
	}
	data.Expiring, data.Charges = expiring.Items, charges.Items
	for _, r := range v.c.o.Health().Reasons {
		data.Attention = append(data.Attention, attention{r.Message, v.c.path("health")})
	}
	if data.Figures != nil {
		for _, n := range data.Figures.Attention {
			data.Attention = append(data.Attention, attention{n.Text, v.c.path("health")})
		}
	}
	raised, err := v.recentAlerts()
	if err != nil {
		return err
	}
	if raised != nil {
		data.Attention = append(data.Attention, *raised)
	}
	if len(data.Expiring) > 0 {
		data.Attention = append(data.Attention, attention{"Keys expire within 14 days", v.c.path("keys") + "?expiring=14d"})
	}
	return v.show("overview", "overview", "Overview", data)
}

// memberOverview shows the accounts of a member. A member of only one account is
// redirected to that account.
func (v *visit) memberOverview() error {
	accounts := v.who.Person.Accounts
	if len(accounts) == 1 && v.r.URL.Query().Get("done") == "" {
		http.Redirect(v.w, v.r, v.c.path("accounts", accounts[0].Account), http.StatusSeeOther)
		return nil
	}
	data := overviewData{Uncharged: map[string]*admin.UsageRowView{}}
	for _, m := range accounts {
		a, err := find[admin.AccountView](v, "accounts/"+m.Account)
		if err != nil {
			return err
		}
		data.Accounts = append(data.Accounts, *a)
		// The member may see the account, and the sums are those of the account alone.
		sums, err := perform[admin.UsageView](v, identity.View, http.MethodGet, "usage", url.Values{"account": {m.Account}, "since": {usageSince}}, nil)
		if err != nil {
			return err
		}
		if all := total(sums.Items); all.Refused+all.Failed > 0 {
			data.Uncharged[m.Account] = &all
		}
	}
	return v.show("overview", "overview", "Your accounts", data)
}
