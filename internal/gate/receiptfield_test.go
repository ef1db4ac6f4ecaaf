package gate

import (
	"encoding/json"
	"math"
	"testing"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// TestChargeField checks that append encodes the field exactly as json.Marshal does.
func TestChargeField(t *testing.T) {
	for _, amount := range []ledger.Amount{0, 1, -1, 10_000, 1_234_567, math.MaxInt64, math.MinInt64} {
		for _, free := range []bool{false, true} {
			f := chargeField{ID: "chg_0193", Amount: amount, Currency: "USD", Environment: "test", Balance: -amount, Free: free}
			want, err := json.Marshal(f)
			if got := string(f.append(nil)); err != nil || got != string(want) {
				t.Errorf("%s, want %s", got, want)
			}
		}
	}
}
