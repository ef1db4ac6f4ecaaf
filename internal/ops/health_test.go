package ops

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/fareboxhq/farebox/internal/identity"
)

// fixedHealth is a Health that returns the view which a test has set.
type fixedHealth struct{ view HealthView }

func (f *fixedHealth) Health() HealthView { return f.view }

// TestShowHealth checks that the status of the response is 200 if the process is ready
// and 503 if not, and that the client returns the view in both cases. A principal
// without the right is refused.
func TestShowHealth(t *testing.T) {
	health := new(fixedHealth)
	serve := func(rights identity.Right) *Client {
		m := NewAdminEndpoint(identity.As{Subject: "test", Rights: rights}, slog.New(slog.DiscardHandler))
		Register(m, Always[Health](health), OnHealth())
		server := httptest.NewServer(m)
		t.Cleanup(server.Close)
		return &Client{HTTP: server.Client(), Host: strings.TrimPrefix(server.URL, "http://")}
	}
	operator, viewer := serve(identity.Operator), serve(identity.View)
	for _, c := range []struct {
		view   HealthView
		status int
		body   string
	}{
		{HealthView{Status: StatusReady}, http.StatusOK, `{"status":"ready"}`},
		{HealthView{StatusNotReady, []ReasonView{{"STORE_DOWN", "m", "d"}}}, http.StatusServiceUnavailable, `{"status":"not_ready","reasons":[{"code":"STORE_DOWN","message":"m","detail":"d"}]}`},
	} {
		health.view = c.view
		resp, err := operator.open(context.Background(), http.MethodGet, "health", nil, "")
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != c.status || resp.Header.Get("Cache-Control") != "no-store" || resp.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%d %v; want %d", resp.StatusCode, resp.Header, c.status)
		}
		var got json.RawMessage
		if got, err = operator.Health(t.Context()); err != nil || strings.TrimSpace(string(got)) != c.body {
			t.Errorf("%s, %v; want %s", got, err, c.body)
		}
		if got, err := viewer.Health(t.Context()); err == nil {
			t.Errorf("without the right: %s", got)
		}
	}
}
