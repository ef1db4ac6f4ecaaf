package demo

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func file(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestBalancesCompareExactly checks that decimals are compared as exact numbers, and
// not as texts or floats.
func TestBalancesCompareExactly(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{{"0.99", "1.00", true}, {"1.00", "1", false}, {"10.00", "9.00", false}, {"-1.00", "0.00", true}, {"0.999999", "1", true}} {
		if got, err := less(c.a, c.b); err != nil || got != c.want {
			t.Errorf("less(%s, %s): got %t, %v; want %t", c.a, c.b, got, err, c.want)
		}
	}
	for _, c := range [][2]string{{"", "1"}, {"1", "many"}} {
		if _, err := less(c[0], c[1]); err == nil {
			t.Errorf("less(%q, %q): got no error", c[0], c[1])
		}
	}
}

// TestCreditsAreToppedUpOnlyWhenLow checks that an account with enough credits is
// not topped up.
func TestCreditsAreToppedUpOnlyWhenLow(t *testing.T) {
	for balance, credits := range map[string]int{"0.99": 1, "1.00": 0} {
		log := file(t, "")
		o := Operator{Binary: file(t, "#!/bin/sh\necho \"$*\" >>"+log+"\necho '{\"id\":\"acct_1\",\"test_balance\":\""+balance+"\"}'\n"), Admin: "here:1"}
		if _, err := o.EnsureCredits(t.Context(), "demo", "quickstart"); err != nil {
			t.Fatal(err)
		}
		ran, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Count(string(ran), "farebox credit demo 5.00 --test --reason quickstart --json --address here:1"); got != credits {
			t.Errorf("balance %s: ran\n%swant %d credits", balance, ran, credits)
		}
	}
}

// TestCommandErrorsAreShown checks that the error of a failed command includes the
// command's error output. If the output of a command is not JSON, this is an error,
// too.
func TestCommandErrorsAreShown(t *testing.T) {
	o := Operator{Binary: file(t, "#!/bin/sh\necho no such account >&2\nexit 1\n")}
	if err := o.EnsureAccount(t.Context(), "demo"); err == nil || !strings.Contains(err.Error(), "farebox account create: exit status 1: no such account") {
		t.Errorf("got %v", err)
	}
	o = Operator{Binary: file(t, "#!/bin/sh\necho hello\n")}
	if _, err := o.NewKey(t.Context(), "demo"); err == nil || !strings.Contains(err.Error(), "farebox key create") {
		t.Errorf("got %v", err)
	}
}
