package ledger

import (
	"errors"
	"fmt"
	"time"
)

// Caps bound what may be spent. An amount of zero is no bound.
type Caps struct {
	Call  Amount // one call
	Day   Amount // a day, UTC
	Month Amount // a month, UTC
}

// Check returns an error if one of the amounts is below zero.
func (c Caps) Check() error {
	for _, cap := range [...]struct {
		period Period
		amount Amount
	}{{PerCall, c.Call}, {PerDay, c.Day}, {PerMonth, c.Month}} {
		if cap.amount < 0 {
			return fmt.Errorf("the cap for a %s is below zero: %s", cap.period, cap.amount)
		}
	}
	return nil
}

// Terms are the rules under which a call is reserved, as they are at that
// moment. The caps of the paying account are not among them: the store knows
// those itself. The zero Terms are no rules.
type Terms struct {
	// Key bounds what the paying key's lineage spends, at all servers together.
	Key Caps
	// Server bounds what the paying account spends at the order's server.
	Server Caps
	// FreeCalls is how many calls a day of the paying account at the order's
	// server cost nothing. Calls that are released do not count.
	FreeCalls int64
	// Retry lets the caller send the call again; its zero value does not.
	Idempotency Idempotency
	// Proof is that of a key of the paying account, see keys.Key. A store that
	// is a platform wants it, others pass it over.
	Proof string
}

// Retry marks a call that its caller may send again, to have the first answer
// instead of a second run. Keys of one lineage at one server are told apart by
// their text.
type Idempotency struct {
	Key         string   // of the caller's choice, 1 to MaxRetryKey bytes; "" for none
	Fingerprint [32]byte // of what is called; the same key with another one is an error
}

// Bounds of what is kept for callers that call again.
const (
	// MaxRetryKey bounds the key of a Retry in bytes.
	MaxIdempotencyKey = 256
	// MaxAnswer bounds an answer that is kept, in bytes. Of a longer one only
	// the key is remembered, so that it is not run again.
	MaxStoredResponse = 1 << 20
	// RetryLife is for how long after its capture a call may be repeated.
	IdempotencyLife = 24 * time.Hour
)

// Reservation is what Reserve gives.
type Reservation struct {
	Balance Balance // of the payer, after it
	Waived  bool    // the call costs nothing, by Terms.FreeCalls
	// First is set if the call was answered before. Nothing is reserved then.
	First *StoredResponse
}

// Answer is the kept answer of a captured call.
type StoredResponse struct {
	Charge  Charge
	Balance Balance // of the payer, now
	Body    []byte  // as it was given to Capture
}

// Errors of Reserve about a call that is sent again.
var (
	// ErrInFlight says that the first call of that key is under way.
	ErrInFlight = errors.New("the first call with this key is under way")
	// ErrReused says that the key stands for another call.
	ErrReused = errors.New("the key was used for another call")
	// ErrGone says that the call was captured, and its answer is not kept.
	ErrGone = errors.New("the answer is not kept")
	// ErrCapped says that the call would go beyond a cap; see CapError.
	ErrCapped = errors.New("spending cap reached")
)

// Period is what a cap bounds the spending of.
type Period string

// The periods of caps.
const (
	PerCall  Period = "call"
	PerDay   Period = "day"
	PerMonth Period = "month"
)

// Holder is whose cap it is.
type Holder string

// The holders of caps.
const (
	HolderKey     Holder = "key"     // a lineage of keys
	HolderAccount Holder = "account" // an account, at all servers
	HolderServer  Holder = "server"  // an account at one server
)

// Cap is a cap and what has been spent of it.
type Cap struct {
	Holder  Holder
	Period  Period
	Account string // the payer's id
	Lineage string // of the paying key
	Server  string // that was called
	Test    bool
	Amount  Amount    // the cap
	Spent   Amount    // captured in the period; 0 for PerCall
	Held    Amount    // reserved in the period; 0 for PerCall
	Resets  time.Time // when the next period begins; zero for PerCall
}

// Near is the amount from which on the operator is warned: 80 % of the cap.
func (c *Cap) Near() Amount { return c.Amount - c.Amount/5 }

// CapError is an ErrCapped with the cap that was in the way.
type CapError struct {
	Cap
	Needed Amount // by the call
}

// Error says whose cap it is, and the figures.
func (e *CapError) Error() string {
	return fmt.Sprintf("spending cap of the %s for a %s reached: %s needed, %s of %s spent, %s held",
		e.Holder, e.Period, e.Needed, e.Spent, e.Amount, e.Held)
}

// Unwrap makes errors.Is(err, ErrCapped) hold.
func (e *CapError) Unwrap() error { return ErrCapped }

// Left is what may still be reserved within the cap.
func (c *Cap) Left() Amount { return c.Amount - c.Spent - c.Held }

// Day returns the number of the time's day since 1970, UTC.
func Day(t time.Time) int32 {
	s := t.Unix()
	if s < 0 {
		s -= secondsOfDay - 1
	}
	return int32(s / secondsOfDay)
}

const secondsOfDay = 24 * 60 * 60

// DayStart returns the beginning of a day.
func DayStart(day int32) time.Time { return time.Unix(int64(day)*secondsOfDay, 0).UTC() }

// Month returns the number of a day's month: 12 times the year, and the months
// before it.
func Month(day int32) int32 {
	year, month, _ := DayStart(day).Date()
	return int32(year)*12 + int32(month) - 1
}

// Resets returns when the period of the day ends, the zero time for PerCall.
func (p Period) Resets(day int32) time.Time {
	switch p {
	case PerDay:
		return DayStart(day + 1)
	case PerMonth:
		year, month, _ := DayStart(day).Date()
		return time.Date(year, month+1, 1, 0, 0, 0, 0, time.UTC)
	default:
		return time.Time{}
	}
}
