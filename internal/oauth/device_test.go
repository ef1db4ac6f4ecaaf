package oauth_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/oauth"
)

// device begins the flow of a device.
func (w *world) device() oauth.Device {
	w.Helper()
	d, err := w.BeginDevice(w.Context(), oauth.Authorization{Client: client.ID, Server: client.Server, Scopes: []string{"read"}, ClientName: "TV", Host: "tv.example"})
	w.ok(err)
	w.secret(d.DeviceCode, d.UserCode, strings.ReplaceAll(d.UserCode, "-", ""))
	return d
}

// TestDeviceGetsTokens: a device waits until a person has entered its user code, and then
// gets tokens once. A second use of the device code revokes the grant.
func TestDeviceGetsTokens(t *testing.T) {
	w := newWorld(t)
	d := w.device()
	if !regexp.MustCompile(`^[BCDFGHJKLMNPQRSTVWXZ]{4}-[BCDFGHJKLMNPQRSTVWXZ]{4}$`).MatchString(d.UserCode) {
		t.Errorf("the user code is %q", d.UserCode)
	}
	_, err := w.PollDevice(t.Context(), client, d.DeviceCode, lives)
	w.refused(err, oauth.Pending)
	g := w.grantOfPerson()
	w.ok(w.AnswerDevice(t.Context(), d.UserCode, g.ID, []string{"read"}))
	tokens, err := w.PollDevice(t.Context(), client, d.DeviceCode, lives)
	w.ok(err)
	w.secret(tokens.Access, tokens.Refresh)
	k, err := w.lookup(tokens.Access)
	w.ok(err)
	if !slices.Equal(k.Scopes, []string{"read"}) {
		t.Errorf("the token is %+v", k)
	}
	tokens = w.refresh(tokens.Refresh)
	_, err = w.PollDevice(t.Context(), client, d.DeviceCode, lives)
	w.refused(err, oauth.InvalidGrant)
	w.revoked(&g, tokens)
}

// TestDeviceSlowsDown: a device that asks more often than every PollEvery gets the code
// SlowDown, and each early request begins the pause anew.
func TestDeviceSlowsDown(t *testing.T) {
	w := newWorld(t)
	d := w.device()
	for _, c := range []struct {
		pause time.Duration
		want  oauth.Code
	}{{0, oauth.Pending}, {oauth.PollEvery - 1000, oauth.SlowDown}, {oauth.PollEvery - 1000, oauth.SlowDown}, {oauth.PollEvery, oauth.Pending}} {
		w.advance(c.pause)
		_, err := w.PollDevice(t.Context(), client, d.DeviceCode, lives)
		w.refused(err, c.want)
	}
}

// TestDeviceIsRefused: a device that a person refuses gets no tokens, and its code cannot
// be answered again.
func TestDeviceIsRefused(t *testing.T) {
	w := newWorld(t)
	d, g := w.device(), w.grantOfPerson()
	w.ok(w.AnswerDevice(t.Context(), d.UserCode, "", nil))
	w.refused(w.AnswerDevice(t.Context(), d.UserCode, g.ID, []string{"read"}), oauth.ExpiredToken)
	_, err := w.DeviceOf(t.Context(), d.UserCode)
	w.refused(err, oauth.ExpiredToken)
	for range 2 {
		_, err := w.PollDevice(t.Context(), client, d.DeviceCode, lives)
		w.refused(err, oauth.AccessDenied)
	}
}

// TestDeviceExpires: after DeviceLife nobody can answer a device, and the device gets no
// tokens, even if it was answered in time.
func TestDeviceExpires(t *testing.T) {
	w := newWorld(t)
	g := w.grantOfPerson()
	late, answered := w.device(), w.device()
	w.advance(oauth.DeviceLife - time.Microsecond)
	w.ok(w.AnswerDevice(t.Context(), answered.UserCode, g.ID, []string{"read"}))
	w.advance(time.Microsecond)
	w.refused(w.AnswerDevice(t.Context(), late.UserCode, g.ID, []string{"read"}), oauth.ExpiredToken)
	for _, d := range []oauth.Device{late, answered} {
		_, err := w.DeviceOf(t.Context(), d.UserCode)
		w.refused(err, oauth.ExpiredToken)
		_, err = w.PollDevice(t.Context(), client, d.DeviceCode, lives)
		w.refused(err, oauth.ExpiredToken)
	}
}

