package caddymodule

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/fareboxhq/farebox/caddymodule/stores"
)

// remoteApp returns the app of a gateway without a store of its own.
func remoteApp(t *testing.T) *App {
	t.Helper()
	a := &App{Store: &stores.Store{Driver: stores.Remote, URL: "https://platform.example.com", Key: "sk_live_0123"}}
	if err := a.fill(); err != nil {
		t.Fatal(err)
	}
	return a
}

// TestKeyFiles checks that the key files of a store are beside the store, or where the
// config says. A gateway without a store of its own has them in Caddy's data directory.
// One file must not serve as both key files.
func TestKeyFiles(t *testing.T) {
	dir, err := stores.Canonical(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	own := &App{Store: &stores.Store{Path: filepath.Join(dir, "f.db")}}
	if err := own.fill(); err != nil || own.ReceiptKeyFile != filepath.Join(dir, "f.db.receipt-key") || own.SealKeyFile != filepath.Join(dir, "f.db.seal-key") {
		t.Errorf("%q, %q, %v", own.ReceiptKeyFile, own.SealKeyFile, err)
	}
	a := remoteApp(t)
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

// TestNoOperationsWithoutAStore checks that storeFile, from which commands get the
// file of the store, returns an error with the reason at a gateway without a store of
// its own.
func TestNoOperationsWithoutAStore(t *testing.T) {
	a := remoteApp(t)
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
