package bridge

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/fareboxhq/farebox/internal/mcp"
)

// outcome is the end of one attempt to get a response.
type outcome uint8

const (
	answered  outcome = iota // there is a message for the client
	unsent                   // the server has not received the request
	lost                     // the server may have received the request, and no response came
	busy                     // an earlier attempt with the same key still runs at the gateway
	undecided                // the gateway could not decide about the call now, and did not run it
	noSession                // the server has ended the session, and did not run the call
	gone                     // the client no longer waits
)

// result is the end of one attempt.
type result struct {
	state   outcome
	message []byte
	verdict mcp.Verdict
	session string        // the Mcp-Session-Id of the response
	wait    time.Duration // the wait that the gateway asks for
	own     bool          // the message is the bridge's own
	err     error

	generation int // the session in which the request was sent
}

// reason returns the error of an attempt without a response.
func (r *result) reason() error {
	if r.err != nil {
		return r.err
	}
	return errors.New("there was no response")
}

// attempt sends a request, and waits for its response. If the token is refused, the
// request did not run, and is sent again with another token.
func (b *Bridge) attempt(c *call) result {
	c.tries++
	for n := 1; ; n++ {
		token, grant, err := b.token(c.ctx)
		if err != nil {
			return result{state: unsent, err: err}
		}
		if c.tries > 1 && c.doubt && c.charged && grant != c.grant {
			// The gateway knows the keys of each payer for themselves, and may not know
			// this one.
			return b.own(c, http.StatusUnauthorized, "an attempt of this call broke off, and somebody has signed in anew since, so it is not repeated."+c.chargeText(), nil)
		}
		c.grant = grant
		r, refused := b.try(c, token)
		if refused == nil {
			return r
		}
		switch err := b.tokens.SignIn(c.ctx, token, refused.challenge); {
		case c.ctx.Err() != nil:
			return result{state: gone}
		case errors.Is(err, errFixed), n == maxTokens && err == nil:
			return r
		case err != nil && refused.scope:
			b.notes.say("%v", err)
			return r
		case err != nil:
			b.notes.say("%v", err)
			return b.own(c, http.StatusUnauthorized, "There is no token for the server at "+shown(b.o.URL)+": "+err.Error()+c.afterLoss(), nil)
		}
	}
}

// try sends a request once. If the server asks for another token, refused is not nil.
func (b *Bridge) try(c *call, token string) (r result, refused *tokenRefusal) {
	seen := b.session.now()
	resp, sent, err := b.post(c.ctx, c.m, c.body, seen, token, c.key, c.wrote)
	switch {
	case c.ctx.Err() != nil:
		if err == nil {
			_ = resp.Body.Close()
		}
		return result{state: gone}, nil
	case err != nil && sent:
		return result{state: lost, err: err}, nil
	case err != nil:
		return result{state: unsent, err: err}, nil
	}
	defer resp.Body.Close()
	if expiry := resp.Header.Get("X-Farebox-Key-Expires"); expiry != "" && b.o.Token != "" {
		b.expiry.Do(func() { b.notes.say("the token expires soon: %s", expiry) })
	}
	r = b.receive(c, resp, seen)
	if c.ctx.Err() != nil && r.state != answered {
		return result{state: gone}, nil
	}
	r.session, r.generation = resp.Header.Get(sessionHeader), seen.generation
	return r, refusalIn(resp)
}

// receive reads the response to a request.
func (b *Bridge) receive(c *call, resp *http.Response, seen *state) result {
	if resp.StatusCode == http.StatusOK && isStream(resp) {
		r, at := b.readStream(c, resp.Body, cursor{})
		if r.state == lost && c.era == mcp.EraSession && at.id != "" && !c.handshake {
			r = b.resume(c, seen, at)
		}
		return b.judge(c, r)
	}
	limit := int64(MaxMessage)
	if resp.StatusCode >= 300 {
		limit = maxErrorBody
	}
	body, err := readAll(resp.Body, limit)
	switch {
	case errors.Is(err, errTooLong) && resp.StatusCode < 300:
		return b.failed(c, "the server's response cannot be passed on: "+err.Error())
	case err != nil && !errors.Is(err, errTooLong): // the beginning of a long page with an error is enough
		return result{state: lost, err: fmt.Errorf("the response broke off: %w", err)}
	}
	scanner := mcp.NewScanner(c.m.ID)
	scanner.Write(body)
	r := result{state: answered, message: body, verdict: scanner.End()}
	if resp.StatusCode/100 == 2 {
		if r.verdict.Class != mcp.ClassAnswer {
			return b.unmatched(c, resp.StatusCode, body)
		}
		return b.judge(c, r)
	}
	return b.refused(c, resp, r, seen)
}