// TestUserCodeAsTyped: a user code is found in any case, with or without dashes and spaces.
// Another code is not found, and neither are codes of other flows.
func TestUserCodeAsTyped(t *testing.T) {
	w := newWorld(t)
	d := w.device()
	bare := strings.ReplaceAll(d.UserCode, "-", "")
	for _, typed := range []string{d.UserCode, bare, strings.ToLower(d.UserCode), " " + bare + " ", strings.Join(strings.Split(bare, ""), " "), bare[:2] + "--" + bare[2:]} {
		a, err := w.DeviceOf(t.Context(), typed)
		if err != nil || a.Client != client.ID || a.ClientName != "TV" || a.Host != "tv.example" || !slices.Equal(a.Scopes, []string{"read"}) {
			t.Errorf("%q: %+v, %v", typed, a, err)
		}
	}
	g := w.grantOfPerson()
	for _, typed := range []string{"", "-", bare[:7], bare + "B", d.DeviceCode, w.code(&g), "\x00"} {
		_, err := w.DeviceOf(t.Context(), typed)
		w.refused(err, oauth.ExpiredToken)
		w.refused(w.AnswerDevice(t.Context(), typed, g.ID, nil), oauth.ExpiredToken)
	}
}

// TestDeviceCodeIsBound: a device code works for its client at its issuer. It is no
// authorization code, nor the reverse. A device is given only a grant of its client for
// its server, with no more than the grant's scopes.
func TestDeviceCodeIsBound(t *testing.T) {
	w := newWorld(t)
	d, g := w.device(), w.grantOfPerson()
	for name, change := range map[string]func(*oauth.Consent){"client": func(c *oauth.Consent) { c.Client = "other" }, "server": func(c *oauth.Consent) { c.Server = "maps" }} {
		c := w.personal()
		change(&c)
		foreign, err := w.Approve(t.Context(), operator, c)
		w.ok(err)
		if err := w.AnswerDevice(t.Context(), d.UserCode, foreign.ID, nil); oauth.CodeOf(err) != oauth.InvalidRequest {
			t.Errorf("the grant of another %s: %v", name, err)
		}
	}
	w.refused(w.AnswerDevice(t.Context(), d.UserCode, g.ID, []string{"all"}), oauth.InvalidRequest)
	w.ok(w.AnswerDevice(t.Context(), d.UserCode, g.ID, []string{"read"}))
	other, elsewhere := client, client
	other.ID, elsewhere.Server = "other", "maps"
	for _, c := range []oauth.Client{other, elsewhere} {
		_, err := w.PollDevice(t.Context(), c, d.DeviceCode, lives)
		w.refused(err, oauth.InvalidGrant)
	}
	_, err := w.Exchange(t.Context(), client, d.DeviceCode, "", "", lives)
	w.refused(err, oauth.InvalidGrant)
	_, err = w.PollDevice(t.Context(), client, w.code(&g), lives)
	w.refused(err, oauth.InvalidGrant)
	_, err = w.PollDevice(t.Context(), client, d.DeviceCode, lives)
	w.ok(err)
}

// TestDevicesAreBounded: when too many devices wait for a person, no other one can begin.
// Devices that were answered, refused or have expired leave their places.
func TestDevicesAreBounded(t *testing.T) {
	w := newWorld(t)
	w.ok(w.Store().Change(t.Context(), func(tx oauth.Tx) error {
		for i := range oauth.MaxDevices {
			a := oauth.Authorization{Client: client.ID, Server: client.Server, UserCode: oauth.Digest{1, byte(i), byte(i >> 8)}, ExpiresAt: w.now().Add(time.Minute)}
			if err := tx.InsertAuthorization(&a, oauth.Digest{2, byte(i), byte(i >> 8)}); err != nil {
				return err
			}
		}
		return nil
	}))
	_, err := w.BeginDevice(t.Context(), oauth.Authorization{Client: client.ID, Server: client.Server})
	w.refused(err, oauth.Unavailable)
	g := w.grantOfPerson()
	w.alive(w.tokens(&g).Access) // codes have no such bound
	w.advance(time.Minute)
	w.device()
}
