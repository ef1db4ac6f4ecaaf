package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"time"
)

// bench measures the rows of the table on the servers of a stand.
type bench struct {
	options
	stand *stand
	rows  []row
	out   io.Writer // the progress of the measurement is written to it

	rounds [][]turn              // the measurements in closed loop, one list for each round
	open   []map[string]openTurn // the measurements in open loop by the name of the row, one map for each round
}

// measure measures all rows, first in closed loop and then in open loop.
func (b *bench) measure(ctx context.Context) error {
	for _, r := range b.rows {
		if r.guarded {
			if err := b.stand.requireRefusal(ctx, r); err != nil {
				return err
			}
		}
	}
	// In closed loop the client has one core, so that its share of the machine is
	// bounded.
	cores := runtime.GOMAXPROCS(1)
	for n := range b.options.rounds {
		if err := b.closedRound(ctx, n); err != nil {
			return err
		}
	}
	runtime.GOMAXPROCS(cores)
	for n := range openRounds(b.options.rounds) {
		if err := b.openRound(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

// openRounds returns the number of rounds in open loop, which is half of the number in
// closed loop, rounded up.
func openRounds(rounds int) int { return (rounds + 1) / 2 }

func (b *bench) closedRound(ctx context.Context, n int) error {
	var turns []turn
	for _, r := range schedule(b.rows, n) {
		t, err := b.closedTurn(ctx, r)
		if err != nil {
			return fmt.Errorf("round %d, row %s: %w", n+1, r.name, err)
		}
		fmt.Fprintf(b.out, "round %d of %d  %-14s %7.0f calls/s\n", n+1, b.options.rounds, r.name, t.rate)
		turns = append(turns, t)
	}
	b.rounds = append(b.rounds, turns)
	return nil
}

// closedTurn measures a row once in closed loop.
func (b *bench) closedTurn(ctx context.Context, r row) (turn, error) {
	t, account, err := b.target(ctx, r)
	if err != nil {
		return turn{}, err
	}
	l := newLoad(t, b.connections)
	defer l.close()
	warm, err := l.warmUp()
	if err != nil {
		return turn{}, err
	}
	before, err := b.meter(ctx, r)
	if err != nil {
		return turn{}, err
	}
	calls, elapsed, err := l.run(ctx, b.duration())
	if err != nil {
		return turn{}, err
	}
	after, err := b.meter(ctx, r)
	if err == nil && calls == 0 {
		err = errors.New("no call was made in the turn's time: want more -seconds")
	}
	if err != nil {
		return turn{}, err
	}
	if account != nil {
		if err := account.requireCharges(ctx, warm+calls, r.call.charge); err != nil {
			return turn{}, err
		}
	}
	return turnOf(r.name, calls, elapsed, before, after), nil
}

// target returns the address, the token and the tools/call for one measurement of a
// row. On Farebox, the token is the key of a new account.
func (b *bench) target(ctx context.Context, r row) (target, *account, error) {
	t := target{address: b.stand.address(r), token: b.stand.token, call: r.call}
	srv := b.stand.servers[r.server]
	if srv == nil || srv.accounts == nil {
		return t, nil, nil
	}
	account, err := srv.accounts.fresh(ctx)
	if err != nil {
		return t, nil, err
	}
	t.token = account.secret
	return t, account, nil
}

func (b *bench) openRound(ctx context.Context, n int) error {
	turns := make(map[string]openTurn)
	for _, r := range b.rows {
		rate := b.rate(r.name).Median / 2
		t, account, err := b.target(ctx, r)
		if err == nil {
			turns[r.name], err = runOpen(ctx, t, b.connections, rate, b.duration())
		}
		if err == nil && account != nil {
			err = account.requireCharges(ctx, turns[r.name].calls, r.call.charge)
		}
		if err != nil {
			return fmt.Errorf("open loop, round %d, row %s: %w", n+1, r.name, err)
		}
		o := turns[r.name]
		fmt.Fprintf(b.out, "open loop %d of %d  %-14s %7.0f calls/s  p50 %s  p99 %s\n", n+1, openRounds(b.options.rounds), r.name, o.reached, o.p50.Round(10*time.Microsecond), o.p99.Round(10*time.Microsecond))
	}
	b.open = append(b.open, turns)
	return nil
}

// rate returns the calls a second that a row reached in closed loop.
func (b *bench) rate(row string) spread {
	var rates []float64
	for _, t := range b.turnsOf(row) {
		rates = append(rates, t.rate)
	}
	return spreadOf(rates)
}

func (b *bench) turnsOf(row string) []turn {
	var found []turn
	for _, turns := range b.rounds {
		for _, t := range turns {
			if t.row == row {
				found = append(found, t)
			}
		}
	}
	return found
}
