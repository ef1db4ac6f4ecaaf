package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/leodido/go-syslog/v4"
	"github.com/leodido/go-syslog/v4/octetcounting"
	"github.com/leodido/go-syslog/v4/rfc5424"

	"github.com/fareboxhq/farebox/integration/harness"
	"github.com/fareboxhq/farebox/internal/admin"
)

// withAuditLog adds logs of audit records to a Caddyfile: a file, and a syslog server
// if the address is not "".
func withAuditLog(caddyfile, syslogAt string) string {
	logs := `
	log audit {
		include farebox.audit
		output file audit.jsonl
		format json
	}`
	if syslogAt != "" {
		logs += `
	log audit_syslog {
		include farebox.audit
		output farebox_syslog ` + syslogAt + ` {
			facility audit
			severity notice
		}
		format json
	}`
	}
	return strings.Replace(caddyfile, "\tmetrics\n", logs+"\n\tmetrics\n", 1)
}

// auditLine is a line of the audit log.
type auditLine struct {
	admin.AuditView
	Level, Logger, Msg string
}

// auditLines reads the file to which the gateway logs audit records.
func auditLines(g *harness.Gateway) (lines []admin.AuditView, err error) {
	text, err := os.ReadFile(filepath.Join(g.Dir, "audit.jsonl"))
	if err != nil {
		return nil, err
	}
	for raw := range bytes.Lines(text) {
		view, err := auditView(raw)
		if err != nil {
			return nil, err
		}
		lines = append(lines, view)
	}
	return lines, nil
}

func auditView(raw []byte) (admin.AuditView, error) {
	var line auditLine
	if err := json.Unmarshal(raw, &line); err != nil {
		return line.AuditView, fmt.Errorf("%w in %q", err, raw)
	}
	if line.Level != "info" || line.Logger != "farebox.audit" || line.Msg != "an audit record was written" {
		return line.AuditView, fmt.Errorf("a line of another kind: %s", raw)
	}
	return line.AuditView, nil
}

// auditRows returns the audit log of the store, oldest first.
func auditRows(t *testing.T, g *harness.Gateway, filter ...string) []admin.AuditView {
	t.Helper()
	var rows []admin.AuditView
	g.CLI(t, &rows, append([]string{"audit", "list", "--limit", "0"}, filter...)...)
	slices.Reverse(rows)
	return rows
}

// sameAudit compares the lines of a log with rows of the store.
func sameAudit(lines, rows []admin.AuditView) error {
	texts := func(views []admin.AuditView) string {
		var b strings.Builder
		for _, v := range views {
			detail := new(bytes.Buffer)
			if json.Compact(detail, v.Detail) != nil || detail.Len() == 0 {
				detail.WriteString("{}")
			}
			fmt.Fprintf(&b, "%s %s %s %s %s %s\n", v.At, v.Actor, v.From, v.Action, v.Target, detail)
		}
		return b.String()
	}
	if got, want := texts(lines), texts(rows); got != want {
		return fmt.Errorf("the log has\n%s\nand the store has\n%s", got, want)
	}
	return nil
}

// strictSyslog is a syslog server that accepts only messages of RFC 5424, with octet
// counting.
type strictSyslog struct {
	address string
	texts   chan string
	errs    chan error
}

func startSyslog(t *testing.T) *strictSyslog {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	s := &strictSyslog{address: "tcp/" + listener.Addr().String(), texts: make(chan string, 1000), errs: make(chan error, 1000)}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				octetcounting.NewParser(syslog.WithListener(s.take)).Parse(conn)
			}()
		}
	}()
	return s
}

