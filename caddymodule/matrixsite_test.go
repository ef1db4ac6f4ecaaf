package caddymodule

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/engine"
	ids "github.com/fareboxhq/farebox/internal/id"
	"github.com/fareboxhq/farebox/internal/keys"
)

// matrixUpstream answers every request, and records the cell of the request.
type matrixUpstream struct{ seen sync.Map }

func (u *matrixUpstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	u.seen.Store(r.Header.Get("X-Cell"), true)
	if r.Method == http.MethodGet {
		w.Header().Set("Content-Type", "text/event-stream")
		return
	}
	var message struct {
		ID     json.RawMessage `json:"id"`
		Method string          `json:"method"`
	}
	if err := json.NewDecoder(r.Body).Decode(&message); err != nil { // the request is a DELETE, which has no body
		w.WriteHeader(http.StatusNoContent)
		return
	}
	result := `{"content":[],"contents":[],"messages":[]}`
	if list, ok := strings.CutSuffix(message.Method, "/list"); ok {
		result = `{"` + list + `":[]}`
	}
	switch message.Method {
	case "resources/templates/list":
		result = `{"resourceTemplates":[]}`
	case "initialize":
		w.Header().Set("Mcp-Session-Id", "s1")
	}
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":%s}`, message.ID, result)
}

// matrixConfig returns a config with one site for each style of errors: at /mcp and
// at /http.
func matrixConfig(t *testing.T, listen, upstream, store string, scopes ...string) []byte {
	t.Helper()
	declared := []any{}
	for _, name := range scopes {
		scope := map[string]any{"name": name}
		if name == "all" {
			scope["includes"] = []string{"right"}
		}
		declared = append(declared, scope)
	}
	site := func(path, style string) map[string]any {
		rule := func(items string) map[string]any { return map[string]any{"items": items, "scopes": []string{"right"}} }
		return map[string]any{
			"match": []any{map[string]any{"path": []string{path}}}, "terminal": true,
			"handle": []any{
				map[string]any{
					"handler": "farebox", "server": "weather", "provider": "acme", "error_style": style,
					"prices":  []any{map[string]any{"tool": "paid", "amount": "0.01"}, map[string]any{"tool": "allowed", "amount": "0"}, map[string]any{"tool": "usual", "amount": "0"}},
					"methods": []any{map[string]any{"method": "vendor/thing", "amount": "free"}},
					"scopes":  []any{rule("allowed"), rule("paid"), rule("prompt:p"), rule("resource:docs://*"), rule("method:vendor/thing")},
				},
				map[string]any{"handler": "reverse_proxy", "upstreams": []any{map[string]any{"dial": upstream}}},
			},
		}
	}
	text, err := json.Marshal(map[string]any{
		"admin":   map[string]any{"disabled": true, "config": map[string]any{"persist": false}},
		"logging": map[string]any{"logs": map[string]any{"default": map[string]any{"level": "ERROR"}}},
		"apps": map[string]any{
			"farebox": map[string]any{"store": map[string]any{"path": store}, "scopes": map[string]any{"declared": declared}},
			"http": map[string]any{"servers": map[string]any{"mcp": map[string]any{
				"listen": []string{listen}, "automatic_https": map[string]any{"disable": true},
				"routes": []any{site("/mcp", styleMCP), site("/http", styleHTTP)},
			}}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// issuer returns a function that issues a token with the rights of the key that is asked
// for, as the authorization server does.
func issuer(s *admin.Service, expired bool) func(context.Context, admin.Actor, admin.NewKey) (keys.Key, string, error) {
	return func(ctx context.Context, by admin.Actor, n admin.NewKey) (keys.Key, string, error) {
		account, err := s.Account(ctx, n.Account)
		if err != nil {
			return keys.Key{}, "", err
		}
		kind, err := keys.ParseKind(n.Kind)
		if err != nil {
			return keys.Key{}, "", err
		}
		now := clock.Now().UTC().Truncate(time.Microsecond)
		k := keys.Key{ID: ids.New("key_"), Account: account.ID, Kind: kind, Environment: keys.Live, Scopes: n.Scopes, Servers: n.Servers, CreatedAt: now, ExpiresAt: now.Add(time.Hour)}
		if n.Test {
			k.Environment = keys.Test
		}
		if expired {
			k.ExpiresAt = now
		}
		secret := keys.Mint(kind, k.Environment)
		k.Lineage, k.Digest, k.Hint = k.ID, keys.DigestOf(secret), keys.Hint(secret)
		return k, secret, s.IssueToken(ctx, by, k)
	}
}

// matrixKeys creates a key for each kind, state and set of scopes, all of one
// account.
func matrixKeys(t *testing.T) (all []matrixKey) {
	t.Helper()
	s := theService(t)
	ctx, by := context.Background(), admin.Actor{Name: "test"}
	if _, err := s.CreateAccount(ctx, by, admin.NewAccount{Name: "alice"}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Credit(ctx, by, admin.Credit{Account: "alice", Amount: 100_000_000, Reason: "test"}); err != nil {
		t.Fatal(err)
	}
	for _, kind := range matrixKinds {
		for scopes, names := range matrixScopes {
			for state := range matrixStates {
				n := admin.NewKey{Account: "alice", Kind: kind, Name: "matrix", Scopes: names, Test: state == "of another environment"}
				if kind != "personal" { // a key of any other kind carries agent:connect either by its kind or not at all
					n.Scopes = slices.DeleteFunc(slices.Clone(names), func(s string) bool { return s == "agent:connect" })
				}
				if state == "of another server" {
					n.Servers, n.Force = []string{"mail"}, true
				}
				create := s.CreateKey
				if kind == "access" || kind == "refresh" {
					create = issuer(s, state == "expired")
				}
				key, secret, err := create(ctx, by, n)
				switch {
				case err != nil:
				case state == "disabled":
					_, err = s.DisableKey(ctx, by, key.ID)
				case state == "deleted":
					_, err = s.DeleteKey(ctx, by, key.ID)
				case state == "expired" && (kind == "access" || kind == "refresh"):
				case state == "expired":
					soon := "1ns"
					_, err = s.UpdateKey(ctx, by, key.ID, admin.KeyChange{ExpiresIn: &soon})
				}
				if err != nil {
					t.Fatalf("%s key, %s, with %v: %v", kind, state, names, err)
				}
				all = append(all, matrixKey{kind, state, scopes, secret})
			}
		}
	}
	return all
}

// theService returns the admin service of the only runtime.
func theService(t *testing.T) (s *admin.Service) {
	t.Helper()
	runtimes.Range(func(_, value any) bool {
		s = value.(*engine.Runtime).Service()
		return false
	})
	if s == nil {
		t.Fatal("there is no runtime")
	}
	return s
}
