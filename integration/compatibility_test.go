package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/integration/harness"
	"github.com/fareboxhq/farebox/internal/ledger"
)

var (
	updateTable = flag.Bool("update", false, "write the table of docs/compatibility-table.md")
	onlyOdd     = flag.String("odd", "", "ask only for the oddities whose part or name has this text, and leave the table alone")
)

const (
	oddTable = "docs/compatibility-table.md"
	oddPrice = ledger.Amount(10_000)
	// oddPatience is how long a client waits for an answer that may never come. The
	// gateway's handler at /mcp/brief gives up on the server earlier, after oddMaxCall.
	oddPatience = 12 * time.Second
	oddMaxCall  = "3s"
	// oddHands is the number of concurrent calls of one client.
	oddHands = 40
)

// way is the path from a client to the server.
type way int

const (
	wayDirect way = iota
	wayFree
	wayPaid
)

// oddCell is one request of one client, with its outcome.
type oddCell struct {
	row       *oddRow
	client    string
	stateless bool
	way       way

	question question
	err      error
	outcome  outcome
	ran      int           // number of requests that reached the server
	charges  int           // number of charges for the request
	charged  ledger.Amount // the charged amount minus refunds
}

// oddRow is a row of the compatibility table: an oddity, which is a deviation of the
// server from the protocol, in one form (JSON or events), with its results.
type oddRow struct {
	group  string
	oddity *oddity
	n      int
	events bool
	cells  []*oddCell
}

// oddBench is a server with all oddities, reachable directly and through the gateway.
type oddBench struct {
	server  *oddServer
	gateway *harness.Gateway
	secrets []string
	clients map[string]oddClient
	rows    []*oddRow
	runs    atomic.Int64
}

// TestCompatibilityTable checks promises 1, 2 and 9 of docs/promises.md for servers
// that deviate from the protocol. A client gets the same answer through the gateway as
// directly from the server, and pays for the answer if it is a result. Where the two
// answers differ, the table in docs gives the reason. The test compares its outcomes
// with that table. With the flag -update, the test writes the table.
func TestCompatibilityTable(t *testing.T) {
	t.Parallel()
	b := newOddBench(t)
	old := readTable(t)
	// Rows that the table in docs records as hanging get many concurrent callers,
	// because those callers only wait. All other rows get few concurrent callers, so
	// that no call is slow because the CPU is busy.
	var quick, hanging []*oddRow
	for _, row := range b.rows {
		if strings.Contains(old[row.title()], "hangs") {
			hanging = append(hanging, row)
		} else {
			quick = append(quick, row)
		}
	}
	b.ask(t, quick, 6, 2*oddPatience)
	b.ask(t, hanging, oddHands, oddPatience)
	b.read(t)
	b.askAgain(t, old)
	for _, row := range b.rows {
		for _, fault := range row.faults() {
			t.Error(fault)
		}
	}
	if *onlyOdd == "" {
		b.needless(t)
		b.compare(t)
	} else {
		t.Log(b.render())
	}
	b.gateway.VerifyLedger(t)
}

// askAgain repeats the calls with unexpected outcomes and gives them more time, because
// on a busy machine a slow call looks like a call that hangs.
func (b *oddBench) askAgain(t *testing.T, old map[string]string) {
	t.Helper()
	for patience := 2 * oddPatience; patience < harness.Patience; patience *= 2 {
		var again []*oddRow
		for _, row := range b.rows {
			if len(row.faults()) > 0 || !*updateTable && old[row.title()] != row.line() {
				again = append(again, row)
			}
		}
		if len(again) == 0 || len(again) > len(b.rows)/2 {
			return // all is well, or too many rows fail for timing to be the cause
		}
		t.Logf("%d rows are asked again", len(again))
		b.ask(t, again, 4, patience)
		b.read(t)
	}
}

