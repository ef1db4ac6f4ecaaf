package caddymodule

import (
	"encoding/json"
	"errors"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/fareboxhq/farebox/internal/keys"
)

// Clients whose key is refused look for an authorization server, and where they
// find none they try to register with one all the same: at /register, beside the
// MCP endpoint or at the root of its host (MCP 2025-03-26, authorization). What
// they are told there is what their user sees, in place of the 401 that led them
// there; without an answer in its form they show a stack trace.

// isRegistration reports whether a request could be a client's that registers
// (RFC 7591, 3.1). A form of a web page is not of that type.
func isRegistration(r *http.Request) bool {
	if r.Method != http.MethodPost || !strings.HasSuffix(r.URL.Path, "/register") {
		return false
	}
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return err == nil && kind == "application/json"
}

// registrationRefusal is the answer to a client that cannot register (RFC 7591,
// 3.2.2).
type registrationRefusal struct {
	Code        string `json:"error"`
	Description string `json:"error_description"`
}

// refuseRegistration tells a client, and its user, what there is in place of an
// authorization server. The code is one after which clients give up: after
// invalid_client some forget what they know and begin anew.
func refuseRegistration(w http.ResponseWriter, secrets *keys.Format, named, contact string) {
	whom := "whoever runs this gateway"
	if contact != "" && !strings.ContainsFunc(contact, func(c rune) bool { return c < ' ' || c > '~' || c == '"' || c == '\\' }) {
		whom = contact
	}
	header := "Authorization: Bearer " + secrets.Prefix(keys.Agent, keys.Live) + "..."
	if named != "" {
		header += ", or as the header " + named
	}
	// Of a description, RFC 6749, 5.2, has no quotes and no letters beyond ASCII.
	body, err := json.Marshal(registrationRefusal{"access_denied", "This gateway takes a key and has no OAuth sign-in. " +
		"The request before came without a key, or with one that is not valid here. Send a valid key as the header " + header +
		"; ask " + whom + " for one"})
	if err != nil {
		panic(err) // strings always encode
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusBadRequest)
	_, _ = w.Write(body) // if the client has left, there is nobody to tell
}

// serveRegistration lets the rest of the site answer a registration, and refuses
// it where nothing there does: an authorization server, or a page of the
// operator's own, goes first.
func (m *Metadata) serveRegistration(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if slices.ContainsFunc(m.app.resources(), func(known *resource) bool { return known.isAt(r.Host) }) {
		return next.ServeHTTP(w, r) // clients have been told where to register
	}
	recorder := caddyhttp.NewResponseRecorder(w, nil, nil)
	err := next.ServeHTTP(recorder, r)
	if recorder.Status() != 0 {
		return err
	}
	var handled caddyhttp.HandlerError
	if err != nil && !(errors.As(err, &handled) && (handled.StatusCode == http.StatusNotFound || handled.StatusCode == http.StatusMethodNotAllowed)) {
		return err
	}
	refuseRegistration(w, m.app.settings.Secrets, "", m.app.Contact)
	return nil
}
