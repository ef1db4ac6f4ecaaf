package console

import (
	"net/http"
	"time"

	"github.com/fareboxhq/farebox/internal/people"
)

// The cookies of the console. The second one binds a ceremony to the browser that began
// it.
const (
	sessionCookie  = "farebox"
	ceremonyCookie = "farebox-ceremony"
)

func (c *Console) secure() bool { return c.o.Address.Scheme == "https" }

// cookieName returns the name under which browsers get a cookie. With the prefix
// __Host-, browsers accept the cookie only over TLS and from this host (RFC 6265bis,
// section 4.1.3.2). A console with plain HTTP, which is possible on loopback only,
// cannot use that prefix in all browsers.
func (c *Console) cookieName(name string) string {
	if c.secure() {
		return "__Host-" + name
	}
	return name
}

// readCookie returns the value of a cookie, or "". It also returns "" if the request
// has two cookies with the name, because one of them may come from an attacker.
func (v *visit) readCookie(name string) string {
	found := v.r.CookiesNamed(v.c.cookieName(name))
	if len(found) != 1 {
		return ""
	}
	return found[0].Value
}

// writeCookie sets a cookie with a lifetime. Zero means until the browser is closed. A
// negative lifetime deletes the cookie.
func (v *visit) writeCookie(name, value string, life time.Duration, sites http.SameSite) {
	http.SetCookie(v.w, &http.Cookie{
		Name: v.c.cookieName(name), Value: value, Path: "/", MaxAge: int(life / time.Second), Secure: v.c.secure(), HttpOnly: true, SameSite: sites,
	})
}

// setCookie sets the cookie with the token of a new session. The cookie has no
// lifetime of its own, because the store ends the session.
func (v *visit) setCookie(token string) {
	v.writeCookie(sessionCookie, token, 0, http.SameSiteLaxMode)
}

func (v *visit) dropCookie() { v.writeCookie(sessionCookie, "", -time.Second, http.SameSiteLaxMode) }

func (v *visit) setCeremony(secret string, sites http.SameSite) {
	v.writeCookie(ceremonyCookie, secret, people.CeremonyLife, sites)
}

func (v *visit) dropCeremony() { v.writeCookie(ceremonyCookie, "", -time.Second, http.SameSiteLaxMode) }
