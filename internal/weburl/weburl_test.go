package weburl

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"testing"
)

func TestIsLoopback(t *testing.T) {
	for host, want := range map[string]bool{
		"localhost": true, "mcp.localhost": true, "127.0.0.1": true, "127.9.9.9": true, "::1": true, "::ffff:127.0.0.1": true,
		"": false, "localhost.example.com": false, "notlocalhost": false, "0.0.0.0": false, "10.0.0.1": false, "127.0.0.1.example.com": false, "2130706433": false,
	} {
		if IsLoopback(host) != want {
			t.Errorf("%q: %v", host, !want)
		}
	}
}

func TestCause(t *testing.T) {
	outer := &url.Error{Op: "Get", URL: "https://example.com/?secret", Err: io.ErrUnexpectedEOF}
	for _, err := range []error{outer, fmt.Errorf("first: %w", outer)} {
		if got := Cause(err); got.Error() != io.ErrUnexpectedEOF.Error() {
			t.Errorf("the cause of %q is %v", err, got)
		}
	}
	if other := errors.New("other"); Cause(other).Error() != "other" || Cause(nil) != nil {
		t.Error("an error without a URL has changed")
	}
}
