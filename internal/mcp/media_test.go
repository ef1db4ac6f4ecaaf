package mcp

import (
	"mime"
	"testing"
)

// TestParseMediaType checks that ParseMediaType returns the same results as
// mime.ParseMediaType, and allocates nothing for the media types of messages.
func TestParseMediaType(t *testing.T) {
	for _, value := range []string{TypeJSON, TypeEvents, "Application/JSON", "application/json; charset=utf-8", "text/plain", "", ";", "application/json,text/event-stream"} {
		media, params, err := ParseMediaType(value)
		wantMedia, wantParams, wantErr := mime.ParseMediaType(value)
		if media != wantMedia || params["charset"] != wantParams["charset"] || len(params) != len(wantParams) || (err == nil) != (wantErr == nil) {
			t.Errorf("%q: %q %v %v", value, media, params, err)
		}
	}
	if n := testing.AllocsPerRun(100, func() { _, _, _ = ParseMediaType(TypeJSON) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
