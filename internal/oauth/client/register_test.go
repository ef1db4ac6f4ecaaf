package client

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestRegister: a registration that is possible gets a client id, and one that is not
// possible gets the error that RFC 7591 has for it.
func TestRegister(t *testing.T) {
	jwks := newSigner(t, "k").jwks()
	for _, row := range []struct {
		name, body string
		want       Code   // "" for success
		has        string // in the response, or in the reason
	}{
		{"minimal", `{"redirect_uris": ["http://localhost:1/cb"]}`, "", `"token_endpoint_auth_method":"none"`},
		{"default grants", `{"redirect_uris": ["http://localhost:1/cb"]}`, "", `"grant_types":["authorization_code","refresh_token"]`},
		{"unknown members", `{"redirect_uris": ["http://localhost:1/cb"], "logo_uri": "javascript:x", "contacts": 7}`, "", `"redirect_uris"`},
		{"empty members", `{"redirect_uris": ["http://localhost:1/cb"], "client_uri": "", "logo_uri": null, "jwks": null, "jwks_uri": "", "token_endpoint_auth_method": ""}`, "", `"redirect_uris"`},
		{"its own id", `{"redirect_uris": ["http://localhost:1/cb"], "client_id": "fbclient_mine", "client_secret": "mine"}`, "", `"client_id":"fbclient_0`},
		{"grants", `{"redirect_uris": ["http://localhost:1/cb"], "grant_types": ["authorization_code", "client_credentials", "password"]}`, "", `"grant_types":["authorization_code"]`},
		{"secret", `{"redirect_uris": ["http://localhost:1/cb"], "token_endpoint_auth_method": "client_secret_basic"}`, "", `"client_secret":"fbclientsecret_`},
		{"secret for ever", `{"redirect_uris": ["http://localhost:1/cb"], "token_endpoint_auth_method": "client_secret_post"}`, "", `"client_secret_expires_at":0`},
		{"keys", `{"redirect_uris": ["http://localhost:1/cb"], "token_endpoint_auth_method": "private_key_jwt", "jwks": ` + jwks + `}`, "", `"jwks":{"keys"`},
		{"keys at a URL", `{"redirect_uris": ["http://localhost:1/cb"], "token_endpoint_auth_method": "private_key_jwt", "jwks_uri": "https://agent.example/k"}`, "", `"jwks_uri":"https://agent.example/k"`},
		{"one URI of three", `{"redirect_uris": ["https://evil.example/cb", "http://localhost:1/cb", "javascript:x"]}`, "", `"redirect_uris":["http://localhost:1/cb"]`},
		{"the same URI twice", `{"redirect_uris": ["http://localhost:1/cb", "http://localhost:1/cb"]}`, "", `"redirect_uris":["http://localhost:1/cb"]`},
		{"a device", `{"grant_types": ["urn:ietf:params:oauth:grant-type:device_code"], "response_types": []}`, "", `"redirect_uris":[]`},
		{"name", `{"redirect_uris": ["http://localhost:1/cb"], "client_name": "a\u202eb"}`, "", `"client_name":"ab"`},

		{"stranger", `{"redirect_uris": ["https://evil.example/cb"]}`, InvalidRedirectURI, "none of the redirect_uris"},
		{"no URIs", `{}`, InvalidRedirectURI, "none of the redirect_uris"},
		{"empty URIs", `{"redirect_uris": []}`, InvalidRedirectURI, "none of the redirect_uris"},
		{"null URIs", `{"redirect_uris": null}`, InvalidRedirectURI, "none of the redirect_uris"},
		{"a device with a stranger's URI", `{"grant_types": ["urn:ietf:params:oauth:grant-type:device_code"], "redirect_uris": ["https://evil.example/cb"]}`, InvalidRedirectURI, "none of"},
		{"many URIs", `{"redirect_uris": [` + strings.Repeat(`"http://localhost:1/cb",`, maxURIs) + `"http://localhost:1/cb"]}`, InvalidRedirectURI, "more than 32"},
		{"one text", `{"redirect_uris": "http://localhost:1/cb"}`, InvalidMetadata, "/redirect_uris"},
		{"twice", `{"redirect_uris": ["http://localhost:1/cb"], "redirect_uris": ["https://evil.example/cb"]}`, InvalidMetadata, "twice"},
		{"twice, deep", `{"redirect_uris": ["http://localhost:1/cb"], "x": [{"a": 1, "a": 2}]}`, InvalidMetadata, "twice"},
		{"other case", `{"Redirect_URIs": ["http://localhost:1/cb"]}`, InvalidRedirectURI, "none of the redirect_uris"},
		{"method", `{"redirect_uris": ["http://localhost:1/cb"], "token_endpoint_auth_method": "client_secret_jwt"}`, InvalidMetadata, "token_endpoint_auth_method"},
		{"no keys", `{"redirect_uris": ["http://localhost:1/cb"], "token_endpoint_auth_method": "private_key_jwt"}`, InvalidMetadata, "needs jwks"},
		{"keys inside", `{"redirect_uris": ["http://localhost:1/cb"], "token_endpoint_auth_method": "private_key_jwt", "jwks_uri": "https://10.0.0.1/k"}`, InvalidMetadata, "needs jwks"},
		{"grants of others", `{"redirect_uris": ["http://localhost:1/cb"], "grant_types": ["client_credentials"]}`, InvalidMetadata, "grant_types"},
		{"token in the URL", `{"redirect_uris": ["http://localhost:1/cb"], "response_types": ["token"]}`, InvalidMetadata, "response_types"},
		{"not JSON", `redirect_uris=x`, InvalidMetadata, "not JSON"},
		{"list", `[]`, InvalidMetadata, "type"},
		{"empty", ``, InvalidMetadata, "not JSON"},
		{"large", `{"redirect_uris": ["http://localhost:1/cb"], "x": "` + strings.Repeat("x", MaxRegistration) + `"}`, InvalidMetadata, "more than"},
	} {
		r, store, _ := newRegistry(t, nil, Options{})
		resp, err := r.Register(t.Context(), somebody, []byte(row.body))
		text, _ := json.Marshal(resp)
		if err != nil {
			text = []byte(err.Error())
		}
		if codeOf(t, err) != row.want || !strings.Contains(string(text), row.has) {
			t.Errorf("%s: %s, want %q and %s", row.name, text, row.want, row.has)
		}
		if n := len(store.registrations); (n == 1) != (err == nil) {
			t.Errorf("%s: %d rows", row.name, n)
		}
	}
}

