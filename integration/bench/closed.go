package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/fareboxhq/farebox/internal/clock"
)

const (
	warmUpCalls   = 20 // calls on each connection before a measurement; their answers are decoded in full
	answerTimeout = time.Minute
)

// target holds the address, the token and the tools/call for one measurement of a row.
type target struct {
	address string
	token   string
	call    call
}

func (t target) url() string { return "http://" + t.address + "/mcp" }

// caller makes calls on one connection, one after the other.
type caller struct {
	target   target
	client   fasthttp.HostClient
	request  *fasthttp.Request
	response *fasthttp.Response
	body     []byte
	ids      *atomic.Int64 // the last id that was used; all callers share the counter
}

func newCaller(t target, ids *atomic.Int64) *caller {
	c := &caller{target: t, ids: ids, request: fasthttp.AcquireRequest(), response: fasthttp.AcquireResponse()}
	// The client must not send a call twice. So it makes only one attempt, and
	// returns an error if the connection breaks.
	c.client = fasthttp.HostClient{
		Addr: t.address, MaxConns: 1, MaxIdemponentCallAttempts: 1,
		NoDefaultUserAgentHeader: true, ReadTimeout: answerTimeout, WriteTimeout: answerTimeout,
	}
	c.request.SetRequestURI(t.url())
	c.request.Header.SetMethod(fasthttp.MethodPost)
	c.request.Header.Set("Authorization", "Bearer "+t.token)
	for name, value := range t.call.headers() {
		c.request.Header.Set(name, value)
	}
	return c
}

// close closes the connection. The caller must not be used after that.
func (c *caller) close() {
	c.client.CloseIdleConnections()
	fasthttp.ReleaseRequest(c.request)
	fasthttp.ReleaseResponse(c.response)
}

// do makes one call, and calls check with the answer.
func (c *caller) do(check func(id int64, status int, contentType string, body []byte) error) error {
	id := c.ids.Add(1)
	c.body = c.target.call.appendBody(c.body[:0], id)
	c.request.SetBodyRaw(c.body)
	if err := c.client.Do(c.request, c.response); err != nil {
		return err
	}
	return check(id, c.response.StatusCode(), string(c.response.Header.ContentType()), c.response.Body())
}

// load is a set of callers, each with its connection, that make calls in closed loop.
type load struct {
	callers []*caller
}

func newLoad(t target, connections int) *load {
	ids := &atomic.Int64{}
	ids.Store(firstID - 1)
	l := &load{}
	for range connections {
		l.callers = append(l.callers, newCaller(t, ids))
	}
	return l
}

func (l *load) close() {
	for _, c := range l.callers {
		c.close()
	}
}

// warmUp opens the connections, makes some calls on each, and decodes their answers. It
// returns the number of calls.
func (l *load) warmUp() (calls int, err error) {
	return l.each(func(c *caller) (int, error) {
		for n := range warmUpCalls {
			if err := c.do(c.target.call.checkWhole); err != nil {
				return n, err
			}
		}
		return warmUpCalls, nil
	})
}

// run makes calls for the duration, and waits until all of them have their answers. It
// returns the number of the calls and the time that they took.
func (l *load) run(ctx context.Context, duration time.Duration) (calls int, elapsed time.Duration, err error) {
	var stop atomic.Bool
	timed, cancel := context.WithTimeout(ctx, duration)
	defer cancel()
	defer context.AfterFunc(timed, func() { stop.Store(true) })()
	begin := clock.Now()
	calls, err = l.each(func(c *caller) (n int, err error) {
		for !stop.Load() && err == nil {
			if err = c.do(c.target.call.check); err == nil {
				n++
			} else {
				stop.Store(true)
			}
		}
		return n, err
	})
	elapsed = clock.Since(begin)
	return calls, elapsed, errors.Join(err, ctx.Err())
}

// each runs do(c) for all callers c at the same time. It returns the sum of the
// results, and one of the errors.
func (l *load) each(do func(*caller) (int, error)) (sum int, err error) {
	var wg sync.WaitGroup
	results, errs := make([]int, len(l.callers)), make([]error, len(l.callers))
	for i, c := range l.callers {
		wg.Go(func() { results[i], errs[i] = do(c) })
	}
	wg.Wait()
	for i, e := range errs {
		sum += results[i]
		if e != nil && err == nil {
			err = fmt.Errorf("%s: %w", l.callers[i].target.url(), e)
		}
	}
	return sum, err
}
