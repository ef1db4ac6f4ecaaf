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

// openFactor bounds the number of calls that are open at the same time: at most
// openFactor times the number of connections of the closed loop. Without this bound,
// the client would make a burst of calls after each pause. Caddy keeps only 32 idle
// connections to the upstream. In a burst, Caddy would open a connection for each
// further call, and this work would delay its answers for a long time. If the bound
// held calls back, the report shows a rate that is lower than the wanted rate.
const openFactor = 2

// leadShare sets the length of the lead, which is the warm-up before a turn. The lead
// takes the duration of the turn divided by leadShare.
const leadShare = 5

// openTurn is the outcome of a row's turn in open loop.
type openTurn struct {
	calls    int
	wanted   float64 // the wanted rate, in calls a second
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
	// The client keeps one connection for each call that can be open. With fewer, it
	// would open connections during the turn, and the measured times would include
	// that work.
	most := openFactor * connections
	client := &http.Client{Timeout: answerTimeout, Transport: &http.Transport{MaxIdleConnsPerHost: most, DisableCompression: true}}
	defer client.CloseIdleConnections()
	attacker := vegeta.NewAttacker(vegeta.Client(client), vegeta.Workers(uint64(connections)), vegeta.MaxWorkers(uint64(most)))
	defer context.AfterFunc(ctx, func() { attacker.Stop() })()
	lead := duration / leadShare
	begin := clock.Deadline(0) // the current time of the system's clock, which vegeta uses
	results := attacker.Attack(func(hit *vegeta.Target) error {
		id := firstID + issued.Add(1) - 1
		hit.Method, hit.URL, hit.Header = http.MethodPost, t.url(), header
		hit.Body = t.call.appendBody(nil, id)
		return nil
	}, vegeta.ConstantPacer{Freq: max(1, int(rate)), Per: time.Second}, lead+duration, "")
	var metrics vegeta.Metrics
	answered := make(map[int64]bool)
	var failed error
	for r := range results { // read all results, so that no call is left open
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

// checkHit checks an answer. vegeta does not report the id of the request that was
// answered. So checkHit only requires that the answer's id was used in a request, and
// that no earlier answer has the same id. All used ids are less than end.
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
