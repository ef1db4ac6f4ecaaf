package ledger

import (
	"errors"
	"fmt"
	"time"
)

// Caps bound spending. Zero means that there is no bound.
type Caps struct {
	Call  Amount // cap on one call
	Day   Amount // cap on a day, UTC
	Month Amount // cap on a month, UTC
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

// Terms are the current rules for reserving a call. They do not include the caps of the
// paying account, because the store itself has these caps. The zero Terms impose no
// rule.
type Terms struct {
	// Key bounds the spending of the paying key's lineage, at all servers together.
	Key Caps
	// Server bounds the paying account's spending at the order's server.
	Server Caps
	// FreeCalls is the number of free calls per day for the paying account at the
	// order's server. Released calls do not count.
	FreeCalls int64
	// Idempotency lets the caller repeat the call. The zero value does not allow this.
	Idempotency Idempotency
	// Proof is the proof of the paying account's key; see keys.Key. Only a platform
	// needs it.
	Proof string
}

// Check returns an error if the terms are invalid.
func (t *Terms) Check() error {
	if err := errors.Join(t.Key.Check(), t.Server.Check()); err != nil {
		return err
	}
	if len(t.Idempotency.Key) > MaxIdempotencyKey {
		return fmt.Errorf("the idempotency key is longer than %d bytes", MaxIdempotencyKey)
	}
	return nil
}

// Idempotency lets a caller repeat a call. The repeated call gets the stored response
// and does not run again. An idempotency key applies to one lineage of keys at one
// server.
type Idempotency struct {
	Key         string   // the caller's idempotency key, 1 to MaxIdempotencyKey bytes; "" for none
	Fingerprint [32]byte // identifies the call; the same key with another fingerprint is an error
}

// Bounds of idempotency keys and stored responses.
const (
	// MaxIdempotencyKey bounds an idempotency key, in bytes.
	MaxIdempotencyKey = 256
	// MaxStoredResponse bounds a stored response, in bytes. If a response is longer,
	// only the idempotency key is stored, so that the call does not run again.
	MaxStoredResponse = 1 << 20
	// IdempotencyLife is how long a call may be repeated after its capture.
	IdempotencyLife = 24 * time.Hour
)

// Reservation is the result of Reserve.
type Reservation struct {
	Balance Balance // the payer's balance after the reservation
	Waived  bool    // whether the call is free because of Terms.FreeCalls
	// First is set if the call repeats a captured call. Nothing is reserved then.
	First *StoredResponse
}

// StoredResponse is the response of a captured call.
type StoredResponse struct {
	Charge  Charge
	Balance Balance // the payer's balance now
	Body    []byte  // the response that was passed to Capture
}

// The errors with which Reserve refuses a call.
var (
	// ErrInFlight says that the first call with the idempotency key is still running.
	ErrInFlight = errors.New("the first call with this key is under way")
	// ErrReused says that the idempotency key belongs to another call.
	ErrReused = errors.New("the key was used for another call")
	// ErrGone says that the call was captured, but its response is not stored.
	ErrGone = errors.New("the answer is not kept")
	// ErrCapped says that the call would exceed a cap; see CapError.
	ErrCapped = errors.New("spending cap reached")
)

// Period is the period of a cap.
type Period string

// The periods of caps.
const (
	PerCall  Period = "call"
	PerDay   Period = "day"
	PerMonth Period = "month"
)

// Holder is the kind of subject that a cap applies to.
type Holder string

// The holders of caps.
const (
	HolderKey     Holder = "key"     // a lineage of keys
	HolderAccount Holder = "account" // an account, at all servers
	HolderServer  Holder = "server"  // an account at one server
)

// Cap is a cap and the spending that counts towards it so far.
type Cap struct {
	Holder  Holder
	Period  Period
	Account string // the payer's id
	Lineage string // the paying key's lineage
	Server  string // the called server
	Test    bool
	Amount  Amount    // the amount that the cap allows
	Spent   Amount    // amount captured in the period; 0 for PerCall
	Held    Amount    // amount reserved in the period; 0 for PerCall
	Resets  time.Time // when the next period begins; zero for PerCall
}

// NearPart defines when a cap is nearly spent: when only 1/NearPart of the cap is
// left, so that 80 % are spent.
const NearPart = 5

// Near returns the amount at which the operator is warned.
func (c *Cap) Near() Amount { return c.Amount - c.Amount/NearPart }

// CapError is an ErrCapped with the cap that the call would exceed.
type CapError struct {
	Cap
	Needed Amount // the amount of the call
}

// Error states the holder, the period and the figures of the cap.
func (e *CapError) Error() string {
	return fmt.Sprintf("spending cap of the %s for a %s reached: %s needed, %s of %s spent, %s held",
		e.Holder, e.Period, e.Needed, e.Spent, e.Amount, e.Held)
}

// Unwrap makes errors.Is(err, ErrCapped) hold.
func (e *CapError) Unwrap() error { return ErrCapped }

// Left returns the amount that may still be reserved within the cap.
func (c *Cap) Left() Amount { return c.Amount - c.Spent - c.Held }

// Day returns the number of days from 1970-01-01 to t, in UTC.
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

// Month returns the number of the month that contains the day: 12 times the year,
// plus the number of earlier months in that year.
func Month(day int32) int32 {
	year, month, _ := DayStart(day).Date()
	return int32(year)*12 + int32(month) - 1
}

// Resets returns the end of the period that contains the day, or the zero time for
// PerCall.
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
