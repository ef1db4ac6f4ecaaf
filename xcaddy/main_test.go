package main

import (
	"slices"
	"strings"
	"testing"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	"github.com/fareboxhq/farebox/internal/cli"
)

// TestWhole checks that Farebox's commands work without the word farebox after the
// name of the binary. No command of Caddy is mistaken for a command of Farebox.
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
