package help

import (
	"strings"
	"testing"
)

// TestHelpIsChecked checks that a contact or a top-up URL is accepted only if it is
// short and on one line. A URL must also be safe to show in refusals.
func TestHelpIsChecked(t *testing.T) {
	for _, text := range []string{"", "billing@example.com", "the billing desk, extension 7", "mailto:billing@example.com", "https://example.com/help", "Frau Müller"} {
		if err := checkContact(text); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
	for _, text := range []string{" ", "a\nb", "a\x1b[0m", "\u202eevil", strings.Repeat("x", 201), "mailto:", "mailto:a@b?subject=x", "mailto:A <a@b.c>", "http://example.com", "javascript://x", "https://user@example.com", "\xff"} {
		if err := checkContact(text); err == nil || !strings.HasPrefix(err.Error(), "contact: ") {
			t.Errorf("%q: %v", text, err)
		}
	}
	for _, text := range []string{"", "https://pay.example.com/a?b=c#d", "http://localhost:8080/"} {
		if err := checkTopUp(text); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
	for _, text := range []string{"pay.example.com", "http://pay.example.com", "https://", "https://u:p@pay.example.com", "javascript:alert(1)", "https://pay.example.com/a b", "https://pay.exämple.com", "https://x/" + strings.Repeat("y", 500)} {
		if err := checkTopUp(text); err == nil || !strings.HasPrefix(err.Error(), "topup_url: ") {
			t.Errorf("%q: %v", text, err)
		}
	}
}
