package stores

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const gatewaySecret = "sk_live_0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// remote returns a remote store and its source, not yet connected.
func remote(t *testing.T, url, key string) (*Store, *Source) {
	t.Helper()
	s := &Store{Driver: Remote, URL: url, Key: key}
	source, err := s.Source("")
	if err != nil {
		t.Fatal(err)
	}
	return s, source
}

// TestGatewayKeyStaysOutOfTheConfig checks that a gateway's key can come from the
// environment or a file, and is then neither in the config nor in the store's identity.
// Another key gives another identity, so that a reload opens a new store.
func TestGatewayKeyStaysOutOfTheConfig(t *testing.T) {
	t.Setenv("FAREBOX_TEST_GATEWAY_KEY", gatewaySecret)
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte(gatewaySecret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	identities := make(map[string]bool)
	for _, key := range []string{"{env.FAREBOX_TEST_GATEWAY_KEY}", "{file." + file + "}", gatewaySecret} {
		for _, url := range []string{"https://platform.example.com", "https://PLATFORM.example.com:443/", "https://platform.example.com/api/v1"} {
			s, source := remote(t, url, key)
			if err := source.Connect(); err != nil {
				t.Fatal(err)
			}
			identities[source.Identity] = true
			config, err := json.Marshal(s)
			if err != nil {
				t.Fatal(err)
			}
			if key != gatewaySecret && strings.Contains(string(config), gatewaySecret[8:]) || strings.Contains(source.Identity, gatewaySecret[8:]) {
				t.Errorf("the secret is in %s or in %s", config, source.Identity)
			}
		}
	}
	if len(identities) != 1 {
		t.Errorf("one store is known by %d names: %v", len(identities), identities)
	}
	_, other := remote(t, "https://platform.example.com", gatewaySecret[:71]+"0")
	if err := other.Connect(); err != nil || identities[other.Identity] {
		t.Errorf("another key is the same store: %v", err)
	}
}

// TestRemoteStoreRefused checks that an invalid address or key of a platform is refused
// before the first request to the platform, and that the refusal does not contain the
// key.
func TestRemoteStoreRefused(t *testing.T) {
	for want, s := range map[string]Store{
		"must be reached by https":   {URL: "http://platform.example.com", Key: gatewaySecret},
		"is no URL":                  {URL: "platform.example.com", Key: gatewaySecret},
		"user or password":           {URL: "https://gateway:" + gatewaySecret + "@platform.example.com", Key: gatewaySecret},
		"the key is missing":         {URL: "https://platform.example.com"},
		"FAREBOX_TEST_NOT_THERE_KEY": {URL: "https://platform.example.com", Key: "{env.FAREBOX_TEST_NOT_THERE_KEY}"},
	} {
		_, source := remote(t, s.URL, s.Key)
		if err := source.Connect(); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), gatewaySecret) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
	for want, s := range map[string]Store{
		"neither path nor dsn": {Driver: Remote, Path: "farebox.db"}, "unknown driver": {Driver: "mongodb"},
	} {
		if _, err := s.Source(""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}
