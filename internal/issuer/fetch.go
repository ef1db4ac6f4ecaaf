package issuer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/fareboxhq/farebox/internal/weburl"
)

// Bounds of requests to an issuer.
const (
	fetchTime    = 5 * time.Second // for the keys with the metadata, or for one introspection
	maxBody      = 64 << 10        // bytes of a response
	maxRedirects = 3
)

// newClient returns the client for requests to an issuer.
func newClient(transport http.RoundTripper) *http.Client {
	if transport == nil {
		transport = http.DefaultTransport
	}
	return &http.Client{Transport: transport, CheckRedirect: checkRedirect}
}

// checkRedirect allows few redirects, at the same host, and none of a request with a
// secret.
func checkRedirect(r *http.Request, via []*http.Request) error {
	first := via[0]
	switch {
	case first.Method != http.MethodGet:
		return http.ErrUseLastResponse
	case len(via) > maxRedirects:
		return errors.New("it redirects too often")
	case r.URL.Scheme != first.URL.Scheme || r.URL.Host != first.URL.Host:
		return errors.New("it redirects to another host")
	}
	return nil
}

// statusError is the error for a response with another status than 200.
type statusError int

func (e statusError) Error() string { return "it answered with the status " + strconv.Itoa(int(e)) }

// get reads a JSON document.
func (s *Source) get(ctx context.Context, address string) ([]byte, http.Header, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, nil, err
	}
	return s.send(r)
}

// send sends a request and reads the JSON object in its response.
func (s *Source) send(r *http.Request) ([]byte, http.Header, error) {
	r.Header.Set("Accept", "application/json")
	r.Header.Set("User-Agent", "Farebox")
	response, err := s.client.Do(r)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", r.URL.Host, weburl.Cause(err))
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, nil, fmt.Errorf("%s%s: %w", r.URL.Host, r.URL.Path, statusError(response.StatusCode))
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxBody+1))
	switch {
	case err != nil:
		return nil, nil, fmt.Errorf("%s%s: %w", r.URL.Host, r.URL.Path, err)
	case len(body) > maxBody:
		return nil, nil, fmt.Errorf("%s%s: the response has more than %d bytes", r.URL.Host, r.URL.Path, maxBody)
	case !isObject(body):
		return nil, nil, fmt.Errorf("%s%s: the response is not a JSON object, or a member of it is there twice", r.URL.Host, r.URL.Path)
	}
	return body, response.Header, nil
}

// isObject reports whether the text is one JSON object, in which no object has a member
// twice.
func isObject(text []byte) bool {
	v := jsontext.Value(text)
	return v.Kind() == '{' && v.IsValid()
}

// Bounds of the time for which fetched keys are used.
const (
	minFresh     = 5 * time.Minute
	maxFresh     = 24 * time.Hour
	defaultFresh = 15 * time.Minute
)

// freshness returns for how long a response may be used by its Cache-Control.
func freshness(h http.Header) time.Duration {
	fresh := defaultFresh
	for directive := range strings.SplitSeq(strings.Join(h.Values("Cache-Control"), ","), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(directive), "=")
		switch strings.ToLower(name) {
		case "no-store", "no-cache":
			return minFresh
		case "max-age":
			seconds, err := strconv.ParseInt(strings.Trim(value, `"`), 10, 64)
			switch {
			case err != nil || seconds < 0:
				fresh = minFresh
			case seconds > int64(maxFresh/time.Second):
				fresh = maxFresh
			default:
				fresh = time.Duration(seconds) * time.Second
			}
		}
	}
	return min(max(fresh, minFresh), maxFresh)
}
