package caddymodule

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/fareboxhq/farebox/internal/keys"
)

// The tests in this file send a matrix of requests. There is a key of each kind, in
// each state and with each set of scopes. Each key sends each request of both protocol
// eras (with and without sessions) to a site of each style of errors. One request with
// one key at one site is a cell.

var matrixKinds = []string{"agent", "provider", "gateway", "personal", "admin", "access", "refresh"}

// matrixScopes are the sets of scopes that keys have, by the name of the set. The scope
// "gone" is no longer declared when the requests come, so it has no effect.
var matrixScopes = map[string][]string{
	"none": {"gone"}, "right": {"right"}, "wrong": {"wrong"}, "inherited": {"all"}, "connect": {"agent:connect"},
	"right and connect": {"right", "agent:connect"}, "inherited and connect": {"all", "agent:connect"},
}

// matrixStates maps the states of keys to the codes that refuse them. The code ""
// admits a key.
var matrixStates = map[string]string{
	"active": "", "disabled": "TOKEN_INVALID", "deleted": "TOKEN_INVALID", "expired": "TOKEN_EXPIRED",
	"of another server": "TOKEN_INVALID", "of another environment": "TOKEN_INVALID",
}

// matrixRequest is a request, with the scope that it needs.
type matrixRequest struct {
	http   string // GET or DELETE; "" for a POST
	method string
	params string // the members of params, as JSON without the braces
	needs  string // the scope that the request needs; "" for none
	// other and otherRPC are Farebox's own code and the JSON-RPC code of a refusal that
	// does not depend on the rights of the key. paid says that the request has a price.
	other    string
	otherRPC int
	paid     bool
}

func (q *matrixRequest) tool() bool { return q.method == "tools/call" }

// matrixShared lists the requests that exist in both protocol eras (with and without
// sessions). The server never hands out a task, so tasks/get and tasks/cancel are
// refused as unknown methods.
var matrixShared = []matrixRequest{
	{method: "tools/list"}, {method: "prompts/list"}, {method: "resources/list"}, {method: "resources/templates/list"},
	{method: "tools/call", params: `"name":"allowed"`, needs: "right"},
	{method: "tools/call", params: `"name":"paid"`, needs: "right", paid: true},
	{method: "tools/call", params: `"name":"usual"`, needs: "agent:connect"},
	{method: "tools/call", params: `"name":"unpriced"`, other: "TOOL_UNKNOWN", otherRPC: -32602},
	{method: "prompts/get", params: `"name":"p"`, needs: "right"},
	{method: "prompts/get", params: `"name":"other"`, needs: "agent:connect"},
	{method: "resources/read", params: `"uri":"docs://a"`, needs: "right"},
	{method: "resources/read", params: `"uri":"other://a"`, needs: "agent:connect"},
	{method: "completion/complete", params: `"ref":{"type":"ref/prompt","name":"p"},"argument":{"name":"a","value":"b"}`, needs: "right"},
	{method: "completion/complete", params: `"ref":{"type":"ref/resource","uri":"docs://{id}"},"argument":{"name":"a","value":"b"}`, needs: "right"},
	{method: "vendor/thing", params: `"a":1`, needs: "right"},
	{method: "vendor/unknown", params: `"a":1`, other: "METHOD_UNKNOWN", otherRPC: -32601},
	{method: "tasks/get", params: `"taskId":"t"`, other: "METHOD_UNKNOWN", otherRPC: -32601},
	{method: "tasks/cancel", params: `"taskId":"t"`, other: "METHOD_UNKNOWN", otherRPC: -32601},
}

var matrixSession = []matrixRequest{
	{method: "initialize", params: `"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}`},
	{method: "ping"}, {method: "logging/setLevel", params: `"level":"debug"`},
	{method: "resources/subscribe", params: `"uri":"docs://a"`, needs: "right"},
	{method: "resources/unsubscribe", params: `"uri":"docs://a"`, needs: "right"},
	{method: "tasks/list"}, {method: "tasks/result", params: `"taskId":"t"`, other: "METHOD_UNKNOWN", otherRPC: -32601},
	{http: "GET"}, {http: "DELETE"},
}

