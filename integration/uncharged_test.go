package integration

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/integration/harness"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// callRecord is an element of the output of "call list".
type callRecord struct {
	At      time.Time      `json:"at"`
	Account string         `json:"account_name"`
	Key     string         `json:"key"`
	Tool    string         `json:"tool"`
	Outcome string         `json:"outcome"`
	Code    string         `json:"code"`
	Price   *ledger.Amount `json:"price"`
	Status  int            `json:"status"`
}

func (c callRecord) String() string {
	price := "-"
	if c.Price != nil {
		price = c.Price.String()
	}
	return fmt.Sprintf("%s %s %s %s %s", c.Account, c.Outcome, c.Code, c.Tool, price)
}

const unchargedConfig = `{
	admin {$CADDY_ADMIN}
	grace_period 1s
	log {
		level DEBUG
	}
	farebox {
		store sqlite {$FAREBOX_DATA}/farebox.db
		scopes {
			billing.write "Create invoices"
		}
		OPTION
	}
}

http://localhost:{$FAREBOX_PORT} {
	bind 127.0.0.1
	handle /mcp* {
		farebox {
			server weather
			provider acme
			upstream UPSTREAM
			free list_*
			price "get_*" 0.01
			price fails 0.02
			price broken 0.03
			price admin_delete 0.04
			scope admin_delete billing.write
		}
	}
	handle {
		error 404
	}
}
`

// unchargedSite is a gateway in front of a server with tools that work, fail and break.
type unchargedSite struct {
	*harness.Gateway
	upstream string
}

func startUncharged(t *testing.T, option string) *unchargedSite {
	t.Helper()
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "application/json")
		switch {
		case bytes.Contains(body, []byte(`"fails"`)):
			_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":1,"result":{"content":[],"isError":true}}`)
		case bytes.Contains(body, []byte(`"broken"`)):
			panic(http.ErrAbortHandler)
		default:
			_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":1,"result":{"content":[]}}`)
		}
	}))
	t.Cleanup(upstream.Close)
	s := &unchargedSite{upstream: strings.TrimPrefix(upstream.URL, "http://")}
	s.Gateway = binaries.StartGateway(t, s.config(option))
	return s
}

func (s *unchargedSite) config(option string) string {
	return strings.NewReplacer("UPSTREAM", s.upstream, "OPTION", option).Replace(unchargedConfig)
}

// call calls a tool.
func (s *unchargedSite) call(t *testing.T, secret, tool string) {
	t.Helper()
	if _, err := s.Post(t.Context(), http.DefaultClient, secret, toolCall(tool)); err != nil {
		t.Fatal(err)
	}
}

// records lists the records of calls, newest first.
func (s *unchargedSite) records(t *testing.T, flags ...string) []callRecord {
	t.Helper()
	var list []callRecord
	s.CLI(t, &list, append([]string{"call", "list", "--limit", "0"}, flags...)...)
	return list
}

// await waits until there are n records, and returns them.
func (s *unchargedSite) await(t *testing.T, n int, flags ...string) (list []callRecord) {
	t.Helper()
	harness.Eventually(t, "the records", func() error {
		if list = s.records(t, flags...); len(list) != n {
			return fmt.Errorf("there are %d, want %d: %v", len(list), n, list)
		}
		return nil
	})
	return list
}

