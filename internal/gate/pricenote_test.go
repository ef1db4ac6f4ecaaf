package gate

import (
	"testing"

	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/mcp"
)

// TestPriceNotes checks that with price notes on, the descriptions of priced tools
// state the price. Other lists have no notes.
func TestPriceNotes(t *testing.T) {
	b := newBench(t)
	key := &keys.Key{Kind: keys.Agent}
	if b.List(callerFor(key), mcp.ListTools).Note != nil {
		t.Error("tools have price notes although the policy has none")
	}
	b.policy.PriceNotes = true
	if b.List(callerFor(key), mcp.ListPrompts).Note != nil {
		t.Error("prompts have price notes")
	}
	note := b.List(callerFor(key), mcp.ListTools).Note
	for tool, want := range map[string]string{"cheap": "(0.01 USD a call)", "by_length": "(at most 0.02 USD a call)", "free": "", "unknown": ""} {
		if got := note(tool); got != want {
			t.Errorf("%s: %q, want %q", tool, got, want)
		}
	}
}
