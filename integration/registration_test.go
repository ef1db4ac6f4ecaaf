package integration

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fareboxhq/farebox/integration/harness"
)

// withMetadata returns a Caddyfile of the harness with farebox_metadata in its site.
func withMetadata(t *testing.T, site string) string {
	t.Helper()
	text := strings.Replace(site, "bind 127.0.0.1\n", "bind 127.0.0.1\n\tfarebox_metadata\n", 1)
	if text == site {
		t.Fatal("the site has no line to add the directive to")
	}
	return text
}

// TestClientsReadWhyTheirKeyIsRefused checks clients that look for an OAuth sign-in
// when their key is refused. These clients show their user which token to send and
// where to get a token, instead of an error about an unreadable answer.
func TestClientsReadWhyTheirKeyIsRefused(t *testing.T) {
	t.Parallel()
	g := binaries.StartGateway(t, withMetadata(t, harness.Site(binaries.StartWeather(t), "server weather", "provider acme", "price get_forecast 0.01")))
	_, key := g.NewAgent(t, "alice", "1.00")
	wrong := mistype(key.Secret)
	const told = "This gateway takes a key and has no OAuth sign-in"
	for name, run := range map[string]func(t *testing.T, headers ...string) string{
		"mcp-remote": func(t *testing.T, headers ...string) string {
			args := []string{binaries.Module(t, "mcp-remote", "dist", "proxy.js"), g.Endpoint(), "--transport", "http-only"}
			for _, header := range headers {
				args = append(args, "--header", header)
			}
			cmd := command(t, "", binaries.Node(t), args...)
			in, err := cmd.StdinPipe() // kept open, because mcp-remote ends at the end of its input
			if err != nil {
				t.Fatal(err)
			}
			defer in.Close()
			var output bytes.Buffer
			cmd.Stdout, cmd.Stderr = &output, &output
			if err := cmd.Run(); err == nil {
				t.Error("it ended without an error")
			}
			return output.String()
		},
		"mcporter": func(t *testing.T, headers ...string) string {
			server := map[string]any{"url": g.Endpoint()}
			for _, header := range headers {
				name, value, _ := strings.Cut(header, ":")
				server["headers"] = map[string]string{name: value}
			}
			output, err := mcporter(t, server, "call", "weather.get_forecast", "city=Oslo")
			if err == nil {
				t.Error("it ended without an error")
			}
			return output
		},
	} {
		for what, headers := range map[string][]string{"no key": nil, "a wrong key": {"Authorization:Bearer " + wrong}} {
			t.Run(name+" with "+what, func(t *testing.T) {
				t.Parallel()
				output := run(t, headers...)
				if !strings.Contains(output, told) || !strings.Contains(output, "Authorization: Bearer sk_live_...") || strings.Contains(output, "SyntaxError") {
					t.Errorf("the user reads:\n%s", output)
				}
			})
		}
	}
}

// mcporter runs the mcporter command with a config that has only this server,
// named weather.
func mcporter(t *testing.T, server map[string]any, args ...string) (output string, err error) {
	t.Helper()
	cmd := command(t, "", binaries.Node(t), append([]string{binaries.Module(t, "mcporter", "dist", "cli.js"), "--config", "mcporter.json"}, args...)...)
	config := encode(t, map[string]any{"mcpServers": map[string]any{"weather": server}})
	if err := os.WriteFile(filepath.Join(cmd.Dir, "mcporter.json"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	cmd.Stdout, cmd.Stderr = &text, &text
	err = cmd.Run()
	return text.String(), err
}

// TestRegistrationLeavesAuthorizationServersAlone checks that an authorization server
// in the same site answers registrations itself, even if farebox_metadata comes before
// it in the config.
func TestRegistrationLeavesAuthorizationServersAlone(t *testing.T) {
	t.Parallel()
	site := withMetadata(t, harness.Site(binaries.StartWeather(t), "server weather", "provider acme", "price get_forecast 0.01"))
	site = strings.Replace(site, "\thandle {\n", "\thandle /register {\n\t\trespond `{\"client_id\":\"theirs\"}` 201\n\t}\n\thandle {\n", 1)
	g := binaries.StartGateway(t, site)
	for path, want := range map[string]int{"/register": http.StatusCreated, "/other/register": http.StatusBadRequest, "/mcp/register": http.StatusBadRequest} {
		resp, err := http.Post("http://localhost:"+g.Port+path, "application/json", strings.NewReader(`{"redirect_uris":[]}`))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if got := string(body); err != nil || resp.StatusCode != want || strings.Contains(got, "theirs") != (want == http.StatusCreated) {
			t.Errorf("%s: %d %s; want %d", path, resp.StatusCode, got, want)
		}
	}
}
