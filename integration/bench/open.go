package main

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	vegeta "github.com/tsenart/vegeta/v12/lib"

	"github.com/fareboxhq/farebox/internal/clock"
)

// openFactor times the connections of the closed loop bounds the open calls. Without a
// bound, a pause of the client is followed by a burst of calls. Caddy keeps 32 idle
// connections to the upstream, so it opens one for each further call, and with that load
// does not catch up for a long time. The rate that was reached shows if the bound
// mattered.
const openFactor = 2

// leadShare divides the duration of a turn to give the lead before it.
const leadShare = 5

// openTurn is the outcome of a row's turn in open loop.
type openTurn struct {
	calls    int
	wanted   float64 // calls a second
	reached  float64
	p50, p99 time.Duration
}

// runOpen makes calls at a constant rate for the duration, whether or not the earlier
// ones have their answers. It checks every answer. A lead of a fifth of the duration, in
// which connections are opened, comes first and is not measured.
func runOpen(ctx context.Context, t target, connections int, rate float64, duration time.Duration) (openTurn, error) {
	var issued atomic.Int64
	header := http.Header{"Authorization": {"Bearer " + t.token}}
	for name, value := range t.call.headers() {
		header.Set(name, value)
	}
	// As many connections stay open as calls can be open, because a client that opens
	// connections under load measures that.
	most := openFactor * connections
	client := &http.Client{Timeout: answerTimeout, Transport: &http.Transport{MaxIdleConnsPerHost: most, DisableCompression: true}}
	defer client.CloseIdleConnections()
	attacker := vegeta.NewAttacker(vegeta.Client(client), vegeta.Workers(uint64(connections)), vegeta.MaxWorkers(uint64(most)))
	defer context.AfterFunc(ctx, func() { attacker.Stop() })()
	lead := duration / leadShare
	begin := clock.Deadline(0) // vegeta uses the system's clock
	results := attacker.Attack(func(hit *vegeta.Target) error {
		id := firstID + issued.Add(1) - 1
		hit.Method, hit.URL, hit.Header = http.MethodPost, t.url(), header
		hit.Body = t.call.appendBody(nil, id)
		return nil
	}, vegeta.ConstantPacer{Freq: max(1, int(rate)), Per: time.Second}, lead+duration, "")
	var metrics vegeta.Metrics
	answered := make(map[int64]bool)
	var failed error
	for r := range results { // to the end, so that no call is left open
		if r.Timestamp.Sub(begin) >= lead {
			metrics.Add(r)
		}
		if failed == nil {
			if failed = checkHit(t.call, r, firstID+issued.Load(), answered); failed != nil {
				attacker.Stop()
			}
		}
	}
	if failed != nil {
		return openTurn{}, fmt.Errorf("%s: %w", t.url(), failed)
	}
	metrics.Close()
	return openTurn{
		calls: len(answered), wanted: rate, reached: metrics.Throughput,
		p50: metrics.Latencies.P50, p99: metrics.Latencies.P99,
	}, ctx.Err()
}

// checkHit checks an answer. vegeta does not report the request's id, so checkHit
// requires an id that was used, the last one being before end, and each only once.
func checkHit(c call, r *vegeta.Result, end int64, answered map[int64]bool) error {
	if r.Error != "" && r.Code == 0 {
		return fmt.Errorf("call failed: %s", r.Error)
	}
	id, err := strconv.ParseInt(string(answeredID(r.Body)), 10, 64)
	if err != nil {
		return fmt.Errorf("status %d, no id in %q", r.Code, r.Body)
	}
	if id < firstID || id >= end || answered[id] {
		return fmt.Errorf("the id %d was not used, or is answered twice", id)
	}
	answered[id] = true
	return c.check(id, int(r.Code), r.Headers.Get("Content-Type"), r.Body)
}
