package alert

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/fareboxhq/farebox/internal/admin"
)

const (
	// claimTime is how long a delivery belongs to the node that has claimed it. It is
	// longer than sendTime, so that no other node claims the delivery while the first
	// one may still be sending.
	claimTime = 30 * time.Second
	// sendTime bounds one attempt to send a message.
	sendTime = 20 * time.Second
	// claimMost is the number of deliveries that a node claims and sends at the same
	// time.
	claimMost = 8
	// pollEvery is the pause between two searches for due deliveries. A search finds
	// deliveries that other nodes have written, and those that failed before and are
	// due again.
	pollEvery = 5 * time.Second
	// giveUpAfter is the age of an alert after which failed deliveries are given up.
	giveUpAfter = 3 * 24 * time.Hour
	// maxProblem bounds the stored reason of a failed delivery, in characters.
	maxProblem = 200
	// logEvery is the least time between two log records about failures of the same
	// channel.
	logEvery = 10 * time.Minute
)

// pauses are the pauses after the first, second and each further failed attempt. The
// last pause is repeated.
var pauses = [...]time.Duration{5 * time.Second, 30 * time.Second, 2 * time.Minute, 10 * time.Minute, 30 * time.Minute, time.Hour, 3 * time.Hour}

// pauseAfter returns the pause after the given number of attempts. It adds a random
// time, up to a quarter of the pause, so that deliveries that failed together are not
// tried again together.
func pauseAfter(attempts int64) time.Duration {
	pause := pauses[min(max(attempts, 1), int64(len(pauses)))-1]
	return pause + time.Duration(rand.Int64N(int64(pause)/4)) //nolint:gosec // nothing depends on the secrecy of a pause
}

// target is a recipient of messages and the channel that reaches it.
type target struct{ channel, name string }

// targetsOf returns, by account id, the targets to which the alerts of each account are
// sent.
func (s *Service) targetsOf(ctx context.Context, alerts []Alert) (map[string][]target, error) {
	all := make(map[string][]target)
	for i := range alerts {
		account := alerts[i].Account
		if _, known := all[account]; known {
			continue
		}
		all[account] = nil
		for _, c := range s.current.Load().Channels {
			names, err := c.Targets(ctx, account)
			if err != nil {
				return nil, err
			}
			for _, name := range names {
				all[account] = append(all[account], target{c.Name(), name})
			}
		}
	}
	return all, nil
}

const (
	// sentMost bounds the alerts of one kind that are sent for one account within
	// sentTime. The bound is necessary because owners choose the settings, but the
	// operator's mail server sends the messages. Each kind has its own bound, so that
	// many alerts of new tools cannot suppress an alert of a low balance.
	sentMost = 10
	sentTime = time.Hour
	// sentSeen bounds the alerts of an account that are read to count those already
	// sent.
	sentSeen = 1000
)

// insert writes alerts with their deliveries. Alerts beyond the bound sentMost are
// written without deliveries.
func insert(tx Tx, alerts []Alert, targets map[string][]target) error {
	sent := make(map[string]map[Kind]int64)
	for i := range alerts {
		a := &alerts[i]
		if sent[a.Account] == nil {
			counts, err := tx.Sent(a.Account, a.At.Add(-sentTime), sentSeen)
			if err != nil {
				return err
			}
			sent[a.Account] = counts
		}
		a.Data.Unsent = sent[a.Account][a.Kind] >= sentMost && len(targets[a.Account]) > 0
		if err := tx.Insert(a); err != nil {
			return err
		}
		if a.Data.Unsent {
			continue
		}
		sent[a.Account][a.Kind]++
		for _, t := range targets[a.Account] {
			if err := tx.InsertDelivery(&Delivery{Alert: *a, Channel: t.channel, Target: t.name, NextAt: a.At}); err != nil {
				return err
			}
		}
	}
	return nil
}

// noteRaised counts the written alerts in the metrics, and wakes the loop that delivers
// them.
func (s *Service) noteRaised(alerts []Alert) {
	for i := range alerts {
		s.o.Metrics.AlertRaised(string(alerts[i].Kind))
	}
	if len(alerts) > 0 {
		wake(s.raised)
	}
}