func newOddBench(t *testing.T) *oddBench {
	groups := oddGroups()
	var all []oddity
	for _, g := range groups {
		all = append(all, g.oddities...)
	}
	b := &oddBench{server: startOddServer(t, all)}
	site := harness.SiteWithProxy(b.server.raw.URL, "server odd", "provider acme", "free free*", "price paid* 0.01", "unpriced deny",
		"origins "+oddOrigin)
	site = strings.Replace(site, "\n\thandle /mcp* {", strings.ReplaceAll(briefSite, "SERVER", strings.TrimPrefix(b.server.raw.URL, "http://")), 1)
	// The server closes each connection after its answer, so the proxy must not
	// reuse connections.
	site = strings.ReplaceAll(site, "header_up Host {upstream_hostport}", "header_up Host {upstream_hostport}\n\t\t\ttransport http {\n\t\t\t\tkeepalive off\n\t\t\t}")
	b.gateway = binaries.StartGateway(t, site)
	b.gateway.CLI(t, nil, "account", "create", "agent")
	b.gateway.CLI(t, nil, "credit", "agent", "1000.00", "--reason", "for the test")
	admin := b.gateway.AdminClient()
	for range oddHands {
		var key harness.Key
		raw, err := admin.Do(t.Context(), http.MethodPost, "keys", map[string]any{"account": "agent"})
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(raw, &key); err != nil {
			t.Fatal(err)
		}
		b.gateway.AddSecret(key.Secret)
		b.secrets = append(b.secrets, key.Secret)
	}
	b.clients = map[string]oddClient{
		"raw": &rawOddClient{}, "Go SDK": &goOddClient{}, "TypeScript SDK": newTSOddClient(t), "mcp-remote": newRemoteOddClient(t),
	}
	b.lay(groups)
	return b
}

// briefSite is a handler for the Caddyfile that waits only briefly for a slow
// server.
const briefSite = `
	handle /mcp/brief/* {
		farebox {
			server brief
			provider acme
			free free*
			price paid* 0.01
			max_call ` + oddMaxCall + `
		}
		reverse_proxy SERVER {
			header_up Host {upstream_hostport}
		}
	}
	handle /mcp* {`

// oddClientNames lists the clients, in the order in which the cells of
// docs/compatibility-table.md name them.
var oddClientNames = []string{"raw", "Go SDK", "TypeScript SDK", "mcp-remote"}

// lay creates the rows and their cells.
func (b *oddBench) lay(groups []oddGroup) {
	n := 0
	for _, g := range groups {
		for i := range g.oddities {
			o := &g.oddities[i]
			if !strings.Contains(g.title+": "+o.name, *onlyOdd) {
				n++
				continue
			}
			for _, events := range o.forms {
				row := &oddRow{group: g.title, oddity: o, n: n, events: events}
				for _, client := range oddClientNames {
					for _, stateless := range []bool{false, true} {
						for _, w := range []way{wayDirect, wayFree, wayPaid} {
							if !o.concerns(client, stateless, w) {
								continue
							}
							row.cells = append(row.cells, &oddCell{row: row, client: client, stateless: stateless, way: w})
						}
					}
				}
				b.rows = append(b.rows, row)
			}
			n++
		}
	}
}

// concerns reports whether the row has a cell for the client and the way w. The
// client must be able to send the request. On the paid way, the request must be a
// call, because no other request has a price.
func (o *oddity) concerns(client string, stateless bool, w way) bool {
	switch {
	case o.only != "" && client != o.only:
		return false
	case o.ask == notifies && (client == "Go SDK" || client == "mcp-remote"):
		return false
	}
	return w != wayPaid || o.ask == calls
}

// ask makes the requests of all cells of the rows. hands is the number of requests that
// each client makes at the same time.
func (b *oddBench) ask(t *testing.T, rows []*oddRow, hands int, patience time.Duration) {
	t.Helper()
	queues := map[string][]*oddCell{}
	for _, row := range rows {
		for _, c := range row.cells {
			queues[c.client] = append(queues[c.client], c)
		}
	}
	var all sync.WaitGroup
	for client, cells := range queues {
		var next atomic.Int64
		for hand := range hands {
			all.Go(func() {
				for {
					i := int(next.Add(1)) - 1
					if i >= len(cells) || t.Context().Err() != nil {
						return
					}
					b.askOne(t.Context(), b.clients[client], cells[i], hand, patience)
				}
			})
		}
	}
	all.Wait()
}

