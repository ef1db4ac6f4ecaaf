// Package connect has the commands and the lines of config files that connect MCP clients
// to a server.
package connect

import (
	"encoding/base64"
	"encoding/json"
	"html/template"
	"net/url"
	"strings"
)

// Connection has the texts with which each MCP client is connected to a server by a
// key.
type Connection struct {
	Server, URL string
	Clients     []Lines
}

// Lines are the command or the lines of a config file that connect one client.
type Lines struct {
	Client string
	Where  string // where to enter the lines
	Text   string
	Link   template.URL // installs the server in the client with one click; "" if the client has no such links
}

// To returns the connection for a server. The formats are those that each client
// documented in November 2026. docs/clients.md lists the formats that tests run.
func To(server, address, secret string) Connection {
	header := "Authorization: Bearer " + secret
	remote := map[string]any{"url": address, "headers": map[string]string{"Authorization": "Bearer " + secret}}
	code := map[string]any{"type": "http", "url": address, "headers": remote["headers"]}
	desktop := map[string]any{
		"command": "npx", "args": []string{"-y", "mcp-remote", address, "--header", "Authorization:${AUTH}"},
		"env": map[string]string{"AUTH": "Bearer " + secret},
	}
	return Connection{server, address, []Lines{
		{Client: "Claude Code", Where: "In a terminal", Text: "claude mcp add --transport http " + server + " " + address + " --header " + shell(header)},
		{Client: "Claude Desktop", Where: "In claude_desktop_config.json", Text: indented(map[string]any{"mcpServers": map[string]any{server: desktop}})},
		{
			Client: "Cursor", Where: "In .cursor/mcp.json", Text: indented(map[string]any{"mcpServers": map[string]any{server: remote}}),
			Link: template.URL("cursor://anysphere.cursor-deeplink/mcp/install?" + url.Values{"name": {server}, "config": {base64.StdEncoding.EncodeToString([]byte(compact(remote)))}}.Encode()),
		},
		{
			Client: "VS Code", Where: "In .vscode/mcp.json", Text: indented(map[string]any{"servers": map[string]any{server: code}}),
			Link: template.URL("vscode:mcp/install?" + escaped(compact(map[string]any{"name": server, "type": "http", "url": address, "headers": remote["headers"]}))),
		},
		{Client: "Codex", Where: "In ~/.codex/config.toml", Text: "[mcp_servers." + tomlKey(server) + "]\nurl = " + quoted(address) + "\nhttp_headers = { Authorization = " + quoted("Bearer "+secret) + " }"},
		{Client: "Gemini CLI", Where: "In a terminal", Text: "gemini mcp add --transport http --header " + shell(header) + " " + server + " " + address},
		{Client: "curl", Where: "In a terminal", Text: strings.Join([]string{
			"curl -sS " + shell(address), "-H " + shell(header), "-H 'Content-Type: application/json'", "-H 'Accept: application/json, text/event-stream'",
			`-d '{"jsonrpc":"2.0","id":1,"method":"tools/list"}'`,
		}, " \\\n  ")},
	}}
}

// escaped escapes a text for a URL in which a space must be %20, not +.
func escaped(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }

// shell quotes a text for a POSIX shell.
func shell(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// quoted returns a JSON string, which TOML reads as well.
func quoted(s string) string { return compact(s) }

// tomlKey returns a key for TOML. A key with a dot must be quoted.
func tomlKey(s string) string {
	if strings.Contains(s, ".") {
		return quoted(s)
	}
	return s
}

func indented(v any) string {
	text, _ := json.MarshalIndent(v, "", "  ") // cannot fail for maps of strings
	return string(text)
}

func compact(v any) string {
	text, _ := json.Marshal(v) // cannot fail for maps of strings
	return string(text)
}
