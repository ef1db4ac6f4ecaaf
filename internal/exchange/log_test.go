package exchange

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/fareboxhq/farebox/internal/gate"
)

// TestFailuresNameTheCall checks each code for a fault of the gateway or the server.
// The fault is logged with the tool that was called, even if the refusal does not
// name the tool. This holds for a whole response and for an event. A long name from
// a caller does not fill the log.
func TestFailuresNameTheCall(t *testing.T) {
	for _, code := range gate.Faults() {
		for _, event := range []bool{false, true} {
			x, w := exchangeFor(t, paidCall)
			var log bytes.Buffer
			x.site.Logger = slog.New(slog.NewJSONHandler(&log, nil))
			x.caller.Subject, x.charged.id = "key_1", "chg_1"
			r := &gate.Refusal{Code: code, Cause: errors.New("why")}
			status := float64(200)
			if event {
				x.Event(r)
			} else {
				x.Refuse(w, r)
				status = float64(w.Code)
			}
			var line map[string]any
			if err := json.Unmarshal(log.Bytes(), &line); err != nil {
				t.Fatalf("%s: %v: %s", code, err, log.Bytes())
			}
			for name, want := range map[string]any{
				"server": "weather", "tool": "get_forecast", "charge": "chg_1", "account": "acct_1", "key": "key_1", "code": string(code), "status": status, "cause": "why",
			} {
				if line[name] != want {
					t.Errorf("%s: %s is %v, want %v", code, name, line[name], want)
				}
			}
		}
	}
	x, _ := exchangeFor(t, `{"jsonrpc":"2.0","id":1,"method":"prompts/get","params":{"name":"`+strings.Repeat("x", 5000)+`"}}`)
	if got := x.tool(new(gate.Refusal)); !strings.HasPrefix(got, "prompt:xxx") || len(got) > 1100 {
		t.Errorf("%d bytes are logged", len(got))
	}
}
