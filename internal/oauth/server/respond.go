package server

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/oauth"
	"github.com/fareboxhq/farebox/internal/oauth/client"
)

// maxBody bounds the body of a request in bytes.
const maxBody = 64 << 10

// problem is the body of a refusal (RFC 6749, section 5.2).
type problem struct {
	Error       string `json:"error"`
	Description string `json:"error_description,omitempty"`
}

// statuses are the statuses of errors that are not 400.
var statuses = map[oauth.Code]int{
	oauth.InvalidClient: http.StatusUnauthorized,
	oauth.ServerError:   http.StatusInternalServerError,
	oauth.Unavailable:   http.StatusServiceUnavailable,
}

// report writes an error as JSON.
func (x *exchange) report(err error) {
	if e, ok := errors.AsType[*client.Error](err); ok {
		if e.Wait > 0 {
			x.retryAfter(e.Wait)
		}
		if e.Cause != nil {
			x.o.Logger.Warn("an OAuth client could not be judged", "server", x.issuer.Server, "error", e.Cause)
		}
		x.fail(e.Status(), oauth.Code(e.Code), e.Reason)
		return
	}
	if e, ok := errors.AsType[*oauth.Error](err); ok {
		x.fail(cmp.Or(statuses[e.Code], http.StatusBadRequest), e.Code, e.Description)
		return
	}
	if errors.Is(err, gate.ErrFlood) {
		x.retryAfter(time.Minute)
		x.fail(http.StatusTooManyRequests, oauth.Unavailable, "too many wrong keys from this address: try again later")
		return
	}
	if !errors.Is(err, ledger.ErrUnavailable) && x.r.Context().Err() == nil {
		x.o.Logger.Error("an OAuth request failed", "server", x.issuer.Server, "path", x.r.URL.Path, "error", err)
	}
	x.retryAfter(5 * time.Second)
	x.fail(http.StatusServiceUnavailable, oauth.Unavailable, "the request cannot be served now: try again")
}

func (x *exchange) retryAfter(wait time.Duration) {
	x.w.Header().Set("Retry-After", strconv.Itoa(max(1, int((wait+time.Second-1)/time.Second))))
}

// fail writes a refusal.
func (x *exchange) fail(status int, code oauth.Code, description string) {
	if status == http.StatusUnauthorized {
		// RFC 6749, section 5.2, wants the scheme that the client used. Only Basic can be
		// used in the header.
		x.w.Header().Set("WWW-Authenticate", `Basic realm="`+x.issuer.Server+`"`)
	}
	x.json(status, problem{string(code), description})
}

// json writes a response that no cache stores.
func (x *exchange) json(status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		status, body = http.StatusInternalServerError, []byte(`{"error":"server_error"}`)
	}
	h := x.w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Cache-Control", "no-store")
	h.Set("Pragma", "no-cache") // RFC 6749, section 5.1
	h.Set("X-Content-Type-Options", "nosniff")
	x.w.WriteHeader(status)
	_, _ = x.w.Write(body) // fails only if the client has left
}

// form reads the parameters in the body of a request. A parameter must not be there twice
// (RFC 6749, section 3.1), except resource.
func (x *exchange) form() (url.Values, error) {
	kind, _, err := mime.ParseMediaType(x.r.Header.Get("Content-Type"))
	if err != nil || kind != "application/x-www-form-urlencoded" {
		return nil, oauth.Refuse(oauth.InvalidRequest, "want a body of the type application/x-www-form-urlencoded")
	}
	body, err := x.body()
	if err != nil {
		return nil, err
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, oauth.Refuse(oauth.InvalidRequest, "the body is not in the form application/x-www-form-urlencoded")
	}
	return form, once(form)
}

// body reads the body of a request.
func (x *exchange) body() ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(x.w, x.r.Body, maxBody))
	if err != nil {
		return nil, oauth.Refuse(oauth.InvalidRequest, "the body cannot be read, or has more than %d bytes", maxBody)
	}
	return body, nil
}

// once returns an error if a parameter is there twice.
func once(form url.Values) error {
	for name, values := range form {
		if len(values) > 1 && name != "resource" {
			return oauth.Refuse(oauth.InvalidRequest, "the parameter %s is there twice", printable(name))
		}
	}
	return nil
}

// printable returns a text of a request for an error_description.
func printable(text string) string {
	if len(text) > 40 {
		text = text[:40]
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || r == '"' || r == '\\' {
			return '?'
		}
		return r
	}, text)
}

// redirect sends the browser back to the client, with the parameters in the query of its
// redirect URI (RFC 6749, section 4.1.2; RFC 9207). The status is 303, so that the browser
// repeats no form there (RFC 9700, section 4.12).
func (x *exchange) redirect(uri, state string, values url.Values) {
	x.w.Header().Set("Cache-Control", "no-store")
	x.w.Header().Set("Referrer-Policy", "no-referrer")
	x.w.Header().Set("Location", x.issuer.answerTo(uri, state, values))
	x.w.WriteHeader(http.StatusSeeOther)
}

// answerTo returns the redirect URI with the parameters of a response, the client's state
// and the issuer (RFC 9207).
func (i *Issuer) answerTo(uri, state string, values url.Values) string {
	if state != "" {
		values.Set("state", state)
	}
	values.Set("iss", i.URL.String())
	return withQuery(uri, values)
}

func withQuery(uri string, values url.Values) string {
	separator := "?"
	if strings.Contains(uri, "?") {
		separator = "&"
		if strings.HasSuffix(uri, "?") || strings.HasSuffix(uri, "&") {
			separator = ""
		}
	}
	return fmt.Sprint(uri, separator, values.Encode())
}
