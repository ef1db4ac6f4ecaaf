package main

import (
	"slices"
	"strings"
	"testing"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	"github.com/fareboxhq/farebox/internal/cli"
)

// TestWhole checks that Farebox's commands work without the word farebox after the
// name of the binary. A command of Caddy must not be mistaken for a command of Farebox.
func TestWhole(t *testing.T) {
	for short, want := range map[string]string{
		"farebox account create alice":  "farebox farebox account create alice",
		"farebox farebox account list":  "farebox farebox account list",
		"farebox __complete key show k": "farebox __complete farebox key show k",
		"farebox help ledger":           "farebox help farebox ledger",
		"farebox help":                  "farebox help",
		"farebox run --config account":  "farebox run --config account",
		"farebox":                       "farebox",
		"farebox backup x.db":           "farebox farebox backup x.db",
		"farebox completion bash":       "farebox completion bash",
	} {
		if got := strings.Join(whole(strings.Fields(short)), " "); got != want {
			t.Errorf("%s stands for %s, want %s", short, got, want)
		}
	}
	for name := range caddycmd.Commands() {
		if slices.Contains(cli.Names(), name) {
			t.Errorf("%s is a command of Caddy's, too", name)
		}
	}
}

// TestOfferNames checks that a shell completes the first word of a command line with
// the names of Farebox's own commands. The completion of later words and flags must be
// left to the commands themselves.
func TestOfferNames(t *testing.T) {
	for line, want := range map[string]string{
		"farebox __complete acc":        "account\n",
		"farebox __completeNoDesc ch":   "charge\n",
		"farebox __complete run":        "",
		"farebox __complete --":         "",
		"farebox __complete account cr": "",
		"farebox account":               "",
	} {
		var out strings.Builder
		if offerNames(&out, strings.Fields(line)); out.String() != want {
			t.Errorf("%s offers %q, want %q", line, out.String(), want)
		}
	}
	var all strings.Builder
	if offerNames(&all, []string{"farebox", "__complete", ""}); len(strings.Fields(all.String())) != len(cli.Names()) {
		t.Errorf("an empty word offers %q", all.String())
	}
}