// deliverAll delivers alerts until ctx ends. Each channel has a goroutine of its own,
// so that a channel that hangs does not delay the others.
func (s *Service) deliverAll(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	var mu sync.Mutex
	busy := make(map[string]bool)
	take := func(channel string) bool {
		mu.Lock()
		defer mu.Unlock()
		free := !busy[channel]
		busy[channel] = true
		return free
	}
	for {
		for _, channel := range s.Channels() {
			if !take(channel) {
				continue
			}
			running.Go(func() {
				s.drain(ctx, channel)
				mu.Lock()
				defer mu.Unlock()
				delete(busy, channel)
			})
		}
		if wait(ctx, pollEvery, s.raised) != nil {
			return
		}
	}
}

// drain delivers the due alerts of a channel.
func (s *Service) drain(ctx context.Context, channel string) {
	for more := true; more; {
		var err error
		if more, err = s.deliverBy(ctx, channel); err != nil {
			if ctx.Err() == nil && s.failing.first(storeFails) {
				s.o.Logger.Warn("deliveries of alerts cannot be read or written: they are late until they can", "error", err)
			}
			return
		}
		s.failing.end(storeFails)
	}
}

// Deliver makes one step for each channel: it claims due deliveries, sends them, and
// writes the outcomes. It reports whether more may be due.
//
// If the node dies between these steps, its deliveries stay claimed. They are due again
// after claimTime, so each message is sent at least once.
func (s *Service) Deliver(ctx context.Context) (more bool, err error) {
	for _, channel := range s.Channels() {
		m, e := s.deliverBy(ctx, channel)
		more, err = more || m, errors.Join(err, e)
	}
	return more, err
}

func (s *Service) deliverBy(ctx context.Context, channel string) (more bool, err error) {
	claimed, err := s.claim(ctx, channel)
	if err != nil || len(claimed) == 0 {
		return false, err
	}
	messages := make([]*Message, len(claimed))
	for i := range claimed {
		messages[i] = &Message{Alert: claimed[i].Alert}
	}
	if err := s.describe(ctx, messages...); err != nil {
		return false, err
	}
	var sending sync.WaitGroup
	failures := make([]error, len(claimed))
	for i := range claimed {
		sending.Go(func() { failures[i] = s.send(ctx, &claimed[i], messages[i]) })
	}
	sending.Wait()
	return len(claimed) == claimMost, errors.Join(failures...)
}

// claim claims due deliveries of a channel for this node, by making them due only after
// claimTime. It leaves out a delivery if another node has just claimed it.
func (s *Service) claim(ctx context.Context, channel string) (claimed []Delivery, err error) {
	now := s.o.Now()
	var due []Delivery
	read := func(tx Tx) (err error) {
		due, err = tx.Due(channel, now, claimMost)
		return err
	}
	// Look for due deliveries in a read-only transaction first. Usually no delivery is
	// due, and a transaction that may write would cost a write to the disk.
	if err := s.store.View(ctx, read); err != nil || len(due) == 0 {
		return nil, err
	}
	err = s.store.Change(ctx, func(tx Tx) error {
		claimed = nil
		if err := read(tx); err != nil {
			return err
		}
		for _, d := range due {
			before := d.Attempts
			d.Attempts, d.NextAt = d.Attempts+1, now.Add(claimTime)
			mine, err := tx.UpdateDelivery(&d, before)
			if err != nil {
				return err
			}
			if mine {
				claimed = append(claimed, d)
			}
		}
		return nil
	})
	return claimed, err
}

// The outcomes of attempts, for metrics.
const (
	outcomeDelivered = "delivered"
	outcomeFailed    = "failed"
	outcomeGivenUp   = "given_up"
)

// send makes one attempt to send a claimed delivery, and writes the outcome.
func (s *Service) send(ctx context.Context, d *Delivery, m *Message) error {
	err := s.attempt(ctx, d.Channel, d.Target, m)
	if ctx.Err() != nil {
		return ctx.Err() // the claim expires after claimTime
	}
	now := s.o.Now()
	outcome := outcomeDelivered
	switch {
	case err == nil:
		d.State, d.Problem = Delivered, ""
	case errors.Is(err, ErrNoTarget) || now.Sub(d.Alert.At) >= giveUpAfter:
		d.State, d.Problem, outcome = GivenUp, problem(err), outcomeGivenUp
	default:
		d.NextAt, d.Problem, outcome = now.Add(pauseAfter(d.Attempts)), problem(err), outcomeFailed
	}
	s.o.Metrics.AlertDelivered(d.Channel, outcome)
	s.logOutcome(d, err)
	return s.store.Change(ctx, func(tx Tx) error {
		_, err := tx.UpdateDelivery(d, d.Attempts) // the delivery is not updated if another node has claimed it after claimTime
		return err
	})
}