func (s *strictSyslog) take(r *syslog.Result) {
	m, ok := r.Message.(*rfc5424.SyslogMessage)
	switch {
	case errors.Is(r.Error, io.EOF):
	case r.Error != nil || !ok || !m.Valid():
		s.errs <- fmt.Errorf("%+v is not a message: %w", r.Message, r.Error)
	case *m.Facility != 13 || *m.Severity != 5 || *m.Appname != "farebox":
		s.errs <- fmt.Errorf("a message of facility %d, severity %d, from %s", *m.Facility, *m.Severity, *m.Appname)
	default:
		s.texts <- *m.Message
	}
}

// TestAuditLog checks that every row of the audit log is logged once, in the order of
// the commits, into a file and to a syslog server. The rows come from operators, from
// the config and from gateways. An operation that is refused or repeated writes no
// line. The logs go on after a reload.
func TestAuditLog(t *testing.T) {
	t.Parallel()
	server := startSyslog(t)
	config := withAuditLog(harness.Site(binaries.StartWeather(t, "-stateless"), "server weather", "provider acme", "price get_forecast 0.01"), server.address)
	g := binaries.StartGateway(t, config)
	const id = "txn_0190b7a2-5b1c-7d3e-8f40-000000000001"
	g.CLI(t, nil, "account", "create", "alice")
	for range 2 { // the second operation changes nothing and writes no line
		g.CLI(t, nil, "credit", "alice", "5.00", "--reason", `a "reason" with 日本`, "--id", id)
	}
	if _, err := g.Command("credit", "alice", "6.00", "--reason", "another", "--id", id); err == nil {
		t.Error("an id was used twice")
	}
	g.CLI(t, nil, "account", "update", "alice", "--credit-limit", "1.00")
	key := g.NewKey(t, "alice", "--name", "laptop")
	answer := post(t, g, key.Secret, harness.ToolCall(1, "get_forecast", `{"city":"Oslo"}`))
	g.CLI(t, nil, "charge", "refund", answer.Result.Meta.Charge.ID, "--reason", "slow")
	if status, text := reload(t, g, strings.Replace(config, "price get_forecast 0.01", "price get_forecast 0.02", 1)); status != http.StatusOK {
		t.Fatalf("%d %s", status, text)
	}
	g.CLI(t, nil, "key", "disable", key.ID)
	if status, text := reload(t, g, strings.Replace(config, "provider acme", "provider acme\n\t\t\tfee 5% operator", 1)); status != http.StatusOK {
		t.Fatalf("%d %s", status, text)
	}
	g.CLI(t, nil, "key", "delete", key.ID)

	rows := auditRows(t, g)
	var actions []string
	for _, r := range rows {
		actions = append(actions, r.Action)
	}
	want := "account.create account.create account.credit account.update key.create charge.refund key.disable account.create key.delete"
	if got := strings.Join(actions, " "); got != want || rows[0].Actor != "config" || rows[1].Actor != "admin endpoint" {
		t.Fatalf("the store has %s, want %s", got, want)
	}
	harness.Eventually(t, "the lines of all rows", func() error {
		lines, err := auditLines(g)
		if err != nil {
			return err
		}
		return sameAudit(lines, rows)
	})
	var sent []admin.AuditView
	for range rows {
		select {
		case text := <-server.texts:
			view, err := auditView([]byte(text))
			if err != nil {
				t.Fatal(err)
			}
			sent = append(sent, view)
		case err := <-server.errs:
			t.Fatal(err)
		}
	}
	if err := sameAudit(sent, rows); err != nil {
		t.Errorf("syslog: %v", err)
	}

	// Commands with --offline work while the server is stopped.
	g.Stop(t)
	offline(t, g, "account", "create", "bob")
	lines, err := auditLines(g)
	if err != nil || len(lines) != len(rows) {
		t.Errorf("%d lines of %d rows, %v", len(lines), len(rows), err)
	}
	g.Start(t)
	if got := auditRows(t, g, "--actor", "offline"); len(got) != 1 || got[0].Action != "account.create" {
		t.Errorf("by offline commands: %+v", got)
	}
}

