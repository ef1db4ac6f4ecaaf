package integration

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fareboxhq/farebox/integration/harness"
)

// TestSilentConnections checks a gateway after a peer has opened more connections than
// the process has file descriptors. The peer sends nothing or half a head on them.
// Clients can still call, even from the same address.
func TestSilentConnections(t *testing.T) {
	t.Parallel()
	site := harness.Site(binaries.StartWeather(t, "-stateless"), "server weather", "provider acme", "free list_cities", "price get_forecast 0.01")
	g := binaries.StartGateway(t, strings.Replace(site, "currency USD\n\t}\n", "currency USD\n\t\tlimits {\n\t\t\tconnections 64\n\t\t}\n\t}\n\tservers {\n\t\tlistener_wrappers {\n\t\t\tfarebox\n\t\t}\n\t}\n", 1))
	_, key := g.NewAgent(t, "alice", "1.00")
	few := unix.Rlimit{Cur: 150, Max: 150}
	if err := unix.Prlimit(g.Process().PID(), unix.RLIMIT_NOFILE, &few, nil); err != nil {
		t.Fatal(err)
	}
	for i := range 400 {
		conn, err := net.Dial("tcp", "127.0.0.1:"+g.Port)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		if i%2 == 0 {
			fmt.Fprintf(conn, "POST /mcp HTTP/1.1\r\nHost: local") // fails if the gateway has closed the connection
		}
	}
	for i := range 20 {
		got, err := ask(g, key.Secret, harness.ToolCall(i, "get_forecast", `{"city":"Oslo"}`))
		if err != nil || got.code != "" {
			t.Fatalf("call %d: %d %s, %v", i, got.status, got.body, err)
		}
	}
}
