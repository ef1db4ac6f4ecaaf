package calllog

import (
	"encoding/json"
	"net/netip"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/fareboxhq/farebox/internal/exchange"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// TestLog checks that an empty record has the same fields as a full one. It also checks
// that Enabled reports false if Caddy's logs take no lines of the level INFO.
func TestLog(t *testing.T) {
	core, logs := observer.New(zapcore.InfoLevel)
	l := &Log{logger: zap.New(core), currency: "USD"}
	if quiet := (&Log{logger: zap.NewNop()}); !l.Enabled() || quiet.Enabled() {
		t.Error("Enabled does not follow the logger")
	}
	l.Log(t.Context(), new(exchange.Record))
	amount := ledger.Amount(10_000)
	ctx := trace.ContextWithSpanContext(t.Context(), trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{1}, TraceFlags: trace.FlagsSampled}))
	l.Log(ctx, &exchange.Record{
		Server: "weather", Method: "tools/call", Entry: "get_*", Tool: "get_forecast", Decision: "charged", Code: "UPSTREAM_FAILED", Account: "acct_1", Key: "key_1", Test: true,
		Charge: "chg_1", Amount: &amount, Replayed: true, Status: 200, Ended: exchange.Cut, BytesRead: 7, BytesSent: 8, ProtocolVersion: "2026-07-28",
		Client: netip.MustParseAddr("::1"), Duration: 3 * time.Second, Added: time.Second, Upstream: 2 * time.Second, Reserve: 1, Captured: 2,
	})
	const (
		empty = `{"account":"","added_duration":0,"amount":"","bytes_read":0,"capture_duration":0,"charge":"","client_ip":"","code":"","currency":"","decision":"","duration":0,"ended":"","entry":"","key":"","method":"","protocol_version":"","replayed":false,"reserve_duration":0,"server":"","size":0,"status":0,"test":false,"tool":"","trace_id":"","upstream_duration":0}`
		full  = `{"account":"acct_1","added_duration":1000000000,"amount":"0.01","bytes_read":7,"capture_duration":2,"charge":"chg_1","client_ip":"::1","code":"UPSTREAM_FAILED","currency":"USD","decision":"charged","duration":3000000000,"ended":"cut","entry":"get_*","key":"key_1","method":"tools/call","protocol_version":"2026-07-28","replayed":true,"reserve_duration":1,"server":"weather","size":8,"status":200,"test":true,"tool":"get_forecast","trace_id":"01000000000000000000000000000000","upstream_duration":2000000000}`
	)
	for i, want := range []string{empty, full} {
		got, err := json.Marshal(logs.All()[i].ContextMap())
		if err != nil || string(got) != want {
			t.Errorf("got  %s, %v\nwant %s", got, err, want)
		}
	}
}