// attempt sends a message through a channel of the current config.
func (s *Service) attempt(ctx context.Context, channel, target string, m *Message) error {
	ctx, cancel := context.WithTimeout(ctx, sendTime)
	defer cancel()
	for _, c := range s.current.Load().Channels {
		if c.Name() == channel {
			return c.Send(ctx, target, m)
		}
	}
	return ErrNotConfigured
}

func problem(err error) string {
	text := []rune(err.Error())
	if len(text) > maxProblem {
		text = append(text[:maxProblem], '…')
	}
	return string(text)
}

// failing remembers the channels that fail at present, by name, and the time of the
// last log record about each. It also remembers failures of the store, under
// storeFails, and failures to write new networks, under networksFail.
type failing struct {
	mu    sync.Mutex
	since map[string]time.Time
}

// Names under which failing remembers failures that do not belong to a channel. No
// channel has such a name.
const (
	storeFails   = ""
	networksFail = " networks"
)

// first records a failure under a name, and reports whether it is the first one since
// the last success.
func (f *failing) first(of string) bool { return f.due(of, time.Time{}) }

// due records a failure under a name, and reports whether a log record about it is due.
func (f *failing) due(of string, now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	last, fails := f.since[of]
	if fails && now.Sub(last) < logEvery {
		return false
	}
	f.since[of] = now
	return true
}

// end records a success under a name, and reports whether failures preceded it.
func (f *failing) end(of string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, fails := f.since[of]
	delete(f.since, of)
	return fails
}

// logOutcome logs the first failure of a channel, later failures at most once per
// logEvery, the first success after a failure, and each delivery that is given up.
func (s *Service) logOutcome(d *Delivery, err error) {
	if d.State == GivenUp {
		s.o.Logger.Error("an alert was not delivered, and no further attempt is made", "alert", d.Alert.ID, "channel", d.Channel, "attempts", d.Attempts, "error", err)
		return
	}
	if err == nil {
		if s.failing.end(d.Channel) {
			s.o.Logger.Info("alerts are delivered again", "channel", d.Channel)
		}
		return
	}
	if s.failing.due(d.Channel, s.o.Now()) {
		s.o.Logger.Warn("an alert could not be delivered: it is tried again for three days", "alert", d.Alert.ID, "channel", d.Channel, "attempts", d.Attempts, "error", err)
	}
}

// Tested is the outcome of a test of one target.
type Tested struct {
	Channel string
	Target  string
	Err     error // nil if the message was sent
}

// SendTest sends a test message to the operator's targets of each channel, and returns
// the outcomes. It stores only a record in the audit log.
func (s *Service) SendTest(ctx context.Context, actor admin.Actor) ([]Tested, error) {
	channels := s.current.Load().Channels
	if len(channels) == 0 {
		return nil, refuse(admin.Invalid, "no channel is configured: add a webhook or email to the option alerts of the Caddyfile")
	}
	err := s.store.Change(ctx, func(tx Tx) error { return tx.Audit(s.audit(actor, "alert.test", "", s.Channels())) })
	if err != nil {
		return nil, err
	}
	m := &Message{Alert: Alert{ID: s.o.NewID("alr_"), Kind: Test, At: s.o.Now()}}
	if err := s.describe(ctx, m); err != nil {
		return nil, err
	}
	var all []Tested
	for _, c := range channels {
		targets, err := c.Targets(ctx, "")
		if err != nil {
			return nil, err
		}
		for _, t := range targets {
			all = append(all, Tested{Channel: c.Name(), Target: t})
		}
	}
	var sending sync.WaitGroup
	for i := range all {
		sending.Go(func() { all[i].Err = s.attempt(ctx, all[i].Channel, all[i].Target, m) })
	}
	sending.Wait()
	return all, nil
}
