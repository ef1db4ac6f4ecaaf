package caddymodule

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// A valid price book with a probable mistake causes a warning with its line and
// advice; a plausible one does not.
func TestPriceWarnings(t *testing.T) {
	for block, want := range map[string][]string{
		``:                                    {"no tool of this server can be called", "at=Testfile:1", "unpriced free"},
		`unpriced deny`:                       {"no tool of this server can be called"},
		`price prompt:essay 0.01`:             {"no tool of this server can be called"},
		"price a 1\n\tfree b, c":              {"ends with a comma", "at=Testfile:5", "price=b,"},
		`price " a" 1`:                        {"ends with a space", "at=Testfile:4"},
		`price 'a' 1`:                         {"quotation mark", "at=Testfile:4"},
		"price a 1\n\tprice resource:D://* 1": {"not in normal form", "at=Testfile:5", "RFC 3986"},

		`unpriced free`:                          nil,
		`unpriced 0.01`:                          nil,
		`price "two words" 1`:                    nil,
		`price "it's" 1`:                         nil,
		`price ns:tool 1`:                        nil,
		"price a 1\n\tfree resource:D://*":       nil,
		"price a 1\n\tprice resource:docs://* 1": nil,
	} {
		var h Handler
		text := "farebox {\n\tserver weather\n\tprovider acme\n\t" + block + "\n}"
		if err := h.parse(caddyfile.NewTestDispenser(text), nil); err != nil {
			t.Fatalf("%s: %v", block, err)
		}
		var log bytes.Buffer
		h.logger = slog.New(slog.NewTextHandler(&log, nil))
		if h.Unpriced == "" {
			h.Unpriced = unpricedDeny
		}
		var err error
		if h.book, err = compileBook(h.Prices, nil, h.Unpriced, nil, ""); err != nil {
			t.Fatalf("%s: %v", block, err)
		}
		h.warnOfPrices()
		if got := strings.Count(log.String(), "\n"); got != min(len(want), 1) {
			t.Errorf("%s: %d warnings:\n%s", block, got, &log)
		}
		for _, part := range want {
			if !strings.Contains(log.String(), part) {
				t.Errorf("%s: no %q in:\n%s", block, part, &log)
			}
		}
	}
}
