package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// Client speaks to a Handler. It is not safe for concurrent use.
type Client struct {
	// HTTP reaches the handler, whatever host the request names.
	HTTP *http.Client
	// Host is named in requests: an admin endpoint accepts only its own.
	Host string
	// Token returns the bearer token, asked for once, after a first refusal.
	// May be nil.
	Token func() (string, error)

	bearer string
}

// maxAnswer bounds an answer in bytes.
const maxAnswer = 64 << 20

// Do sends a request and returns the JSON of its answer. What the server
// refuses is an *Error.
func (c *Client) Do(ctx context.Context, method, path string, body any) (json.RawMessage, error) {
	resp, err := c.open(ctx, method, path, body, "")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return c.whole(resp)
}

// whole reads an answer that is one JSON value.
func (c *Client) whole(resp *http.Response) (json.RawMessage, error) {
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err == nil && len(answer) > maxAnswer {
		err = errors.New("the answer is too long")
	}
	if err != nil {
		return nil, err
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		var p Problem
		if json.Unmarshal(answer, &p) != nil || p.Message == "" {
			return nil, fmt.Errorf("the server answered %d without saying why: does its config have a farebox site or option?", resp.StatusCode)
		}
		return nil, &Error{p.Code, p.Message}
	}
	if !json.Valid(answer) {
		return nil, fmt.Errorf("what answers at %s is not Caddy's admin endpoint", c.Host)
	}
	return answer, nil
}

// open sends a request, and once more with the token if it is asked for.
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
	r, err := http.NewRequestWithContext(ctx, method, "http://"+c.Host+Path+path, content)
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
