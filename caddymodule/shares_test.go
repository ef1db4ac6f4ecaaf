package caddymodule

import (
	"strings"
	"testing"
)

// TestMaxBodyIsHeld checks that a config is refused if its max_body is above one key's
// share of memory. The error names both remedies: raise the memory, or lower max_body.
func TestMaxBodyIsHeld(t *testing.T) {
	for _, c := range []struct {
		body   int64
		limits *Limits
		ok     bool
	}{
		{defaultMaxBody, nil, true},
		{25 << 20, nil, true},
		{26 << 20, nil, false},
		{26 << 20, &Limits{Memory: 1 << 30}, true},
		{defaultMaxBody, &Limits{Memory: 16 << 20}, false},
	} {
		app := &App{Limits: c.limits}
		err := app.register(&Handler{Server: "weather", Provider: "acme", MaxBody: c.body})
		if (err == nil) != c.ok || err != nil && !strings.Contains(err.Error(), "raise limits memory or lower max_body") {
			t.Errorf("%d of %+v: %v", c.body, c.limits, err)
		}
	}
	if err := (&Limits{Calls: -1}).check(); err == nil {
		t.Error("a limit below zero passes")
	}
}
