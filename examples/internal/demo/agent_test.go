package demo

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// TestUnpaidResultIsNoticed checks that a result that lacks a charge or a receipt is
// an error.
func TestUnpaidResultIsNoticed(t *testing.T) {
	paid := mcp.Meta{metaCharge: map[string]any{"id": "chg_1", "amount": "0.01", "currency": "USD"}, metaReceipt: "a.b.c"}
	call, err := readMeta("sun", paid)
	if err != nil || call.Charge != (Charge{ID: "chg_1", Amount: "0.01", Currency: "USD"}) || call.Receipt != "a.b.c" {
		t.Errorf("got %+v, %v", call, err)
	}
	for name, meta := range map[string]mcp.Meta{
		"nothing": nil, "no receipt": {metaCharge: paid[metaCharge]}, "no charge": {metaReceipt: "a.b.c"},
		"other form": {metaCharge: "chg_1", metaReceipt: "a.b.c"},
	} {
		if _, err := readMeta("sun", meta); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
}

// TestBearerLeavesTheRequestAlone checks that the secret is added to a copy of the
// request.
func TestBearerLeavesTheRequestAlone(t *testing.T) {
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1:1/", nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := (&bearer{secret: "s"}).RoundTrip(req); err == nil {
		_ = resp.Body.Close()
	}
	if got := req.Header.Get("Authorization"); got != "" {
		t.Errorf("the caller's request has %q", got)
	}
}

// TestRefusalIsOfTheKey checks that Refusal returns the message for a refused key.
// Refusal fails if the key is accepted, or if the request fails for another reason.
func TestRefusalIsOfTheKey(t *testing.T) {
	for status, want := range map[int]string{http.StatusUnauthorized: "401 Unauthorized: Invalid agent token", http.StatusOK: "", http.StatusServiceUnavailable: ""} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != "Bearer sk" {
				status = http.StatusTeapot
			}
			w.WriteHeader(status)
			_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":1,"error":{"code":401,"message":"Invalid agent token"}}`)
		}))
		told, err := Refusal(t.Context(), server.URL, "sk")
		if told != want || (err == nil) != (want != "") {
			t.Errorf("%d: got %q, %v", status, told, err)
		}
		server.Close()
	}
}

// TestShorten checks that a long text keeps its beginning and its end, and that a
// short text is unchanged.
func TestShorten(t *testing.T) {
	if got := Shorten("abc"); got != "abc" {
		t.Errorf("got %q", got)
	}
	if got := Shorten("a" + strings.Repeat("x", 98) + "z"); !strings.HasPrefix(got, "axx") || !strings.HasSuffix(got, "xxz (100 bytes)") {
		t.Errorf("got %q", got)
	}
}