// TestUnchargedCalls checks that each call that was refused or failed has a record
// within seconds, with the reason and the price, and is counted in the sums of usage.
// Charged calls, free calls and calls of strangers have no such record. No record has a
// name that only a client chose.
func TestUnchargedCalls(t *testing.T) {
	t.Parallel()
	s := startUncharged(t, "")
	_, rich := s.NewAgent(t, "alice", "5.00")
	_, poor := s.NewAgent(t, "bob", "")
	slow := s.NewKey(t, "alice", "--rate", "1/1h")
	s.call(t, rich.Secret, "get_forecast")
	s.call(t, rich.Secret, "list_cities")
	s.call(t, rich.Secret, "admin_delete")
	s.call(t, rich.Secret, "fails")
	s.call(t, rich.Secret, "broken")
	s.call(t, rich.Secret, ownName)
	s.call(t, poor.Secret, "get_forecast")
	s.call(t, slow.Secret, "get_forecast")
	s.call(t, slow.Secret, "get_forecast")
	for range 3 {
		s.call(t, "sk_live_"+strings.Repeat("x", 40), "get_forecast")
	}
	want := []string{
		"alice failed TOOL_ERROR fails 0.02",
		"alice failed UPSTREAM_FAILED broken 0.03",
		"alice refused RATE_LIMITED get_* -",
		"alice refused SCOPE_INSUFFICIENT admin_delete -",
		"alice refused TOOL_UNKNOWN other -",
		"bob refused INSUFFICIENT_BALANCE get_* 0.01",
	}
	var got []string
	for _, c := range s.await(t, len(want)) {
		got = append(got, c.String())
	}
	if slices.Sort(got); !slices.Equal(got, want) {
		t.Errorf("the records are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for flags, n := range map[string]int{
		"--account bob": 1, "--key " + slow.ID: 1, "--outcome failed": 2, "--code TOOL_ERROR": 1, "--tool fails": 1, "--server maps": 0, "--since 1h": 6, "--until 1h": 0,
	} {
		if list := s.records(t, strings.Fields(flags)...); len(list) != n {
			t.Errorf("%s lists %v, want %d", flags, list, n)
		}
	}
	counted := map[string]string{}
	var rows []struct {
		Key                    string
		Calls, Refused, Failed int64
	}
	harness.Eventually(t, "the sums", func() error {
		s.CLI(t, &rows, "usage", "--group", "key", "--since", "2d")
		for _, r := range rows {
			counted[r.Key] = fmt.Sprint(r.Calls, r.Refused, r.Failed)
		}
		if want := map[string]string{rich.ID: "1 2 2", poor.ID: "0 1 0", slow.ID: "1 1 0"}; !maps.Equal(counted, want) {
			return fmt.Errorf("%v, want %v", counted, want)
		}
		return nil
	})
	s.VerifyLedger(t)
}

// TestUnchargedCallsSurviveAKill checks that a process that is killed loses the records of
// about the last second, and no others.
func TestUnchargedCallsSurviveAKill(t *testing.T) {
	t.Parallel()
	s := startUncharged(t, "")
	_, poor := s.NewAgent(t, "bob", "")
	const calls = 30
	for range calls {
		s.call(t, poor.Secret, "get_forecast")
	}
	s.await(t, calls)
	const last = 20
	for range last {
		s.call(t, poor.Secret, "get_forecast")
	}
	s.Kill()
	s.Start(t)
	if n := len(s.records(t)); n < calls || n > calls+last {
		t.Errorf("%d records after a kill, want %d to %d", n, calls, calls+last)
	}
	before := len(s.records(t))
	s.call(t, poor.Secret, "get_forecast")
	s.Stop(t) // writes the records that are still in memory
	s.Start(t)
	if after := len(s.records(t)); after != before+1 {
		t.Errorf("%d records after a stop, want %d", after, before+1)
	}
}

// TestUnchargedCallsAreDeleted checks that the oldest records beyond the configured
// number are deleted, that free calls are recorded if the config asks for it, and that
// no calls are recorded if the option is off.
func TestUnchargedCallsAreDeleted(t *testing.T) {
	t.Parallel()
	s := startUncharged(t, "call_records 2h {\n\t\t\tfree on\n\t\t}")
	_, poor := s.NewAgent(t, "bob", "")
	for range 10 {
		s.call(t, poor.Secret, "get_forecast")
	}
	s.call(t, poor.Secret, "list_cities")
	if got := s.await(t, 11)[0].String(); got != "bob free FREE list_* -" {
		t.Errorf("the newest record is %s", got)
	}
	restart := func(option string) {
		t.Helper()
		s.Stop(t)
		if err := os.WriteFile(filepath.Join(s.Dir, "Caddyfile"), []byte(s.config(option)), 0o600); err != nil {
			t.Fatal(err)
		}
		s.Start(t)
	}
	restart("call_records {\n\t\t\tmost 3\n\t\t}")
	s.await(t, 3)
	restart("call_records off")
	s.call(t, poor.Secret, "get_forecast")
	restart("")
	s.call(t, poor.Secret, "get_forecast")
	s.await(t, 4)
}