// TestDroppedURIs: refused redirect URIs are left out of a registration and of its
// response, and reported for the log.
func TestDroppedURIs(t *testing.T) {
	r, _, _ := newRegistry(t, nil, Options{})
	resp, err := r.Register(t.Context(), somebody, []byte(`{"redirect_uris": ["https://evil.example/cb", "http://localhost/cb"]}`))
	if err != nil || !slices.Equal(resp.Dropped, []string{"https://evil.example/cb"}) {
		t.Fatalf("%+v, %v", resp, err)
	}
	c, err := r.Find(t.Context(), somebody, resp.ClientID)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Redirect("https://evil.example/cb"); err == nil {
		t.Error("the client may use a dropped URI")
	}
}

// TestPolicyHoldsLater: when the operator withdraws an addition, clients that have
// registered with it cannot use it any more.
func TestPolicyHoldsLater(t *testing.T) {
	const uri = "https://tools.example/oauth/7"
	r, store, c := newRegistry(t, nil, Options{RedirectURIs: []string{"https://tools.example/oauth/*"}})
	resp, err := r.Register(t.Context(), somebody, []byte(`{"redirect_uris": ["`+uri+`", "http://localhost/cb"]}`))
	if err != nil || len(resp.Dropped) > 0 {
		t.Fatalf("%+v, %v", resp, err)
	}
	after, err := New(Options{Store: store, Fetch: newWeb(t).fetcher(), Now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	for r, ok := range map[*Registry]bool{r: true, after: false} {
		client, err := r.Find(t.Context(), somebody, resp.ClientID)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := client.Redirect(uri); (err == nil) != ok {
			t.Errorf("%v, want %v", err, ok)
		}
	}
}

// TestRegistrationIsOff: without registration there are no new clients, and old ones go on.
func TestRegistrationIsOff(t *testing.T) {
	r, store, c := newRegistry(t, nil, Options{})
	body := []byte(`{"redirect_uris": ["http://localhost/cb"]}`)
	resp, err := r.Register(t.Context(), somebody, body)
	if err != nil {
		t.Fatal(err)
	}
	off, err := New(Options{Store: store, Fetch: newWeb(t).fetcher(), Now: c.now, NoRegistration: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := off.Register(t.Context(), somebody, body); codeOf(t, err) != InvalidRequest {
		t.Errorf("%v", err)
	}
	if _, err := off.Find(t.Context(), somebody, resp.ClientID); err != nil {
		t.Errorf("%v", err)
	}
}

// TestRegistrationsExpire: an unfinished registration lives for a day, and a used one for 90
// days after its last use. An expired client is unknown even before its row is deleted.
func TestRegistrationsExpire(t *testing.T) {
	r, store, c := newRegistry(t, nil, Options{})
	register := func() string {
		t.Helper()
		resp, err := r.Register(t.Context(), somebody, []byte(`{"redirect_uris": ["http://localhost/cb"]}`))
		if err != nil {
			t.Fatal(err)
		}
		return resp.ClientID
	}
	unfinished, used := register(), register()
	use := func() {
		t.Helper()
		client, err := r.Find(t.Context(), somebody, used)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Used(t.Context(), client); err != nil {
			t.Fatal(err)
		}
	}
	known := func(id string, want bool) {
		t.Helper()
		_, err := r.Find(t.Context(), somebody, id)
		if (err == nil) != want || err != nil && codeOf(t, err) != InvalidClient {
			t.Errorf("%s: %v", id, err)
		}
	}
	expire := func(want int64) {
		t.Helper()
		if n, err := r.Expire(t.Context()); n != want || err != nil {
			t.Errorf("%d rows expired, want %d: %v", n, want, err)
		}
	}
	use()
	first := store.registrations[used].UsedAt
	c.advance(time.Hour)
	use()
	if again := store.registrations[used].UsedAt; !again.Equal(first) {
		t.Error("a second use within a day was written")
	}
	c.advance(KeepUnfinished - time.Hour - time.Second)
	known(unfinished, true)
	c.advance(time.Second)
	known(unfinished, false)
	c.advance(time.Second)
	expire(1)
	for range 3 {
		c.advance(80 * 24 * time.Hour)
		expire(0)
		use()
	}
	c.advance(KeepUnused)
	known(used, false)
	c.advance(time.Second)
	expire(1)
	if len(store.registrations) != 0 {
		t.Errorf("%d rows", len(store.registrations))
	}
}

// TestRateOfRegistrations: a network may register a number of clients at once, and later one
// in each interval. Others are not affected.
func TestRateOfRegistrations(t *testing.T) {
	r, _, c := newRegistry(t, nil, Options{})
	register := func(from string) error {
		_, err := r.Register(t.Context(), netip.MustParseAddr(from), []byte(`{"redirect_uris": ["http://localhost/cb"]}`))
		return err
	}
	for range registrationBurst {
		if err := register("2001:db8::1"); err != nil {
			t.Fatal(err)
		}
	}
	for from, want := range map[string]Code{"2001:db8::1": TooMany, "2001:db8::2": TooMany, "2001:db8:0:1::1": "", "192.0.2.1": ""} {
		if err := register(from); codeOf(t, err) != want {
			t.Errorf("%s: %v", from, err)
		}
	}
	c.advance(registrationEvery)
	for i, want := range []Code{"", TooMany} {
		if err := register("2001:db8::3"); codeOf(t, err) != want {
			t.Errorf("%d: %v", i, err)
		}
	}
}

// TestUnfinishedRegistrations: unfinished registrations are bounded by network and in all;
// used ones do not count. When the total is reached, those of more than an hour make room.
func TestUnfinishedRegistrations(t *testing.T) {
	r, store, c := newRegistry(t, nil, Options{})
	fill := func(n int, source string, created, used time.Time) {
		for range n {
			id := fmt.Sprint(registeredPrefix, "filler", len(store.registrations))
			store.registrations[id] = Registration{ID: id, Source: source, CreatedAt: created, UsedAt: used}
		}
	}
	register := func(want Code) {
		t.Helper()
		if _, err := r.Register(t.Context(), somebody, []byte(`{"redirect_uris": ["http://localhost/cb"]}`)); codeOf(t, err) != want {
			t.Errorf("%v, want %q", err, want)
		}
	}
	now := c.now()
	fill(maxUnfinishedBySource, somebody.String(), now, now)
	register("")
	fill(maxUnfinishedBySource-1, somebody.String(), now, time.Time{})
	register(TooMany)
	clear(store.registrations)
	fill(MaxUnfinished, "192.0.2.1", now, time.Time{})
	register(TooMany)
	c.advance(keepCrowded + time.Second)
	register("")
	if n := len(store.registrations); n != 1 {
		t.Errorf("%d rows", n)
	}
}