// offline runs a command on the store of a gateway that is stopped.
func offline(t *testing.T, g *harness.Gateway, args ...string) {
	t.Helper()
	if _, err := g.Command(append(args, "--offline", "--config", "Caddyfile")...); err != nil {
		t.Fatal(err)
	}
}

// TestAuditFilters checks, for a gateway on SQLite, that "audit list" selects records
// by actor, action, account, key and time.
func TestAuditFilters(t *testing.T) {
	t.Parallel()
	auditFilters(t, binaries.StartGateway(t, harness.Site("http://127.0.0.1:1", "server weather", "provider acme", "free *")))
}

// TestAuditOfNodes checks that each node at one database logs the changes that were
// made through it, so that the logs of all nodes together are the whole audit log. Each
// node lists the whole audit log, with the same filters as a gateway on SQLite.
func TestAuditOfNodes(t *testing.T) {
	t.Parallel()
	config := withAuditLog(harness.OnPostgres(harness.Site("http://127.0.0.1:1", "server weather", "provider acme", "free *")), "")
	dsn := postgres.Database(t, func(context.Context, string) error { return nil })
	cluster := binaries.StartCluster(t, 2, dsn, config)
	auditFilters(t, cluster.Nodes[0])
	before := len(auditRows(t, cluster.Nodes[1]))
	for i := range 6 {
		cluster.Nodes[i%2].CLI(t, nil, "account", "create", fmt.Sprint("name", i))
	}
	rows := auditRows(t, cluster.Nodes[1])
	harness.Eventually(t, "the lines of both nodes", func() error {
		var all []admin.AuditView
		for n, g := range cluster.Nodes {
			lines, err := auditLines(g)
			if err != nil {
				return err
			}
			if n == 1 && (len(lines) < 3 || len(lines) > 4) { // only one of the nodes creates the provider's account
				return fmt.Errorf("node 1 has %d lines", len(lines))
			}
			all = append(all, lines...)
		}
		slices.SortStableFunc(all, func(a, b admin.AuditView) int { return a.At.Compare(b.At) })
		return sameAudit(all, rows)
	})
	if len(rows) != before+6 {
		t.Errorf("%d rows, want %d", len(rows), before+6)
	}
}

func auditFilters(t *testing.T, g *harness.Gateway) {
	t.Helper()
	g.CLI(t, nil, "account", "create", "alice")
	g.CLI(t, nil, "credit", "alice", "5.00", "--reason", "x")
	key := g.NewKey(t, "alice")
	var next harness.Key
	g.CLI(t, &next, "key", "rotate", key.ID)
	g.AddSecret(next.Secret)
	g.CLI(t, nil, "key", "delete", next.ID)
	for _, c := range []struct{ filter, want string }{
		{"", "account.create account.create account.credit key.create key.rotate key.delete"},
		{"--actor config", "account.create"},
		{"--action key.create", "key.create"},
		{"--account Alice", "account.create account.credit"},
		{"--account alice --action account.credit", "account.credit"},
		{"--key " + key.ID, "key.create key.rotate"},
		{"--key " + next.ID, "key.rotate key.delete"},
		{"--since 1h --key " + next.ID, "key.rotate key.delete"},
		{"--until 1h", ""},
		{"--since 2020-01-01 --until 2020-01-02T00:00:00Z", ""},
	} {
		var actions []string
		for _, row := range auditRows(t, g, strings.Fields(c.filter)...) {
			actions = append(actions, row.Action)
		}
		if got := strings.Join(actions, " "); got != c.want {
			t.Errorf("audit list %s: %s, want %s", c.filter, got, c.want)
		}
	}
	for filter, says := range map[string]string{
		"--key sk_live_x": "begins with key_", "--action delete": "such as key.delete", "--since yesterday": "neither a time before now", "--account nobody": "nobody",
	} {
		if _, err := g.Command(append([]string{"audit", "list"}, strings.Fields(filter)...)...); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("audit list %s: %v, want %q", filter, err, says)
		}
	}
}
