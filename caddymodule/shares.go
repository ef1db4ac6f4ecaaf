package caddymodule

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/dustin/go-humanize"

	"github.com/fareboxhq/farebox/caddymodule/grammar"
	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/exchange"
	"github.com/fareboxhq/farebox/internal/share"
	"github.com/fareboxhq/farebox/internal/telemetry"
)

// Limits bound the resources of a process. Package share divides each resource among
// keys, accounts and addresses; the limits do not change the proportions.
type Limits struct {
	// Bytes of request bodies, each counted from its arrival until its request is
	// answered, and of responses that are held back. Default: 256 MiB.
	Memory int64 `json:"memory,omitempty"`

	// Requests in flight that have a known key, and calls that go on after their
	// client has left. Default: 16384.
	Calls int64 `json:"calls,omitempty"`

	// Open streams: streams that clients open by GET, resumed streams, and
	// subscriptions. Default: 16384.
	Streams int64 `json:"streams,omitempty"`

	// Ids of requests in sessions. An id counts while its request is in progress,
	// and as long as a client may resume the request. Default: 2097152.
	SessionIDs int64 `json:"session_ids,omitempty"`

	// Connections at listeners with the wrapper `farebox`. Default: half of the
	// files that the process may open, but 16384 at most.
	Connections int64 `json:"connections,omitempty"`

	// The lowest rate at which a request body may arrive, in bytes per second. It is
	// measured over each 64 KiB. Default: 8 KiB.
	BodyRate int64 `json:"body_rate,omitempty"`
}

// The defaults of Limits.
const (
	defaultMemory     = 256 << 20
	defaultCalls      = 1 << 14
	defaultStreams    = 1 << 14
	defaultSessionIDs = 1 << 21
)

// processShares divides the resources of the process among the requests of all
// configs.
type processShares struct {
	exchange.Shares
	ids, connections *share.Budget
}

func newShares() (*telemetry.Metrics, *processShares) {
	var m *telemetry.Metrics
	budget := func(of string, total int64) *share.Budget {
		return share.New(total, func(c share.Class) { m.ShareRefused(of, c) })
	}
	s := &processShares{ids: budget("session_ids", defaultSessionIDs), connections: budget("connections", defaultConnections())}
	s.Memory, s.Calls, s.Streams = budget("memory", defaultMemory), budget("calls", defaultCalls), budget("streams", defaultStreams)
	s.Payers = share.NewPayers(clock.Now)
	s.BodyRate.Store(share.DefaultRate)
	version, revision, goversion := telemetry.Build()
	m = telemetry.New(&telemetry.Process{
		Budgets: map[string]telemetry.Budget{
			"memory": s.Memory, "calls": s.Calls, "streams": s.Streams, "session_ids": s.ids, "connections": s.connections,
		},
		Version: version, Revision: revision, GoVersion: goversion,
	})
	return m, s
}

// configure applies a config's limits. Requests keep the resources that they hold, even
// above a new limit.
func (s *processShares) configure(l *Limits) {
	l = l.orNone()
	s.Memory.SetTotal(cmp.Or(l.Memory, defaultMemory))
	s.Calls.SetTotal(cmp.Or(l.Calls, defaultCalls))
	s.Streams.SetTotal(cmp.Or(l.Streams, defaultStreams))
	s.ids.SetTotal(cmp.Or(l.SessionIDs, defaultSessionIDs))
	s.connections.SetTotal(cmp.Or(l.Connections, defaultConnections()))
	s.BodyRate.Store(cmp.Or(l.BodyRate, share.DefaultRate))
}

func (l *Limits) orNone() *Limits {
	if l == nil {
		return new(Limits)
	}
	return l
}

// check returns an error if a limit is below zero.
func (l *Limits) check() error {
	l = l.orNone()
	if min(l.Memory, l.Calls, l.Streams, l.SessionIDs, l.Connections, l.BodyRate) < 0 {
		return errors.New("limits cannot be below zero")
	}
	return nil
}

// holds returns an error if a request body of the given length, in bytes, could never
// be read within the limits.
func (l *Limits) holds(body int64) error {
	memory := cmp.Or(l.orNone().Memory, defaultMemory)
	if body > share.Largest(memory) {
		return fmt.Errorf("max_body is %s, and one key can hold a tenth of the %s of limits memory until it has paid: raise limits memory or lower max_body",
			humanize.IBytes(uint64(body)), humanize.IBytes(uint64(memory)))
	}
	return nil
}

func (a *App) parseLimits(d *caddyfile.Dispenser) error {
	l := new(Limits)
	a.Limits = l
	if d.NextArg() {
		return d.Errf("limits takes a block and no arguments, not %q", d.Val())
	}
	return grammar.Block(d, "limits", grammar.Subdirectives{
		"memory": grammar.Size(&l.Memory), "calls": grammar.Number(&l.Calls), "streams": grammar.Number(&l.Streams),
		"session_ids": grammar.Number(&l.SessionIDs), "connections": grammar.Number(&l.Connections), "body_rate": grammar.Size(&l.BodyRate),
	})
}
