package harness

import (
	"os"
	"path/filepath"
	"testing"
)

// StartWeather starts the weather server of the examples and returns its base URL.
func (b *Binaries) StartWeather(t testing.TB, args ...string) string {
	t.Helper()
	return startExample(t, "weather", b.Weather, append([]string{"-pace", "1ms"}, args...))
}

// StartBilling starts the billing server of the examples and returns its base URL.
func (b *Binaries) StartBilling(t testing.TB, args ...string) string {
	t.Helper()
	return startExample(t, "billing", b.Billing, args)
}

func startExample(t testing.TB, name, program string, args []string) string {
	t.Helper()
	port := FreePort(t)
	p := Start(t, name, filepath.Join(t.TempDir(), name+".log"), nil,
		program, append([]string{"-listen", "127.0.0.1:" + port}, args...)...)
	url := "http://127.0.0.1:" + port
	p.Await(t, "an answer", answering(url+"/healthz"))
	return url
}

// StartEverything starts the official server-everything, unmodified and with the
// streamable HTTP transport, and returns its base URL.
func (b *Binaries) StartEverything(t testing.TB) string {
	t.Helper()
	script := b.Everything()
	if _, err := os.Stat(script); err != nil {
		t.Fatalf("%v: run \"make tools\"", err)
	}
	port := FreePort(t)
	p := Start(t, "server-everything", filepath.Join(t.TempDir(), "everything.log"), []string{"PORT=" + port},
		"node", script, "streamableHttp")
	url := "http://127.0.0.1:" + port
	p.Await(t, "an answer", answering(url+"/mcp"))
	return url
}
