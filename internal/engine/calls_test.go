package engine

import (
	"context"
	"testing"

	"github.com/fareboxhq/farebox/internal/callrecord"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/sqltx"
)

// counting is a store that keeps records of calls.
type counting struct{ Store }

func (counting) Rows() sqltx.Database                                 { return nil }
func (counting) CountCalls(context.Context, []ledger.CallCount) error { return nil }
func (counting) Healthy() error                                       { return nil }

// TestCallsNeedAStore checks that only a store with rows has records of calls. A
// runtime without records, such as that of a platform's gateway, may nevertheless get
// settings for records.
func TestCallsNeedAStore(t *testing.T) {
	if calls := NewCalls(struct{ Store }{}); calls != nil {
		t.Errorf("a store without rows has records: %v", calls)
	}
	if calls := NewCalls(counting{}); calls == nil {
		t.Error("a store with rows has no records")
	}
	r := new(Runtime)
	r.ConfigureCalls(callrecord.Settings{Keep: 1})
	if r.Calls() != nil {
		t.Error("there is a recorder")
	}
}
