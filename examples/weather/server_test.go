package main

import (
	"context"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/fareboxhq/farebox/examples/internal/serve"
)

// connect starts the server in one of its modes. It returns a session with the
// server, and the progress messages that the session receives.
func connect(t *testing.T, stateless bool) (*mcp.ClientSession, messages) {
	t.Helper()
	ts := httptest.NewServer(serve.Handler(newServer(time.Millisecond), stateless))
	t.Cleanup(ts.Close)
	seen := make(messages, maxSteps)
	client := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, &mcp.ClientOptions{
		ProgressNotificationHandler: func(_ context.Context, n *mcp.ProgressNotificationClientRequest) {
			seen <- n.Params.Message
		},
	})
	session, err := client.Connect(t.Context(), &mcp.StreamableClientTransport{Endpoint: ts.URL + "/mcp"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = session.Close() })
	return session, seen
}

// messages are progress messages in order of arrival. A message may arrive after the
// call that caused it has returned, because the client runs its handler concurrently.
type messages chan string

// expect waits for exactly these messages, in order.
func (m messages) expect(t *testing.T, want ...string) {
	t.Helper()
	for _, w := range want {
		select {
		case got := <-m:
			if got != w {
				t.Errorf("got progress %q; want %q", got, w)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("no progress; want %q", w)
		}
	}
	if len(m) > 0 {
		t.Errorf("got %q beyond %q", <-m, want)
	}
}

// TestToolsAnswer checks that each tool answers as described, with and without
// sessions. Invalid arguments give an error that the model can read.
func TestToolsAnswer(t *testing.T) {
	calls := []struct {
		tool    string
		args    any
		want    string
		isError bool
	}{
		{"list_cities", nil, "Berlin, Lisbon, Nairobi, Oslo, Sao Paulo, Tokyo", false},
		{"get_forecast", cityInput{"oslo"}, "Oslo: snow showers, -6 to 1 °C", false},
		{"get_forecast", cityInput{"Atlantis"}, "no such city: known are Berlin", true},
		{"climate_report", cityInput{"Tokyo"}, "Rain:     1530 mm a year", false},
		{"climate_report", cityInput{""}, "no such city", true},
		{"read_station", cityInput{"Lisbon"}, "the station in Lisbon does not answer", true},
		{"read_station", cityInput{"x"}, "no such city", true},
		{"watch_storm", stormInput{"Berlin", 2}, "after 2 observations", false},
		{"watch_storm", stormInput{"Berlin", 0}, "after 3 observations", false},
		{"watch_storm", stormInput{"Berlin", 101}, "want 1 to 100", true},
		{"watch_storm", stormInput{"x", 1}, "no such city", true},
	}
	for name, stateless := range map[string]bool{"sessions": false, "stateless": true} {
		t.Run(name, func(t *testing.T) {
			session, _ := connect(t, stateless)
			for _, c := range calls {
				got, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: c.tool, Arguments: c.args})
				if err != nil {
					t.Fatalf("%s %v: %v", c.tool, c.args, err)
				}
				text := got.Content[0].(*mcp.TextContent).Text
				if got.IsError != c.isError || !strings.Contains(text, c.want) {
					t.Errorf("%s %v: got error %t, %q; want error %t, %q", c.tool, c.args, got.IsError, text, c.isError, c.want)
				}
			}
		})
	}
}

// TestToolsAreListed checks that a client sees the five tools, each with a
// description.
func TestToolsAreListed(t *testing.T) {
	session, _ := connect(t, false)
	list, err := session.ListTools(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, tool := range list.Tools {
		names = append(names, tool.Name)
		if tool.Description == "" {
			t.Errorf("tool %s has no description", tool.Name)
		}
	}
	if got := strings.Join(names, " "); got != "climate_report get_forecast list_cities read_station watch_storm" {
		t.Errorf("got tools %s", got)
	}
}

// TestProgressIsStreamed checks that a call with a progress token gets one
// notification for each observation, in order. A call without a token gets no
// notifications.
func TestProgressIsStreamed(t *testing.T) {
	for name, stateless := range map[string]bool{"sessions": false, "stateless": true} {
		t.Run(name, func(t *testing.T) {
			session, seen := connect(t, stateless)
			params := &mcp.CallToolParams{Name: "watch_storm", Arguments: stormInput{"Oslo", 2}}
			if _, err := session.CallTool(t.Context(), params); err != nil {
				t.Fatal(err)
			}
			seen.expect(t)
			params.SetProgressToken("t1")
			if _, err := session.CallTool(t.Context(), params); err != nil {
				t.Fatal(err)
			}
			seen.expect(t, "Oslo: wind 45 km/h", "Oslo: wind 50 km/h")
		})
	}
}

// TestWatchEndsWithItsCaller checks that a call of the tool "watch_storm" ends as soon
// as its caller cancels it, however long an observation takes.
func TestWatchEndsWithItsCaller(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	req := &mcp.CallToolRequest{Params: &mcp.CallToolParamsRaw{}}
	if _, _, err := watchStorm(time.Hour)(ctx, req, stormInput{"Oslo", 1}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v; want %v", err, context.Canceled)
	}
}
