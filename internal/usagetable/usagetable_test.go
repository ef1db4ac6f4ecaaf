package usagetable

import (
	"strings"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/ledger"
)

var rows = []admin.UsageRowView{
	{At: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC), Server: "weather", Tool: "=get", Environment: "live", Calls: 3, Free: 1, Charged: 20_000, Refunds: 1, Refunded: 4_000, Fee: 500, FeeReturned: 100, Earned: 15_600, Refused: 12, Failed: 2},
	{At: time.Date(2026, 11, 2, 0, 0, 0, 0, time.UTC), Server: "weather", Tool: "put", Environment: "live", Calls: 1, Charged: 5},
}

// TestPrint checks that a table has a column for the group of the report. The table
// must show the fee minus its refunded part.
func TestPrint(t *testing.T) {
	var out strings.Builder
	if err := Write(&out, rows, false); err != nil {
		t.Fatal(err)
	}
	want := "PERIOD                SERVER   TOOL  CALLS  FREE  REFUSED  FAILED  CHARGED   REFUNDED  FEE     EARNED\n" +
		"2026-11-01T00:00:00Z  weather  =get  3      1     12       2       0.02      0.004     0.0004  0.0156\n" +
		"2026-11-02T00:00:00Z  weather  put   1      0     0        0       0.000005  0.00      0.00    0.00\n"
	if out.String() != want {
		t.Errorf("printed\n%s, want\n%s", out.String(), want)
	}
	out.Reset()
	if err := Print(&out, nil); err != nil || out.String() != "PERIOD  CALLS  FREE  REFUSED  FAILED  CHARGED  REFUNDED  FEE  EARNED\n" {
		t.Errorf("without rows: %q, %v", out.String(), err)
	}
}

// TestCSV checks that CSV has the same columns for every group, and that no text can be
// evaluated as a formula by a spreadsheet.
func TestCSV(t *testing.T) {
	var out strings.Builder
	if err := Write(&out, rows[:1], true); err != nil {
		t.Fatal(err)
	}
	want := "at,account,account_name,key,server,tool,environment,calls,free,charged,refunds,refunded,fee,fee_returned,earned,refused,failed\n" +
		"2026-11-01T00:00:00Z,,,,weather,'=get,live,3,1,0.02,1,0.004,0.0005,0.0001,0.0156,12,2\n"
	if out.String() != want {
		t.Errorf("printed\n%s, want\n%s", out.String(), want)
	}
}

// TestNote checks the sentences about charges that are missing from a report.
func TestNote(t *testing.T) {
	at := time.Date(2026, 11, 1, 9, 0, 0, 0, time.UTC)
	for _, of := range []struct {
		page admin.UsageView
		want string
	}{
		{admin.UsageView{Complete: true, AsOf: &at}, ""},
		{admin.UsageView{AsOf: &at}, "The server is still summing up: these are the charges up to 2026-11-01T09:00:00Z.\n"},
		{admin.UsageView{}, "The server is still summing up, and has no sums yet.\n"},
		{admin.UsageView{Complete: true, After: &at, From: &at}, "Transactions up to 2026-11-01T09:00:00Z were archived before they were summed up.\nSums by hours begin at 2026-11-01T09:00:00Z.\n"},
	} {
		var out strings.Builder
		if Note(&out, &of.page); out.String() != of.want {
			t.Errorf("noted %q, want %q", out.String(), of.want)
		}
	}
}

// TestWriteCalls checks the table and the CSV of calls. If a call has no price, tool or
// status, the cell is empty or has a dash.
func TestWriteCalls(t *testing.T) {
	price := ledger.Amount(10_000)
	calls := []admin.CallView{
		{At: time.Date(2026, 11, 1, 9, 0, 0, 5000, time.UTC), Account: "acct_1", AccountName: "alice", Key: "key_1", Server: "weather", Method: "tools/call", Tool: "=get", Outcome: "refused", Code: "INSUFFICIENT_BALANCE", Environment: "live", Price: &price, Status: 200, Milliseconds: 0.125},
		{At: time.Date(2026, 11, 1, 8, 0, 0, 0, time.UTC), Account: "acct_2", Key: "key_2", Server: "weather", Method: "other", Outcome: "failed", Code: "ABANDONED", Environment: "test"},
	}
	for csv, want := range map[bool]string{
		false: "AT                    ACCOUNT  KEY    SERVER   TOOL  OUTCOME  CODE                  PRICE  ENVIRONMENT\n" +
			"2026-11-01T09:00:00Z  alice    key_1  weather  =get  refused  INSUFFICIENT_BALANCE  0.01   live\n" +
			"2026-11-01T08:00:00Z  acct_2   key_2  weather  -     failed   ABANDONED             -      test\n",
		true: "at,account,account_name,key,server,method,tool,outcome,code,environment,price,status,milliseconds,trace\n" +
			"2026-11-01T09:00:00.000005Z,acct_1,alice,key_1,weather,tools/call,'=get,refused,INSUFFICIENT_BALANCE,live,0.01,200,0.125,\n" +
			"2026-11-01T08:00:00Z,acct_2,,key_2,weather,other,,failed,ABANDONED,test,,,0,\n",
	} {
		var out strings.Builder
		if err := WriteCalls(&out, calls, csv); err != nil || out.String() != want {
			t.Errorf("printed\n%s, %v, want\n%s", out.String(), err, want)
		}
	}
}
