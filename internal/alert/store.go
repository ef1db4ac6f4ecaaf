package alert

import (
	"context"
	"time"

	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// Books gives access to the accounts, keys and charges in a store. All amounts are live
// credits, not test credits.
type Books interface {
	// Moved summarizes the transactions that follow the one with the given number, at
	// most limit of them.
	Moved(ctx context.Context, after int64, limit int) (ledger.Moved, error)
	// LiveBalances returns the live balances of accounts by id. It leaves out unknown ids.
	LiveBalances(ctx context.Context, ids []string) (map[string]ledger.Balance, error)
	// KeysByID returns the keys with the ids, in any order. It leaves out unknown ids.
	KeysByID(ctx context.Context, ids []string) ([]keys.Key, error)
	// LiveSpent returns the present spending of each lineage, in the same order, and
	// the day to which the spending applies. The day is 0 if no lineage has spent
	// anything. It comes from the clock by which the store applies caps, which may
	// differ from this node's clock.
	LiveSpent(ctx context.Context, lineages []ledger.Lineage) ([]ledger.Spent, int32, error)
	// UsageReport returns sums of charges; see ledger.UsageQuery.
	UsageReport(ctx context.Context, q ledger.UsageQuery) (ledger.UsageReport, error)
}

// Cursor is the last transaction of the journal for which alerts were evaluated, and
// the time of the evaluation.
type Cursor struct {
	Seq int64
	At  time.Time
}

// Delivery is the sending of one alert to one target of a channel.
type Delivery struct {
	Alert    Alert
	Channel  string // name of the channel
	Target   string // a target returned by Channel.Targets
	State    DeliveryState
	Attempts int64
	NextAt   time.Time // time of the next attempt of a pending delivery
	Problem  string    // reason of the last failure; "" if no attempt has failed
}

// DeliveryState is the state of a delivery. Pending deliveries are attempted; the other
// states are final.
type DeliveryState int64

// The states of deliveries.
const (
	Pending DeliveryState = iota
	Delivered
	GivenUp
)

var deliveryStates = [...]string{"pending", "delivered", "given up"}

// String returns the name of the state.
func (s DeliveryState) String() string { return deliveryStates[s] }

// Filter selects alerts to list, newest first. A zero field matches all alerts.
type Filter struct {
	ledger.Page
	Account string // id of an account
	Kind    Kind
	Since   time.Time
}

// Store keeps alerts, their deliveries and the settings of accounts. It is safe for
// concurrent use. Errors of the database wrap ledger.ErrUnavailable. Stored times have
// a resolution of microseconds.
type Store interface {
	// View calls do(tx) in a transaction that can only read, and returns the error of
	// that call.
	View(ctx context.Context, do func(Tx) error) error
	// Change calls do(tx) in a transaction that can also write. At any time, at most
	// one call of Change runs on all nodes together. If the call fails, the transaction
	// is rolled back, and Change returns the error of the call.
	Change(ctx context.Context, do func(Tx) error) error
}

// Tx is a transaction on the stored alerts.
type Tx interface {
	// Audit writes a record to the audit log.
	Audit(a ledger.Audit) error

	// Settings returns the settings by account id. It leaves out accounts that never
	// changed their settings.
	Settings(accounts []string) (map[string]Settings, error)
	PutSettings(account string, s Settings, at time.Time) error
	// WithBalance lists at most limit accounts that have a threshold, ordered by their
	// ids and beginning after the given id.
	WithBalance(after string, limit int) ([]string, error)
	// WithNetworks lists all accounts that want alerts of kind Network.
	WithNetworks() ([]string, error)

	Cursor() (Cursor, error)
	// MoveCursor replaces the cursor by a new one and returns true. If the stored
	// cursor is not the expected one, MoveCursor returns false.
	MoveCursor(from, to Cursor) (bool, error)

	// States returns the states of the kind by subject. It leaves out subjects without
	// a state.
	States(kind Kind, subjects []string) (map[string]State, error)
	PutState(s State) error
	// CountStates returns the number of states of the kind with a subject that begins
	// with the prefix, or limit if there are more.
	CountStates(kind Kind, prefix string, limit int64) (int64, error)

	// Subjects lists at most limit subjects of states of the kind, in ascending order
	// and beginning after the given subject.
	Subjects(kind Kind, after string, limit int) ([]string, error)
	// DeleteStates deletes all states of the kind that belong to the lineage.
	DeleteStates(kind Kind, lineage string) error

	Insert(a *Alert) error
	// Sent counts, by kind, the alerts of the account that were raised since the given
	// time and have deliveries. It considers only the newest alerts of the account, at
	// most limit of them.
	Sent(account string, since time.Time, limit int) (map[Kind]int64, error)
	// List lists alerts, newest first. The returned string is the cursor of the next
	// page, or "" on the last page.
	List(ctx context.Context, f Filter) ([]Alert, string, error)

	InsertDelivery(d *Delivery) error
	// Due returns the pending deliveries of the channel that are due at the given time,
	// at most limit of them. Those with the earliest NextAt come first.
	Due(channel string, now time.Time, limit int) ([]Delivery, error)
	// UpdateDelivery writes State, Attempts, NextAt and Problem, and returns true. If
	// the stored number of attempts is not the given one, it returns false.
	UpdateDelivery(d *Delivery, attempts int64) (bool, error)
	// DeliveriesOf returns the deliveries of alerts. In a returned Delivery, only the
	// ID of Alert is set.
	DeliveriesOf(alerts []string) ([]Delivery, error)

	// DeleteBefore deletes alerts that were raised before the first time, with their
	// deliveries. It also deletes states of the kinds Cap and Spend that were set
	// before the second time. It deletes at most limit alerts and limit states, and
	// returns the number of deleted rows.
	DeleteBefore(alerts, states time.Time, limit int) (int64, error)
}
