package ops

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/wire"
)

// Client performs operations at an admin endpoint. It is not safe for concurrent use.
type Client struct {
	// HTTP must connect to the admin endpoint, whatever host the URL of a request
	// names.
	HTTP *http.Client
	// Host is the host that requests name. An admin endpoint accepts only its own host.
	Host string
	// Token returns the bearer token. The client calls it once, when the endpoint first
	// asks for a token. Token may be nil.
	Token func() (string, error)

	bearer string
}

// maxResponse bounds a response in bytes.
const maxResponse = 64 << 20

// Do sends a request and returns the JSON of the response. path is an operation's path
// with its parameters filled in. A refusal is returned as an *admin.Error.
func (c *Client) Do(ctx context.Context, method, path string, body any) (json.RawMessage, error) {
	resp, err := c.open(ctx, method, path, body, "")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return c.whole(resp)
}

// Health returns the JSON of a HealthView, whether or not the process is ready.
func (c *Client) Health(ctx context.Context) (json.RawMessage, error) {
	resp, err := c.open(ctx, ShowHealth.Method, ShowHealth.Path, nil, "")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusServiceUnavailable && resp.Header.Get("Content-Type") != problemType {
		resp.StatusCode = http.StatusOK // a process that is not ready answers 503, which is not a refusal here
	}
	return c.whole(resp)
}

// whole reads a response that consists of one JSON value.
func (c *Client) whole(resp *http.Response) (json.RawMessage, error) {
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxResponse+1))
	if err == nil && len(answer) > maxResponse {
		err = errors.New("the answer is too long")
	}
	if err != nil {
		return nil, err
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		var p wire.Problem
		if json.Unmarshal(answer, &p) != nil || p.Code == "" {
			return nil, fmt.Errorf("the server answered %d without saying why: does its config have a farebox site or option?", resp.StatusCode)
		}
		return nil, refusal(&p)
	}
	if !json.Valid(answer) {
		return nil, fmt.Errorf("what answers at %s is not Caddy's admin endpoint", c.Host)
	}
	return answer, nil
}

// refusal returns a problem as an error. If package admin refused the request, the
// problem's message names the parameter. If the check of the request's form refused it,
// the message does not name the parameter; instead, the problem's Field has the
// parameter's place in the request, such as body.amount.
func refusal(p *wire.Problem) *admin.Error {
	message, field := p.Error(), p.Field
	if place, name, found := strings.Cut(p.Field, "."); found && slices.Contains(places, place) {
		message, field = name+": "+message, name
	}
	return &admin.Error{Code: admin.Code(p.Code), Message: message, Field: field}
}

// places are the parts of a request in which a parameter can be.
var places = []string{"body", "query", "path"}

// open sends a request. If the server asks for the token, open sends the request
// again with the token.
func (c *Client) open(ctx context.Context, method, path string, body any, accept string) (*http.Response, error) {
	resp, err := c.send(ctx, method, path, body, accept)
	if err != nil || resp.StatusCode != http.StatusUnauthorized || c.Token == nil || c.bearer != "" {
		return resp, err
	}
	_ = resp.Body.Close()
	if c.bearer, err = c.Token(); err != nil {
		return nil, err
	}
	return c.send(ctx, method, path, body, accept)
}

func (c *Client) send(ctx context.Context, method, path string, body any, accept string) (*http.Response, error) {
	var content io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		content = bytes.NewReader(text)
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://"+c.Host+AdminBase+"/"+strings.TrimPrefix(path, "/"), content)
	if err != nil {
		return nil, err
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if accept != "" {
		r.Header.Set("Accept", accept)
	}
	if c.bearer != "" {
		r.Header.Set("Authorization", "Bearer "+c.bearer)
	}
	return c.HTTP.Do(r)
}
