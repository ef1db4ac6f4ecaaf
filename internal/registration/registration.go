// Package registration answers OAuth clients that try to register at a gateway that takes
// keys. A client with a refused key looks for an authorization server. If the client finds
// no such server, it still tries to register: at /register, beside the MCP endpoint or at
// the root of its host (MCP 2025-03-26, authorization). Its user sees the response to the
// registration in place of the earlier 401. If that response does not have the expected
// form, the client shows a stack trace.
package registration

import (
	"encoding/json"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"github.com/fareboxhq/farebox/internal/keys"
)

// Asks reports whether a request could be a client's registration (RFC 7591,
// 3.1). A form on a web page cannot send such a request, because forms have other
// content types.
func Asks(r *http.Request) bool {
	if r.Method != http.MethodPost || !strings.HasSuffix(r.URL.Path, "/register") {
		return false
	}
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return err == nil && kind == "application/json"
}

// refusal is the response to a client that cannot register (RFC 7591,
// 3.2.2).
type refusal struct {
	Code        string `json:"error"`
	Description string `json:"error_description"`
}

// Refuse explains to a client's user that the gateway takes a key. named is
// the name of the header for keys; "" means Authorization. The error code access_denied
// makes clients give up. After invalid_client some would forget their state and begin
// anew.
func Refuse(w http.ResponseWriter, secrets *keys.Format, named, contact string) {
	ask := "whoever runs this gateway"
	if contact != "" && !strings.ContainsFunc(contact, func(c rune) bool { return c < ' ' || c > '~' || c == '"' || c == '\\' }) {
		ask = contact
	}
	header := "Authorization: Bearer " + secrets.Prefix(keys.Agent, keys.Live) + "..."
	if named != "" {
		header += ", or as the header " + named
	}
	// A description must be ASCII, without quotes and backslashes (RFC 6749, 5.2).
	body, err := json.Marshal(refusal{"access_denied", "This gateway takes a key and has no OAuth sign-in. " +
		"The request before came without a key, or with one that is not valid here. Send a valid key as the header " + header +
		"; ask " + ask + " for one"})
	if err != nil {
		panic(err) // cannot happen, because strings always encode
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusBadRequest)
	_, _ = w.Write(body) // fails only if the client has left
}