// unmatched handles a successful status without the response to the request.
func (b *Bridge) unmatched(c *call, status int, body []byte) result {
	return b.failed(c, fmt.Sprintf("the server answered with the status %d, but not with the response to this request: %s", status, clip(body)))
}

// refused handles a response with another status than success.
func (b *Bridge) refused(c *call, resp *http.Response, r result, seen *state) result {
	status, body := resp.StatusCode, r.message
	matched := r.verdict.Class == mcp.ClassAnswer
	switch {
	case status == http.StatusUnauthorized:
		return b.unauthorized(c, body)
	case c.era == mcp.EraSession && !c.handshake && b.isLost(status, body, seen):
		return result{state: noSession, err: fmt.Errorf("the server has ended the session (status %d)", status)}
	case matched:
		return b.judge(c, r)
	case status >= http.StatusInternalServerError, status == http.StatusRequestTimeout:
		// A proxy before the gateway answers like this. Its connection to the gateway
		// may have broken, or its patience ended, after the gateway received the request.
		wait, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
		return result{state: lost, wait: min(time.Duration(wait)*time.Second, maxDelay), err: fmt.Errorf("status %s: %s", resp.Status, clip(body))}
	case status/100 == 3:
		return b.failed(c, fmt.Sprintf("the server redirects to %s: connect to that address, if you trust it with your token", printable(resp.Header.Get("Location"))))
	}
	var rpc struct {
		Error *struct {
			Code    int    `json:"code"`
			Message string `json:"message"`
		} `json:"error"`
	}
	if json.Unmarshal(body, &rpc) == nil && rpc.Error != nil && rpc.Error.Code != 0 {
		return b.own(c, rpc.Error.Code, rpc.Error.Message+c.afterLoss(), nil)
	}
	code := status
	if status == http.StatusNotFound || status == http.StatusMethodNotAllowed || status == http.StatusBadRequest && c.m.Method == "server/discover" {
		code = -32601 // clients take it for a server of an older version
	}
	return b.own(c, code, fmt.Sprintf("the server at %s answered %s: %s", shown(b.o.URL), resp.Status, clip(body))+c.afterLoss(), nil)
}

// unauthorized explains a refused token to the client and to people.
func (b *Bridge) unauthorized(c *call, body []byte) result {
	stamps := stampsOf(body)
	reason := "The server refused the token"
	switch {
	case b.o.Token == "":
		reason = "The server requires a token"
	case stamps.code() == "TOKEN_EXPIRED":
		reason = "The token has expired"
	}
	text := reason + ". Put a valid one into the environment variable AGENT_TOKEN, or into the file that --token-file names, and start the client again."
	if !b.signsIn() {
		b.notes.say("%s", text)
	}
	text += c.afterLoss()
	var meta []mcp.Field
	if stamps.rawError != nil {
		meta = []mcp.Field{{Name: "dev.farebox/error", Value: stamps.rawError}}
	}
	return b.own(c, http.StatusUnauthorized, text, meta)
}

// own returns a JSON-RPC error of the bridge's own as the response.
func (b *Bridge) own(c *call, code int, text string, meta []mcp.Field) result {
	return result{
		state: answered, own: true, message: mcp.AppendError(nil, c.m.ID, code, b.notes.hide(text), meta),
		verdict: mcp.Verdict{Class: mcp.ClassAnswer, Outcome: mcp.OutcomeError},
	}
}

// failed returns a JSON-RPC error for a response that cannot be used. The call may have
// been charged.
func (b *Bridge) failed(c *call, text string) result {
	c.doubt = true
	return b.own(c, http.StatusBadGateway, text+"."+c.chargeText(), nil)
}

// judge finds the answers of the gateway that are no end of the call.
func (b *Bridge) judge(c *call, r result) result {
	if r.state != answered || !bytes.Contains(r.message, []byte("dev.farebox/error")) {
		return r
	}
	if r.verdict.Outcome == mcp.OutcomeResult && len(r.message) > longResponse {
		return r // the server may have made the error up
	}
	stamps := stampsOf(r.message)
	switch {
	case stamps.Error == nil || stamps.Error.Charge != "":
	case stamps.code() == "IDEMPOTENCY_IN_FLIGHT":
		r.state = busy
	case stamps.code() == "STORE_UNAVAILABLE", c.doubt && stamps.code() == "RATE_LIMITED":
		r.state = undecided
	}
	if r.state != answered {
		r.wait = time.Duration(min(stamps.Error.RetryAfterMS, maxDelay.Milliseconds())) * time.Millisecond
		r.err = errors.New("the gateway answers " + stamps.code())
	}
	return r
}

// clip returns the beginning of a text for people.
func clip(text []byte) string {
	const most = 300
	s := strings.ToValidUTF8(string(text[:min(len(text), most)]), "")
	if len(text) > most {
		s += "…"
	}
	return printable(strings.TrimSpace(s))
}
