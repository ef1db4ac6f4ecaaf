package caddymodule

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/fareboxhq/farebox/caddymodule/stores"
)

const gatewaySecret = "sk_live_0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// remoteApp is an app of a gateway without a store, as a config has it.
func remoteApp(t *testing.T, url, key string) *App {
	t.Helper()
	a := &App{Store: &stores.Store{Driver: stores.Remote, URL: url, Key: key}}
	if err := a.fill(); err != nil {
		t.Fatal(err)
	}
	return a
}

// A gateway's key comes from the environment or a file, and is neither in the config
// nor in the store's identity. Another key makes another store, so that a reload
// reconnects.
func TestGatewayKeyStaysOutOfTheConfig(t *testing.T) {
	t.Setenv("FAREBOX_TEST_GATEWAY_KEY", gatewaySecret)
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte(gatewaySecret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	identities := make(map[string]bool)
	for _, key := range []string{"{env.FAREBOX_TEST_GATEWAY_KEY}", "{file." + file + "}", gatewaySecret} {
		for _, url := range []string{"https://platform.example.com", "https://PLATFORM.example.com:443/", "https://platform.example.com/api/v1"} {
			a := remoteApp(t, url, key)
			if err := a.source.Connect(); err != nil {
				t.Fatal(err)
			}
			identities[a.source.Identity] = true
			config, err := json.Marshal(a)
			if err != nil {
				t.Fatal(err)
			}
			if key != gatewaySecret && strings.Contains(string(config), gatewaySecret[8:]) || strings.Contains(a.source.Identity, gatewaySecret[8:]) {
				t.Errorf("the secret is in %s or in %s", config, a.source.Identity)
			}
		}
	}
	if len(identities) != 1 {
		t.Errorf("one store is known by %d names: %v", len(identities), identities)
	}
	other := remoteApp(t, "https://platform.example.com", gatewaySecret[:71]+"0")
	if err := other.source.Connect(); err != nil || identities[other.source.Identity] {
		t.Errorf("another key is the same store: %v", err)
	}
}

// An invalid address or key of a platform is refused before the first request to it,
// and the refusal does not contain the key.
func TestRemoteStoreRefused(t *testing.T) {
	for want, s := range map[string]stores.Store{
		"must be reached by https":   {URL: "http://platform.example.com", Key: gatewaySecret},
		"is no URL":                  {URL: "platform.example.com", Key: gatewaySecret},
		"user or password":           {URL: "https://gateway:" + gatewaySecret + "@platform.example.com", Key: gatewaySecret},
		"the key is missing":         {URL: "https://platform.example.com"},
		"FAREBOX_TEST_NOT_THERE_KEY": {URL: "https://platform.example.com", Key: "{env.FAREBOX_TEST_NOT_THERE_KEY}"},
	} {
		a := remoteApp(t, s.URL, s.Key)
		err := a.source.Connect()
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), gatewaySecret) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
	a := &App{Store: &stores.Store{Driver: stores.Remote, Path: "farebox.db"}}
	if err := a.fill(); err == nil || !strings.Contains(err.Error(), "no path") {
		t.Errorf("a path: %v", err)
	}
	a = &App{Store: &stores.Store{Driver: "mongodb"}}
	if err := a.fill(); err == nil || !strings.Contains(err.Error(), "unknown driver") {
		t.Errorf("a driver that is not there: %v", err)
	}
}

// Each store has its keys beside it, or where the config says; a gateway without
// a store in Caddy's data directory.
func TestKeyFiles(t *testing.T) {
	dir, err := stores.Canonical(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	own := &App{Store: &stores.Store{Path: filepath.Join(dir, "f.db")}}
	if err := own.fill(); err != nil || own.ReceiptKeyFile != filepath.Join(dir, "f.db.receipt-key") || own.SealKeyFile != filepath.Join(dir, "f.db.seal-key") {
		t.Errorf("%q, %q, %v", own.ReceiptKeyFile, own.SealKeyFile, err)
	}
	a := remoteApp(t, "https://platform.example.com", gatewaySecret)
	data, err := stores.Canonical(filepath.Join(caddy.AppDataDir(), "farebox"))
	if err != nil || a.ReceiptKeyFile != filepath.Join(data, "receipt-key") || a.SealKeyFile != filepath.Join(data, "seal-key") {
		t.Errorf("%q, %q, %v", a.ReceiptKeyFile, a.SealKeyFile, err)
	}
	t.Setenv("FAREBOX_TEST_DIR", dir)
	a = &App{Store: &stores.Store{Driver: stores.Remote}, ReceiptKeyFile: "{env.FAREBOX_TEST_DIR}/r", SealKeyFile: "{env.FAREBOX_TEST_DIR}/s"}
	if err := a.fill(); err != nil || a.ReceiptKeyFile != filepath.Join(dir, "r") || a.SealKeyFile != filepath.Join(dir, "s") {
		t.Errorf("%q, %q, %v", a.ReceiptKeyFile, a.SealKeyFile, err)
	}
	a = &App{ReceiptKeyFile: filepath.Join(dir, "k"), SealKeyFile: filepath.Join(dir, "k")}
	if err := a.fill(); err == nil || !strings.Contains(err.Error(), "the same file") {
		t.Errorf("one file for both: %v", err)
	}
}

// A gateway without a store refuses to manage keys, with the reason.
func TestNoOperationsWithoutAStore(t *testing.T) {
	a := remoteApp(t, "https://platform.example.com", gatewaySecret)
	if file, err := a.storeFile(); file != "" || err == nil || !strings.Contains(err.Error(), "manage keys and accounts at the platform") {
		t.Errorf("%q, %v", file, err)
	}
	own := new(App)
	if err := own.fill(); err != nil {
		t.Fatal(err)
	}
	if file, err := own.storeFile(); err != nil || file == "" {
		t.Errorf("%q, %v", file, err)
	}
}
