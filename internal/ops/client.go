package ops

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/wire"
)

// Client performs operations at an admin endpoint. It is not safe for concurrent use.
type Client struct {
	// HTTP must reach the endpoint whatever host a request names.
	HTTP *http.Client
	// Host is the host of requests. An admin endpoint accepts only its own host.
	Host string
	// Token returns the bearer token. It is called only one time, after the first
	// refusal. May be nil.
	Token func() (string, error)

	bearer string
}

// maxResponse bounds a response in bytes.
const maxResponse = 64 << 20

// Do sends a request and returns the JSON of the response. The path is the path of
// an operation, with the parameters filled in. A refusal is returned as an
// *admin.Error.
func (c *Client) Do(ctx context.Context, method, path string, body any) (json.RawMessage, error) {
	resp, err := c.open(ctx, method, path, body, "")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
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

// refusal returns a problem as an error.
func refusal(p *wire.Problem) *admin.Error {
	message := p.Error()
	if _, field, found := strings.Cut(p.Field, "."); found { // without the prefix "body", "query" or "path"
		message = field + ": " + message
	}
	return &admin.Error{Code: admin.Code(p.Code), Message: message}
}

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