func (b *oddBench) askOne(ctx context.Context, client oddClient, c *oddCell, hand int, patience time.Duration) {
	run := b.runs.Add(1)
	c.question = question{ask: c.row.oddity.ask, token: oddToken(c.row.n, c.row.events, run)}
	if c.question.ask == calls {
		c.question.tool = fmt.Sprintf("%s-%s%d", map[way]string{wayDirect: "free", wayFree: "free", wayPaid: "paid"}[c.way], c.row.oddity.tool, run)
	}
	path := "/mcp/session"
	if c.stateless {
		path = "/mcp/stateless"
	}
	if c.row.oddity.brief {
		path = strings.Replace(path, "/mcp/", "/mcp/brief/", 1)
	}
	p := place{url: strings.TrimSuffix(b.gateway.Endpoint(), "/mcp") + path, stateless: c.stateless, secret: b.secrets[hand], hand: hand}
	if c.way == wayDirect {
		p.url, p.secret = b.server.raw.URL+path, "nobody"
	}
	if c.client == "mcp-remote" && c.way != wayDirect {
		p.secret = b.secrets[hand%remoteBridges]
	}
	ctx, cancel := context.WithTimeout(ctx, patience+2*harness.Patience)
	defer cancel()
	c.outcome, c.err = client.ask(ctx, patience, p, c.question)
	c.ran = b.server.runs(c.question.token)
}

// read waits until the gateway is idle and reads the charges of each call.
func (b *oddBench) read(t *testing.T) {
	t.Helper()
	harness.Eventually(t, "an idle gateway", func() error {
		for name, value := range b.gateway.Metrics(t) {
			if (strings.HasPrefix(name, "farebox_held_bytes") || strings.HasPrefix(name, "farebox_reservations_open")) && value != 0 {
				return fmt.Errorf("%s is %v", name, value)
			}
		}
		return nil
	})
	byTool := map[string]*oddCell{}
	for _, row := range b.rows {
		for _, c := range row.cells {
			c.charges, c.charged = 0, 0
			if c.way != wayDirect && c.question.tool != "" {
				byTool[c.question.tool] = c
			}
		}
	}
	for _, charge := range b.gateway.Charges(t, "agent") {
		if c := byTool[charge.Tool]; c != nil {
			c.charges++
			c.charged += charge.Amount - charge.Refunded
		}
	}
}

// readTable returns the lines of the table in docs by row title.
func readTable(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(binaries.Root, oddTable))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	lines, group := map[string]string{}, ""
	for _, line := range strings.Split(string(text), "\n") {
		if title, ok := strings.CutPrefix(line, "## "); ok {
			group = title
		}
		if cells := strings.Split(line, " | "); len(cells) > 2 {
			lines[oddTitle(group, strings.TrimPrefix(cells[0], "| "), cells[1])] = line
		}
	}
	return lines
}

// oddTitle returns a row's title.
func oddTitle(group, name, form string) string { return group + ": " + name + " (" + form + ")" }

