// Package alert informs operators and owners of events before they become problems: a
// balance that falls below a threshold, a cap that is nearly spent, unusual spending, and
// the first use of a tool or a network.
//
// The package decides which alerts are raised. One transaction writes the alert, the
// state that prevents a second alert for the same crossing, and the deliveries of the
// alert. Afterwards, any node sends the deliveries through channels, each at least
// once. The only code of this package that runs during a call is Networks.Charged.
package alert

import (
	"time"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// Kind is the kind of an alert.
type Kind string

// The kinds of alerts.
const (
	Balance Kind = "balance" // the live balance of an account is below its threshold
	Cap     Kind = "cap"     // the spending of a key has reached 50, 80 or 95 % of one of its caps
	Spend   Kind = "spend"   // a key spends far more than is usual for a day
	Tool    Kind = "tool"    // a key pays for a tool for the first time
	Network Kind = "network" // a key pays for a call from a new network
	Test    Kind = "test"    // sent by Service.SendTest, and never stored
)

// Kinds are the kinds that are stored.
var Kinds = []Kind{Balance, Cap, Spend, Tool, Network}

// Alert is a raised alert.
type Alert struct {
	ID      string // "alr_" and a UUIDv7
	Kind    Kind
	Account string // id of the account
	Key     string // lineage of the key; "" if the kind is Balance
	At      time.Time
	Data    Data
}

// Data describes the event of an alert. Its JSON is stored, and sent to webhooks.
type Data struct {
	KeyName string         `json:"key_name,omitempty"`
	KeyHint string         `json:"key_hint,omitempty"` // prefix and last characters of the secret
	Amount  *ledger.Amount `json:"amount,omitempty"`   // the balance, or the amount that was spent
	Limit   *ledger.Amount `json:"limit,omitempty"`    // the threshold, the cap, or the usual spending of a day
	Percent int            `json:"percent,omitempty"`  // for Cap: the percentage of the cap that is spent: 50, 80 or 95
	Period  ledger.Period  `json:"period,omitempty"`   // for Cap: day or month
	Server  string         `json:"server,omitempty"`   // for Tool: the server that has the tool
	Tool    string         `json:"tool,omitempty"`
	Network string         `json:"network,omitempty"` // in CIDR notation
	// Unsent says that the alert has no deliveries, because too many alerts of the
	// kind were raised for the account within the hour.
	Unsent bool `json:"unsent,omitempty"`
}

// Settings say which alerts an account gets.
type Settings struct {
	Balance  ledger.Amount // threshold of the live balance; 0 means no alerts
	Caps     bool          // alerts at 50, 80 and 95 % of each cap of a key
	Spend    int64         // alert if a key spends more in a day than this many times its usual spending of a day; 0 means no alerts
	Tools    bool          // alert if a key pays for a tool for the first time
	Networks bool          // alert if a key pays for a call from a new network
}

// Defaults are the settings of an account that never changed its settings.
var Defaults = Settings{Caps: true, Spend: 5}

// MaxSpend bounds Settings.Spend.
const MaxSpend = 1000

// Kept is the time for which raised alerts are kept.
const Kept = 90 * 24 * time.Hour
