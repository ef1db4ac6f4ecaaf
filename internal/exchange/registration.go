package exchange

import (
	"encoding/json"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/keys"
)

// A client with a refused key looks for an authorization server. If it finds none,
// it still tries to register with one: at /register, beside the MCP endpoint or at
// the root of its host (MCP 2025-03-26, authorization). Its user sees the response
// to the registration in place of the earlier 401. If that response does not have
// the expected form, the client shows a stack trace.

// IsRegistration reports whether a request could be a client's registration (RFC
// 7591, 3.1). A form on a web page cannot look like one, because it has another
// content type.
func IsRegistration(r *http.Request) bool {
	if r.Method != http.MethodPost || !strings.HasSuffix(r.URL.Path, "/register") {
		return false
	}
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return err == nil && kind == "application/json"
}

// registrationRefusal is the response to a client that cannot register (RFC 7591,
// 3.2.2).
type registrationRefusal struct {
	Code        string `json:"error"`
	Description string `json:"error_description"`
}

// RefuseRegistration explains to a client's user that the gateway takes a key: in
// the header Authorization or, if the parameter named is not "", in the header with
// that name. The error code access_denied makes clients give up. After
// invalid_client some would forget their state and begin anew.
func RefuseRegistration(w http.ResponseWriter, secrets *keys.Format, named, contact string) {
	ask := "whoever runs this gateway"
	if contact != "" && !strings.ContainsFunc(contact, func(c rune) bool { return c < ' ' || c > '~' || c == '"' || c == '\\' }) {
		ask = contact
	}
	header := "Authorization: Bearer " + secrets.Prefix(keys.Agent, keys.Live) + "..."
	if named != "" {
		header += ", or as the header " + named
	}
	// A description must be ASCII, without quotes and backslashes (RFC 6749, 5.2).
	body, err := json.Marshal(registrationRefusal{"access_denied", "This gateway takes a key and has no OAuth sign-in. " +
		"The request before came without a key, or with one that is not valid here. Send a valid key as the header " + header +
		"; ask " + ask + " for one"})
	if err != nil {
		panic(err) // strings always encode
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusBadRequest)
	_, _ = w.Write(body) // client gone; nothing useful to do with the error
}

// lostRegistration reports whether a refused request is a registration that was
// sent to the server's own path. The body of such a request was read and is not an
// MCP message.
func (x *Exchange) lostRegistration(r *gate.Refusal) bool {
	return x.stage == consumed && refusalForms[r.Code].status == http.StatusUnauthorized && x.site.Resource == nil && IsRegistration(x.r)
}

func (x *Exchange) refuseRegistration() {
	x.count("registration")
	x.head(x.w.Header())
	RefuseRegistration(x.w, x.site.Secrets, x.site.KeyHeader.name, x.site.Contact)
}