var matrixStateless = []matrixRequest{
	{method: "server/discover"}, {method: "subscriptions/listen", params: `"notifications":{"toolsListChanged":true}`},
	{method: "subscriptions/listen", params: `"notifications":{"resourceSubscriptions":["docs://a"]}`, needs: "right"},
	{method: "tasks/update", params: `"taskId":"t"`, other: "METHOD_UNKNOWN", otherRPC: -32601},
}

// matrixKey is a key of the matrix.
type matrixKey struct {
	kind, state, scopes string
	secret              string
}

func (k *matrixKey) String() string {
	return fmt.Sprintf("%s key, %s, scopes %s", k.kind, k.state, k.scopes)
}

// carries reports whether the key has the scope. There are three ways: all keys of its
// kind have the scope, the key lists the scope, or the key lists another scope that
// includes it.
func (k *matrixKey) carries(scope string) bool {
	switch scope {
	case "":
		return true
	case "agent:connect":
		return k.kind == "agent" || k.kind == "access" || strings.Contains(k.scopes, "connect")
	default:
		return strings.Contains(k.scopes, "right") || strings.Contains(k.scopes, "inherited")
	}
}

// matrixAnswer is the expected answer of a cell.
type matrixAnswer struct {
	status    int
	code      string // "" if the request is served
	rpc       int    // code of the JSON-RPC error; 0 for a tool's result
	challenge string
}

// expect computes the answer of a cell. It repeats the tables of README and
// docs/scopes.md as code.
func (q *matrixRequest) expect(k *matrixKey, era, style string) matrixAnswer {
	token := matrixStates[k.state]
	if token == "" && k.kind != "agent" && k.kind != "personal" && k.kind != "access" {
		token = "TOKEN_INVALID"
	}
	if token != "" {
		return matrixAnswer{status: 401, code: token, rpc: 401, challenge: `Bearer realm="weather", error="invalid_token"`}
	}
	if q.other != "" {
		status := 200
		if era == "stateless" && q.other == "METHOD_UNKNOWN" {
			status = 404
		}
		return matrixAnswer{status: status, code: q.other, rpc: q.otherRPC}
	}
	needs := q.needs
	if q.paid && !k.carries("agent:connect") {
		needs += " agent:connect"
	}
	lacking := slices.ContainsFunc(strings.Fields(needs), func(s string) bool { return !k.carries(s) })
	switch {
	case !lacking && q.http == http.MethodDelete:
		return matrixAnswer{status: 204}
	case !lacking:
		return matrixAnswer{status: 200}
	case style == styleHTTP:
		return matrixAnswer{status: 403, code: "SCOPE_INSUFFICIENT", rpc: 403, challenge: `Bearer realm="weather", error="insufficient_scope", scope="` + needs + `"`}
	case q.tool():
		return matrixAnswer{status: 200, code: "SCOPE_INSUFFICIENT"}
	}
	return matrixAnswer{status: 200, code: "SCOPE_INSUFFICIENT", rpc: 403}
}