// compare compares the results with the table in docs.
func (b *oddBench) compare(t *testing.T) {
	t.Helper()
	path := filepath.Join(binaries.Root, oddTable)
	got := []byte(b.render())
	if *updateTable {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(got, want) {
		return
	}
	old := readTable(t)
	for _, row := range b.rows {
		if line := row.line(); old[row.title()] != line {
			t.Errorf("%s: %s\n\tsays %q\n\tseen %q", oddTable, row.title(), old[row.title()], line)
		}
	}
	if !t.Failed() {
		t.Errorf("%s is not in the order of the rows, or has more of them; -update writes it", oddTable)
	}
}

// same reports whether the client got the same outcome through the gateway as
// directly.
func (c *oddCell) same(direct *oddCell) bool {
	return c.outcome == direct.outcome && c.ran == direct.ran
}

func (c *oddCell) String() string {
	form := map[bool]string{false: "JSON", true: "events"}[c.row.events]
	w := map[way]string{wayDirect: "directly", wayFree: "free", wayPaid: "paid"}[c.way]
	return fmt.Sprintf("%s (%s), %s %s, %s", c.row.oddity.name, form, c.client, place{stateless: c.stateless}.version(), w)
}

// faults returns the row's failures: wrong charges, and differences without a
// reason.
func (row *oddRow) faults() (faults []string) {
	var straight *oddCell
	for _, c := range row.cells {
		if c.err != nil {
			faults = append(faults, fmt.Sprintf("%s: %v", c, c.err))
			continue
		}
		if c.way == wayDirect {
			straight = c
			continue
		}
		if fault := c.money(); fault != "" {
			faults = append(faults, fmt.Sprintf("%s: %s; got %+v", c, fault, c.outcome))
		}
		if c.same(straight) {
			continue
		}
		if row.oddity.why == "" {
			faults = append(faults, fmt.Sprintf("%s:\n\tgot      %+v, ran %d\n\tdirectly %+v, ran %d", c, c.outcome, c.ran, straight.outcome, straight.ran))
		}
	}
	return faults
}

// needless fails the test if an oddity has a reason, but its outcomes are the same
// through the gateway as directly.
func (b *oddBench) needless(t *testing.T) {
	t.Helper()
	differs := map[*oddity]bool{}
	for _, row := range b.rows {
		differs[row.oddity] = differs[row.oddity] || row.through() != "the same"
	}
	if len(differs) < 60 {
		t.Errorf("got %d oddities, want at least 60", len(differs))
	}
	for o, differs := range differs {
		if o.why != "" && !differs {
			t.Errorf("%q has a reason but no difference", o.name)
		}
	}
}

// money describes the error in the charge of the cell's request, or returns "". It
// accepts a charge for a result that this client cannot read, because other clients
// can read it. The table shows such an outcome.
func (c *oddCell) money() string {
	switch {
	case c.charges > 1:
		return fmt.Sprintf("charged %d times", c.charges)
	case c.way == wayFree && c.charges > 0:
		return "charged although free"
	case c.way == wayPaid && c.outcome.kind == "result" && c.outcome.code == "" && c.charged != oddPrice:
		return fmt.Sprintf("a result, but charged %s", c.charged)
	case c.way == wayPaid && (c.outcome.kind == "tool error" || c.outcome.code != "") && c.charged != 0:
		return fmt.Sprintf("no result, but charged %s", c.charged)
	case c.charged != 0 && c.charged != oddPrice:
		return fmt.Sprintf("charged %s", c.charged)
	}
	return ""
}

// oddGroups returns all parts of the table.
func oddGroups() []oddGroup {
	groups := []oddGroup{oddStreams(), oddAnswers(), oddLists(), oddEncodings(), oddNames(), oddStatuses(), oddRedirects(), oddNotifications()}
	for _, g := range groups {
		for i := range g.oddities {
			g.oddities[i].why = oddReasons[g.title+": "+g.oddities[i].name]
		}
	}
	return groups
}

// TestCompatibilityReasons checks that each reason belongs to an existing oddity, and
// that the names of oddities are unique.
func TestCompatibilityReasons(t *testing.T) {
	t.Parallel()
	left := maps.Clone(oddReasons)
	seen := map[string]bool{}
	for _, g := range oddGroups() {
		for _, o := range g.oddities {
			name := g.title + ": " + o.name
			if seen[name] {
				t.Errorf("two oddities are called %q", name)
			}
			seen[name] = true
			delete(left, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(left)) {
		t.Errorf("a reason for %q, which does not exist", name)
	}
}
