package auditlog

import (
	"encoding/json"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// TestNewestLogger checks that records go to the logger of the newest config that still
// runs. If a config fails to start, the logger of the config before it gets the records
// again.
func TestNewestLogger(t *testing.T) {
	var l Log
	l.Write(ledger.Audit{Action: "lost"}) // no logger is in use yet, so this record is lost
	use := func() (*observer.ObservedLogs, func()) {
		core, logs := observer.New(zapcore.InfoLevel)
		return logs, l.Use(zap.New(core).Named("farebox"))
	}
	expect := func(logs *observer.ObservedLogs, action string) {
		t.Helper()
		l.Write(ledger.Audit{Action: action})
		if all := logs.TakeAll(); len(all) != 1 || all[0].LoggerName != "farebox.audit" || all[0].ContextMap()["action"] != action {
			t.Errorf("%s: %v", action, all)
		}
	}
	first, endFirst := use()
	expect(first, "one config")
	second, endSecond := use()
	expect(second, "a reload")
	_, endThird := use()
	endThird()
	endThird()
	expect(second, "a reload that failed")
	endFirst()
	expect(second, "the old config has ended")
	endSecond()
	l.Write(ledger.Audit{Action: "lost"})
	if first.Len()+second.Len() > 0 {
		t.Error("a logger got more than its records")
	}
}

// TestFields checks that a record is logged with the fields that the API shows. A
// detail that is not JSON becomes an empty object, so that the line can be read.
func TestFields(t *testing.T) {
	for detail, want := range map[string]string{`{"grace":"1h"}`: `{"grace":"1h"}`, "": `{}`, "{": `{}`} {
		var l Log
		core, logs := observer.New(zapcore.InfoLevel)
		l.Use(zap.New(core))
		l.Write(ledger.Audit{At: time.UnixMicro(1), Actor: "key_1", From: "127.0.0.1:7", Action: "key.rotate", Target: "key_2", Detail: detail})
		got, err := json.Marshal(logs.All()[0].ContextMap())
		if err != nil {
			t.Fatal(err)
		}
		if text := `{"action":"key.rotate","actor":"key_1","at":"1970-01-01T00:00:00.000001Z","detail":` + want + `,"from":"127.0.0.1:7","target":"key_2"}`; string(got) != text {
			t.Errorf("%s, want %s", got, text)
		}
	}
}