// send sends the request and returns the response. A header identifies the cell for
// the upstream.
func (q *matrixRequest) send(client *http.Client, url, era, secret, session, cell string) (*http.Response, []byte, error) {
	method, body := http.MethodPost, ""
	header := http.Header{"X-Cell": {cell}, "Content-Type": {"application/json"}, "Accept": {"application/json, text/event-stream"}}
	if secret != "" {
		header.Set("Authorization", "Bearer "+secret)
	}
	switch {
	case q.http != "":
		method = q.http
		header.Del("Content-Type")
		header.Set("Mcp-Session-Id", session)
	case era == "session":
		body = fmt.Sprintf(`{"jsonrpc":"2.0","id":%q,"method":%q,"params":{%s}}`, cell, q.method, q.params)
	default:
		meta := `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}`
		if q.params != "" {
			meta += ","
		}
		body = fmt.Sprintf(`{"jsonrpc":"2.0","id":%q,"method":%q,"params":{%s%s}}`, cell, q.method, meta, q.params)
		header.Set("Mcp-Protocol-Version", "2026-07-28")
		header.Set("Mcp-Method", q.method)
		var params struct{ Name, URI, TaskID string }
		if err := json.Unmarshal([]byte("{"+q.params+"}"), &params); err != nil {
			return nil, nil, err
		}
		if name := params.Name + params.URI + params.TaskID; name != "" && q.method != "completion/complete" {
			header.Set("Mcp-Name", name)
		}
	}
	for tries := 1; ; tries++ {
		r, err := http.NewRequest(method, url, strings.NewReader(body))
		if err != nil {
			return nil, nil, err
		}
		r.Header = header
		resp, err := client.Do(r)
		if err != nil && tries < 10 { // try again: the listener of the previous config may have been closed before it accepted the connection; see paid()
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		return resp, text, err
	}
}

// check compares a response with the expected answer.
func (want *matrixAnswer) check(q *matrixRequest, cell string, resp *http.Response, text []byte) error {
	if resp.StatusCode != want.status || resp.Header.Get("WWW-Authenticate") != want.challenge || len(resp.Header.Values("WWW-Authenticate")) > 1 {
		return fmt.Errorf("%d, challenge %q, %s; want %+v", resp.StatusCode, resp.Header.Values("WWW-Authenticate"), text, *want)
	}
	if q.http != "" && want.code == "" {
		return nil
	}
	type field struct {
		Meta struct {
			Error *struct{ Code string } `json:"dev.farebox/error"`
		} `json:"_meta"`
	}
	var message struct {
		ID     *string `json:"id"`
		Result *struct {
			field
			IsError bool `json:"isError"`
		} `json:"result"`
		Error *struct {
			Code    any    `json:"code"`
			Message string `json:"message"`
			Data    field  `json:"data"`
		} `json:"error"`
	}
	if err := json.Unmarshal(text, &message); err != nil {
		return fmt.Errorf("%s: %w", text, err)
	}
	id := ""
	if message.ID != nil {
		id = *message.ID
	}
	ok := false
	switch {
	case q.http == "" && id != cell:
	case want.code == "":
		ok = message.Result != nil && !message.Result.IsError && (message.Result.Meta.Error == nil)
	case want.rpc == 0:
		ok = message.Result != nil && message.Result.IsError && message.Result.Meta.Error != nil && message.Result.Meta.Error.Code == want.code
	default:
		ok = message.Error != nil && message.Error.Code == any(float64(want.rpc)) && message.Error.Data.Meta.Error != nil && message.Error.Data.Meta.Error.Code == want.code
	}
	if !ok || want.code != "" && resp.Header.Get("Cache-Control") != "no-store" {
		return fmt.Errorf("%d %s; want %+v", resp.StatusCode, text, *want)
	}
	return nil
}

// TestEveryAnswer checks promise 8 of docs/promises.md. Each kind of key, in each state
// and with each set of scopes, sends each request of both protocol eras (with and
// without sessions), in both styles of errors. The status, the challenge, the JSON-RPC
// code and Farebox's own code must be those that matrixRequest.expect computes. Only
// served requests reach the server.
func TestEveryAnswer(t *testing.T) {
	upstream := new(matrixUpstream)
	server := httptest.NewServer(upstream)
	defer server.Close()
	listen := freeAddress(t)
	store := filepath.Join(t.TempDir(), "f.db")
	load := func(scopes ...string) {
		t.Helper()
		if err := caddy.Load(matrixConfig(t, listen, strings.TrimPrefix(server.URL, "http://"), store, scopes...), true); err != nil {
			t.Fatal(err)
		}
	}
	load("right", "wrong", "all", "gone")
	defer func() {
		if err := caddy.Stop(); err != nil {
			t.Error(err)
		}
	}()
	all := matrixKeys(t)
	load("right", "wrong", "all")

	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}}
	defer client.CloseIdleConnections()
	good := all[slices.IndexFunc(all, func(k matrixKey) bool { return k.kind == "agent" && k.state == "active" })]
	begun, text, err := matrixSession[0].send(client, "http://"+listen+"/mcp", "session", good.secret, "", "first")
	if err != nil || begun.Header.Get("Mcp-Session-Id") == "" {
		t.Fatalf("%v %v %s", begun, err, text)
	}
	session := begun.Header.Get("Mcp-Session-Id") // shared by all keys of the account

	type job struct {
		key   *matrixKey
		cells string // prefix of the names of the key's cells
	}
	jobs := make(chan job)
	var workers sync.WaitGroup
	cells := make(chan int, 8)
	for range cap(cells) {
		workers.Go(func() {
			n := 0
			for j := range jobs {
				n += matrixRow(t, client, upstream, listen, session, j.cells, j.key)
			}
			cells <- n
		})
	}
	for i := range all {
		jobs <- job{&all[i], fmt.Sprint("cell-", i)}
	}
	close(jobs)
	workers.Wait()
	total := 0
	for range cap(cells) {
		total += <-cells
	}
	requests := 2*len(matrixShared) + len(matrixSession) + len(matrixStateless)
	if want := len(matrixKinds) * len(matrixStates) * len(matrixScopes) * requests * 2; total != want {
		t.Errorf("%d cells; want %d", total, want)
	}
}

