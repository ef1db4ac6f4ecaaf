package wire

import (
	"encoding/json"
	"testing"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// TestRetryKeysStayApart checks that different idempotency keys are sent to the
// platform as different texts, even if they are not valid UTF-8. Keys that are valid
// UTF-8 must be sent unchanged.
func TestRetryKeysStayApart(t *testing.T) {
	seen := map[string]string{}
	for _, key := range []string{"a", "é", "\ufffd", "\xff", "\xfe", "\xff\xfe", "\xc3"} {
		text, err := json.Marshal(OrderOf("chg_1", ledger.Order{}, ledger.Terms{Idempotency: ledger.Idempotency{Key: key}}))
		if err != nil {
			t.Fatal(err)
		}
		var o Order
		if err := json.Unmarshal(text, &o); err != nil {
			t.Fatal(err)
		}
		terms, err := o.Terms()
		if err != nil {
			t.Fatal(err)
		}
		if before, twice := seen[terms.Idempotency.Key]; twice {
			t.Errorf("%q and %q are both %q", before, key, terms.Idempotency.Key)
		}
		seen[terms.Idempotency.Key] = key
	}
	for _, key := range []string{"a", "é"} {
		if seen[key] != key {
			t.Errorf("%q is not sent as it is", key)
		}
	}
}
