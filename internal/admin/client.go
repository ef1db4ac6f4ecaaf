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
	status, answer, err := c.send(ctx, method, path, body)
	if err == nil && status == http.StatusUnauthorized && c.Token != nil && c.bearer == "" {
		if c.bearer, err = c.Token(); err != nil {
			return nil, err
		}
		status, answer, err = c.send(ctx, method, path, body)
	}
	if err != nil {
		return nil, err
	}
	if status < 200 || status > 299 {
		var p Problem
		if json.Unmarshal(answer, &p) != nil || p.Message == "" {
			return nil, fmt.Errorf("the server answered %d without saying why: does its config have a farebox site or option?", status)
		}
		return nil, &Error{p.Code, p.Message}
	}
	if !json.Valid(answer) {
		return nil, fmt.Errorf("what answers at %s is not Caddy's admin endpoint", c.Host)
	}
	return answer, nil
}

func (c *Client) send(ctx context.Context, method, path string, body any) (int, []byte, error) {
	var content io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return 0, nil, err
		}
		content = bytes.NewReader(text)
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://"+c.Host+Path+path, content)
	if err != nil {
		return 0, nil, err
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if c.bearer != "" {
		r.Header.Set("Authorization", "Bearer "+c.bearer)
	}
	resp, err := c.HTTP.Do(r)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err == nil && len(answer) > maxAnswer {
		err = errors.New("the answer is too long")
	}
	return resp.StatusCode, answer, err
}
