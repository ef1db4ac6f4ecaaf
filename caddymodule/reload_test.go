package caddymodule

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/goleak"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/engine"
)

// freeAddress returns an address on which nothing listens.
func freeAddress(t testing.TB) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	return address
}

// config returns a whole Caddy config in front of an upstream, as JSON. A reverse_proxy
// leads to the upstream.
func config(t testing.TB, listen, upstream, store, price string) []byte {
	t.Helper()
	return configOf(t, listen, store,
		map[string]any{"handler": "farebox", "server": "weather", "provider": "acme", "prices": []any{map[string]any{"tool": "t", "amount": price}}},
		map[string]any{"handler": "reverse_proxy", "upstreams": []any{map[string]any{"dial": upstream}},
			"transport": map[string]any{"protocol": "http", "keep_alive": map[string]any{"enabled": false}}})
}

// directConfig is like config, but farebox itself sends the requests to the upstream.
func directConfig(t testing.TB, listen, upstream, store, price string) []byte {
	t.Helper()
	return configOf(t, listen, store, map[string]any{
		"handler": "farebox", "server": "weather", "provider": "acme", "unpriced": "free", "prices": []any{map[string]any{"tool": "t", "amount": price}},
		"upstream": map[string]any{"upstreams": []any{map[string]any{"dial": upstream}}, "headers": map[string]any{"request": map[string]any{"set": map[string]any{"Host": []string{upstream}}}}},
	})
}

// configOf returns a whole Caddy config with one route, as JSON.
func configOf(t testing.TB, listen, store string, handlers ...any) []byte {
	t.Helper()
	text, err := json.Marshal(map[string]any{
		"admin":   map[string]any{"disabled": true, "config": map[string]any{"persist": false}},
		"logging": map[string]any{"logs": map[string]any{"default": map[string]any{"level": "ERROR"}}},
		"apps": map[string]any{
			"farebox": map[string]any{"store": map[string]any{"path": store}},
			"http": map[string]any{"servers": map[string]any{"mcp": map[string]any{
				"listen": []string{listen}, "automatic_https": map[string]any{"disable": true},
				"routes": []any{map[string]any{"handle": handlers}},
			}}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestReloadsLeaveNothing checks promise 11 of docs/promises.md within one process.
// Many configs, failing ones among them, are loaded one after another, and the last one
// is stopped. After that, no runtime and no goroutine may be left, and no request body
// may be counted as held in memory.
func TestReloadsLeaveNothing(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":1,"result":{"content":[]}}`)
	}))
	defer upstream.Close()
	listen := freeAddress(t)
	store := filepath.Join(t.TempDir(), "f.db")
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	loads := 0
	load := func(price string) error {
		text := config
		if loads++; loads%2 == 0 {
			text = directConfig
		}
		return caddy.Load(text(t, listen, strings.TrimPrefix(upstream.URL, "http://"), store, price), true)
	}
	var secret string
	round := func(n int) {
		for i := range n {
			if err := load(fmt.Sprintf("0.0%d", 1+i%9)); err != nil {
				t.Fatal(err)
			}
			if secret == "" {
				secret = fund(t)
			}
			if i%3 == 2 {
				if err := load("cheap"); err == nil {
					t.Fatal("a broken config was taken")
				}
			}
			if status, body := paid(t, client, listen, secret); status != 200 || !strings.Contains(body, "dev.farebox/receipt") {
				t.Fatalf("%d %s", status, body)
			}
		}
		if err := caddy.Stop(); err != nil {
			t.Fatal(err)
		}
	}
	round(2) // run before anything is counted, because the first configs also start goroutines that Caddy keeps
	settled := goleak.IgnoreCurrent()
	round(20)
	runtimes.Range(func(key, _ any) bool {
		t.Errorf("the runtime of %v is left", key)
		return true
	})
	if used := shares.Memory.Used(); used != 0 {
		t.Errorf("%d bytes are held", used)
	}
	goleak.VerifyNone(t, settled)
}

// fund makes an account with credits and a key in the running store.
func fund(t testing.TB) (secret string) {
	t.Helper()
	runtimes.Range(func(_, value any) bool {
		s := value.(*engine.Runtime).Service()
		ctx, by := context.Background(), admin.Actor{Name: "test"}
		if _, err := s.CreateAccount(ctx, by, admin.NewAccount{Name: "alice"}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Credit(ctx, by, admin.Credit{Account: "alice", Amount: 100_000_000, Reason: "test"}); err != nil {
			t.Fatal(err)
		}
		var err error
		if _, secret, err = s.CreateKey(ctx, by, admin.NewKey{Account: "alice"}); err != nil {
			t.Fatal(err)
		}
		return false
	})
	return secret
}

// paid makes a paid call. When a config is replaced, the kernel resets connections
// that the old listener has not accepted. The server has not read such a call, so
// paid makes it again.
func paid(t *testing.T, client *http.Client, listen, secret string) (int, string) {
	t.Helper()
	for tries := 1; ; tries++ {
		status, body, err := paidOnce(client, listen, secret)
		if err == nil {
			return status, body
		}
		if tries == 10 {
			t.Fatal(err)
		}
	}
}

func paidOnce(client *http.Client, listen, secret string) (int, string, error) {
	r, err := http.NewRequest("POST", "http://"+listen+"/mcp", strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t"}}`))
	if err != nil {
		return 0, "", err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+secret)
	resp, err := client.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}

// TestFailedStartGivesBack checks that a config with a store that cannot be opened
// keeps no reference, and does not affect the running config.
func TestFailedStartGivesBack(t *testing.T) {
	listen := freeAddress(t)
	dir := t.TempDir()
	good := filepath.Join(dir, "f.db")
	if err := caddy.Load(config(t, listen, "127.0.0.1:1", good, "0.01"), true); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := caddy.Stop(); err != nil {
			t.Error(err)
		}
	}()
	if err := caddy.Load(config(t, listen, "127.0.0.1:1", dir, "0.01"), true); err == nil {
		t.Fatal("a directory was opened as a store")
	}
	n := 0
	runtimes.Range(func(key, _ any) bool {
		n++
		if refs, _ := runtimes.References(key); refs != 1 {
			t.Errorf("%v has %d references", key, refs)
		}
		return true
	})
	if n != 1 {
		t.Errorf("%d runtimes", n)
	}
}