// matrixRow sends all requests of a key, compares the answers with those that
// matrixRequest.expect computes, and returns the number of requests.
func matrixRow(t *testing.T, client *http.Client, upstream *matrixUpstream, listen, session, name string, key *matrixKey) (cells int) {
	for _, era := range []string{"session", "stateless"} {
		requests := append(slices.Clone(matrixShared), matrixSession...)
		if era == "stateless" {
			requests = append(slices.Clone(matrixShared), matrixStateless...)
		}
		for _, style := range []string{styleMCP, styleHTTP} {
			for i := range requests {
				q := &requests[i]
				cells++
				cell := fmt.Sprintf("%s-%s-%s-%d", name, era, style, i)
				resp, text, err := q.send(client, "http://"+listen+"/"+style, era, key.secret, session, cell)
				want := q.expect(key, era, style)
				if err == nil {
					err = want.check(q, cell, resp, text)
				}
				if err != nil {
					t.Errorf("%s; %s %s%s {%s}, error_style %s: %v", key, era, q.http, q.method, q.params, style, err)
				}
				if _, seen := upstream.seen.LoadAndDelete(cell); seen != (want.code == "") {
					t.Errorf("%s; %s %s%s {%s}, error_style %s: the server heard of it: %t", key, era, q.http, q.method, q.params, style, seen)
				}
			}
		}
	}
	return cells
}

// TestEveryAnswerWithoutAKey checks requests without a token, with a malformed
// token, and with a token that is no key. Each request is refused in the same way in
// both styles of errors. The challenge names an error only if a token was sent (RFC
// 6750, 3.1).
func TestEveryAnswerWithoutAKey(t *testing.T) {
	upstream := new(matrixUpstream)
	server := httptest.NewServer(upstream)
	defer server.Close()
	listen := freeAddress(t)
	if err := caddy.Load(matrixConfig(t, listen, strings.TrimPrefix(server.URL, "http://"), filepath.Join(t.TempDir(), "f.db"), "right"), true); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := caddy.Stop(); err != nil {
			t.Error(err)
		}
	}()
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	stranger := keys.Mint(keys.Agent, keys.Live)
	for secret, want := range map[string]matrixAnswer{
		"":                                   {status: 401, code: "TOKEN_MISSING", rpc: 401, challenge: `Bearer realm="weather"`},
		"abc":                                {status: 401, code: "TOKEN_INVALID", rpc: 401, challenge: `Bearer realm="weather", error="invalid_token"`},
		"sk_live_" + strings.Repeat("0", 64): {status: 401, code: "TOKEN_INVALID", rpc: 401, challenge: `Bearer realm="weather", error="invalid_token"`},
		stranger:                             {status: 401, code: "TOKEN_INVALID", rpc: 401, challenge: `Bearer realm="weather", error="invalid_token"`},
	} {
		for era, requests := range map[string][]matrixRequest{"session": append(slices.Clone(matrixShared), matrixSession...), "stateless": append(slices.Clone(matrixShared), matrixStateless...)} {
			for _, style := range []string{styleMCP, styleHTTP} {
				for i := range requests {
					q := &requests[i]
					resp, text, err := q.send(client, "http://"+listen+"/"+style, era, secret, "s", "c")
					if err == nil {
						err = want.check(q, "c", resp, text)
					}
					if _, seen := upstream.seen.Load("c"); err != nil || seen {
						t.Errorf("token %.12q; %s %s%s, error_style %s: %v; the server heard of it: %t", secret, era, q.http, q.method, style, err, seen)
					}
				}
			}
		}
	}
}
