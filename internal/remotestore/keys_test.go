package remotestore

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/wire"
)

// TestKeyByDigest checks that a key arrives with everything that a gateway needs for
// its decisions. It also checks that a response with a key other than the requested one
// is rejected. A lookup reports an unknown key only if the platform itself refused the
// key; a broken connection is another error.
func TestKeyByDigest(t *testing.T) {
	at := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	want := keys.Key{
		ID: "key_1", Account: "acct_1", Lineage: "key_0", Kind: keys.Agent, Environment: keys.Test, Digest: keys.Digest{7}, Servers: []string{"weather"},
		Scopes: []string{"billing.read"}, CreatedAt: at, ExpiresAt: at.Add(time.Hour), DisabledAt: at,
		Limits: &keys.Limits{Day: 5, Rate: keys.Rate{Requests: 60, Per: time.Minute, Burst: 100}},
		Proof:  new("proof"),
	}
	s, f, _ := faked(t, gives(wire.KeyOf(&want)))
	got, err := s.KeyByDigest(ctx(t), want.Digest)
	if err != nil || !reflect.DeepEqual(got, &want) {
		t.Errorf("got %+v, %v; want %+v", got, err, &want)
	}
	_, err = s.KeyByDigest(ctx(t), keys.Digest{8})
	unavailable(t, "another key", err)
	for name, change := range map[string]func(*wire.Key){
		"kind": func(k *wire.Key) { k.Kind = "root" }, "environment": func(k *wire.Key) { k.Environment = "" }, "account": func(k *wire.Key) { k.Account = "" },
		"digest": func(k *wire.Key) { k.Digest = "x" }, "id": func(k *wire.Key) { k.ID = "" },
	} {
		k := wire.KeyOf(&want)
		change(&k)
		f.plays(gives(k))
		_, err := s.KeyByDigest(ctx(t), want.Digest)
		unavailable(t, name, err)
	}
	f.plays(refuses(ledger.ErrNotFound))
	if _, err := s.KeyByDigest(ctx(t), want.Digest); !errors.Is(err, keys.ErrUnknown) {
		t.Errorf("no such key: %v", err)
	}
	for _, r := range []reply{says(404, "text/html", "not found"), says(404, "application/json", `{"code":"NOT_FOUND","status":404}`), refuses(ledger.ErrConflict)} {
		f.plays(r)
		_, err := s.KeyByDigest(ctx(t), want.Digest)
		unavailable(t, "a refusal that is no platform's", err)
		if errors.Is(err, keys.ErrUnknown) {
			t.Errorf("taken for unknown: %v", err)
		}
	}
}

// TestTouchKeysInParts checks that many used keys are reported in several requests,
// each key once.
func TestTouchKeysInParts(t *testing.T) {
	used := make(map[string]time.Time)
	for i := range 2*maxUsed + 5 {
		used[fmt.Sprint("key_", i)] = time.Unix(int64(i), 0)
	}
	s, f, _ := faked(t, done)
	if err := s.TouchKeys(ctx(t), used); err != nil {
		t.Fatal(err)
	}
	told := make(map[string]time.Time)
	for _, body := range f.bodies {
		var part wire.Used
		if err := json.Unmarshal([]byte(body), &part); err != nil || len(part.Keys) > maxUsed {
			t.Fatalf("%d keys, %v", len(part.Keys), err)
		}
		for id, at := range part.Keys {
			told[id] = at
		}
	}
	if len(f.bodies) != 3 || len(told) != len(used) {
		t.Errorf("%d of %d keys in %d requests", len(told), len(used), len(f.bodies))
	}
	f.plays(done)
	if err := s.TouchKeys(ctx(t), nil); err != nil || f.count() != 0 {
		t.Errorf("nothing was told: %v", err)
	}
}

// TestBonds checks that a binding is found by its handle hash, and that a binding
// with too long a payload is not sent.
func TestBonds(t *testing.T) {
	want := ledger.Binding{Server: "weather", HandleHash: ledger.HandleHash{1, 2}, Account: "acct_1", Until: time.Date(2026, 11, 22, 10, 0, 0, 123000, time.UTC), Payload: []byte{0, 1}}
	s, f, _ := faked(t, cut, done, gives(wire.BindingOf(want)))
	if err := s.Bind(ctx(t), want); err != nil || f.bodies[0] != f.bodies[1] || f.asked[1] != "PUT /bindings/01020000000000000000000000000000" {
		t.Errorf("%q, %v", f.asked, err)
	}
	got, err := s.Binding(ctx(t), want.Server, want.HandleHash)
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%+v, %v", got, err)
	}
	_, err = s.Binding(ctx(t), want.Server, ledger.HandleHash{3})
	unavailable(t, "another binding", err)
	f.plays(refuses(ledger.ErrNotFound))
	if _, err := s.Binding(ctx(t), want.Server, want.HandleHash); !errors.Is(err, ledger.ErrNotFound) {
		t.Error(err)
	}
	want.Payload = make([]byte, ledger.MaxBinding+1)
	if err := s.Bind(ctx(t), want); !errors.Is(err, ledger.ErrInvalid) || f.count() != 1 {
		t.Error(err)
	}
}
