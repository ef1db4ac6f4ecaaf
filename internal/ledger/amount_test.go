package ledger_test

import (
	"encoding/json"
	"errors"
	"math"
	"math/big"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// amounts draws amounts from the whole range, and draws the limits of the range more
// often than chance would.
func amounts() *rapid.Generator[ledger.Amount] {
	return rapid.OneOf(
		rapid.Map(rapid.Int64(), func(n int64) ledger.Amount { return ledger.Amount(n) }),
		rapid.Map(rapid.Int64Range(-3_000_000, 3_000_000), func(n int64) ledger.Amount { return ledger.Amount(n) }),
		rapid.SampledFrom([]ledger.Amount{math.MinInt64, math.MinInt64 + 1, -1, 0, 1, math.MaxInt64 - 1, math.MaxInt64}),
	)
}

// TestPrintedAmountsAreReadBack checks that a printed amount is exact, has two to six
// decimals and no superfluous zero, and parses as the same amount.
func TestPrintedAmountsAreReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := amounts().Draw(t, "amount")
		text := a.String()
		exact, ok := new(big.Rat).SetString(text)
		if !ok || exact.Cmp(big.NewRat(int64(a), int64(ledger.Unit))) != 0 {
			t.Fatalf("%d micro-units are printed as %s", int64(a), text)
		}
		_, fraction, _ := strings.Cut(text, ".")
		if len(fraction) < 2 || len(fraction) > 6 || len(fraction) > 2 && strings.HasSuffix(fraction, "0") {
			t.Fatalf("%s has %d decimals", text, len(fraction))
		}
		if a == math.MinInt64 {
			return // this amount has no counterpart with the other sign, so ParseAmount does not accept it
		}
		if back, err := ledger.ParseAmount(text); err != nil || back != a {
			t.Fatalf("%s is read as %d (%v), want %d", text, int64(back), err, int64(a))
		}
	})
}

// TestParseAmount checks that decimals parse exactly.
func TestParseAmount(t *testing.T) {
	for text, want := range map[string]ledger.Amount{
		"0": 0, "-0": 0, "5": 5 * ledger.Unit, "0.01": 10_000, "-1.250000": -1_250_000, "0.000001": 1,
		"007.10": 7_100_000, "9223372036854.775807": math.MaxInt64, "-9223372036854.775807": -math.MaxInt64,
		strings.Repeat("0", 50) + "1": ledger.Unit,
	} {
		if got, err := ledger.ParseAmount(text); err != nil || got != want {
			t.Errorf("%q is read as %d (%v), want %d", text, int64(got), err, int64(want))
		}
	}
}

// TestParseAmountRefuses checks that ParseAmount returns an error for numbers that are
// ambiguous or too large.
func TestParseAmountRefuses(t *testing.T) {
	for _, text := range []string{
		"", "-", ".", ".5", "5.", "-.5", "+1", "--1", "1-", "1e3", "0x10", "1,000", "1_000", " 1", "1 ", "1.2.3",
		"NaN", "Inf", "٣", "1.0000001", "0.0000000", "1.+1", "1.-1", "\x001", "−1",
	} {
		if got, err := ledger.ParseAmount(text); err == nil {
			t.Errorf("%q is read as %s", text, got)
		}
	}
	for _, text := range []string{"9223372036854.775808", "-9223372036854.775808", "9223372036855", strings.Repeat("9", 40)} {
		if got, err := ledger.ParseAmount(text); !errors.Is(err, ledger.ErrOverflow) {
			t.Errorf("%q is read as %s (%v), want %v", text, got, err, ledger.ErrOverflow)
		}
	}
}

// TestAnyTextIsReadExactlyOrRefused checks that ParseAmount either refuses a text or
// returns the same value as exact arithmetic.
func TestAnyTextIsReadExactlyOrRefused(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`[-+]?[0-9]{0,20}\.?[0-9e]{0,8}`).Draw(t, "text")
		got, err := ledger.ParseAmount(text)
		if err != nil {
			return
		}
		exact, ok := new(big.Rat).SetString(text)
		if !ok || exact.Cmp(big.NewRat(int64(got), int64(ledger.Unit))) != 0 {
			t.Fatalf("%q is read as %d micro-units", text, int64(got))
		}
	})
}

// TestArithmeticIsExactOrOverflows checks that Add and Sub either return the same value
// as big integers or return ErrOverflow.
func TestArithmeticIsExactOrOverflows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := amounts().Draw(t, "a"), amounts().Draw(t, "b")
		check := func(what string, got ledger.Amount, err error, exact *big.Int) {
			if exact.IsInt64() != (err == nil) || err != nil && !errors.Is(err, ledger.ErrOverflow) {
				t.Fatalf("%d %s %d: error is %v, the exact result %s", a, what, b, err, exact)
			}
			if err == nil && int64(got) != exact.Int64() {
				t.Fatalf("%d %s %d = %d, want %s", a, what, b, got, exact)
			}
		}
		bigA, bigB := big.NewInt(int64(a)), big.NewInt(int64(b))
		sum, err := a.Add(b)
		check("+", sum, err, new(big.Int).Add(bigA, bigB))
		difference, err := a.Sub(b)
		check("-", difference, err, new(big.Int).Sub(bigA, bigB))
	})
}

// TestAmountsAreStringsInJSON checks that JSON holds amounts as strings, so that no
// parser turns them into floats.
func TestAmountsAreStringsInJSON(t *testing.T) {
	type page struct{ Amount ledger.Amount }
	b, err := json.Marshal(page{2500})
	if err != nil || string(b) != `{"Amount":"0.0025"}` {
		t.Fatalf("encoded as %s, %v", b, err)
	}
	var back page
	if err := json.Unmarshal(b, &back); err != nil || back.Amount != 2500 {
		t.Fatalf("decoded as %+v, %v", back, err)
	}
	for _, bad := range []string{`{"Amount":0.0025}`, `{"Amount":1}`, `{"Amount":"1.0000001"}`, `{"Amount":""}`} {
		if err := json.Unmarshal([]byte(bad), &back); err == nil {
			t.Errorf("%s was accepted", bad)
		}
	}
	if back.Amount != 2500 {
		t.Errorf("what was refused changed the amount to %s", back.Amount)
	}
}
