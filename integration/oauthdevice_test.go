package integration

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// TestOAuthDeviceIsAnsweredOnce checks that a device gets one grant, although its code was
// entered at two pages: the second decision is refused, and leaves no grant that could be
// used.
func TestOAuthDeviceIsAnsweredOnce(t *testing.T) {
	t.Parallel()
	a := startIssuers(t)
	c := &rawClient{t: t, issuer: a.weather}
	resp, text := c.send("POST", a.weather+"/register", "application/json",
		`{"client_name":"Box","token_endpoint_auth_method":"none","grant_types":["urn:ietf:params:oauth:grant-type:device_code"],"redirect_uris":["http://127.0.0.1:1/callback"]}`)
	var registered struct {
		ID string `json:"client_id"`
	}
	if err := json.Unmarshal([]byte(text), &registered); err != nil || resp.StatusCode != http.StatusCreated {
		t.Fatalf("%s %s", resp.Status, text)
	}
	c.id = registered.ID
	var device struct {
		UserCode string `json:"user_code"`
	}
	resp, text = c.send("POST", a.weather+"/device_authorization", "application/x-www-form-urlencoded", url.Values{"client_id": {c.id}, "scope": {"cities.read"}}.Encode())
	if err := json.Unmarshal([]byte(text), &device); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s %s", resp.Status, text)
	}
	decide := func(b *browser) page {
		p := b.submit(b.open(a.weather+"/device"), map[string]string{"user_code": device.UserCode})
		return b.submit(p, map[string]string{"key": a.key, "step": "key"})
	}
	first, second := newBrowser(t), newBrowser(t)
	one, two := decide(first), decide(second)
	if p := first.submit(one, map[string]string{"step": "allow"}); p.status != http.StatusOK || !strings.Contains(p.text, "The device is connected") {
		t.Fatalf("%d %s", p.status, p.text)
	}
	if p := second.submit(two, map[string]string{"step": "allow"}); p.status != http.StatusUnprocessableEntity {
		t.Errorf("the second decision: %d %s", p.status, p.text)
	}
	var grants []struct {
		ID    string
		State string
	}
	a.CLI(t, &grants, "grant", "list", "--account", "agent")
	live := 0
	for _, g := range grants {
		if g.State == "live" {
			live++
		}
	}
	if live != 1 {
		t.Errorf("%d live grants: %+v", live, grants)
	}
}
