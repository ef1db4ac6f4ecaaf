package alert

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// Channel sends alerts out of Farebox, for example as email. Its methods are safe for
// concurrent use.
type Channel interface {
	// Name returns a word that identifies the channel in metrics, in deliveries and in
	// messages for operators. The channels of one config have different names.
	Name() string
	// Targets returns the targets for alerts of the account. Deliveries store their
	// target, so a target must not contain a secret. The target of a channel that has
	// only one is "". If account is "", Targets returns the operator's targets, for a
	// test.
	Targets(ctx context.Context, account string) ([]string, error)
	// Send sends a message to a target. It may be called more than once with the same
	// message. It returns ErrNoTarget if the target no longer exists, and
	// ErrNotConfigured if this channel does not have the target. The text of an error
	// contains no secret.
	Send(ctx context.Context, target string, m *Message) error
}

// Errors of Channel.Send. After ErrNoTarget, the delivery is given up. After
// ErrNotConfigured, the delivery is tried again, because another node may have a newer
// config.
var (
	ErrNoTarget      = errors.New("the target does not exist any more")
	ErrNotConfigured = errors.New("the config of the gateway does not have the target")
)

// Message is an alert with its texts.
type Message struct {
	Alert
	AccountName string // "" if the alert's kind is Test
	Currency    string
	Title       string
	Detail      string
}

// Accounts gives access to the accounts of the store. *admin.Service implements it.
type Accounts interface {
	// Account returns the account with the name or id, or an *admin.Error.
	Account(ctx context.Context, ref string) (ledger.Account, error)
	// AccountNames returns the names of accounts by id. It leaves out unknown ids.
	AccountNames(ctx context.Context, ids []string) (map[string]string, error)
	// Moment parses a time that an operator has typed. It returns the zero time for "".
	Moment(parameter, text string) (time.Time, error)
}

// Metrics counts alerts and deliveries.
type Metrics interface {
	AlertRaised(kind string)
	AlertDelivered(channel, outcome string)
}

// Options are the settings and dependencies of a Service that never change. All fields
// except Logger and Metrics must be set.
type Options struct {
	Now      func() time.Time // truncated to microseconds
	NewID    func(prefix string) string
	Accounts Accounts
	Books    Books
	Metrics  Metrics
	Logger   *slog.Logger
}

// Config is the part of the operator's config that concerns alerts.
type Config struct {
	Channels []Channel
	// Every is the pause between two evaluations. If Every is 0, it is DefaultEvery.
	Every    time.Duration
	Currency string
}

// DefaultEvery is the default pause between two evaluations.
const DefaultEvery = 30 * time.Second

// Service raises, stores and delivers alerts. It is safe for concurrent use.
type Service struct {
	store      Store
	o          Options
	current    atomic.Pointer[Config]
	configured chan struct{} // closed by the first call of Configure
	once       sync.Once
	raised     chan struct{} // has a value after an alert was raised
	changed    chan struct{} // has a value after settings were changed
	networks   *Networks
	failing    failing

	evaluating sync.Mutex // guards the fields below
	usual      usual
	sweptTo    string    // the account up to which balances were compared with thresholds in the present round; "" at the beginning
	pruned     time.Time // the time of the last deletion
	forgotten  place     // the place that forget has reached
	halved     int       // how many times the number of transactions per step is halved, because steps failed
}

// New returns a service on the store. Evaluations begin with Run.
func New(store Store, o Options) *Service {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Metrics == nil {
		o.Metrics = uncounted{}
	}
	s := &Service{
		store: store, o: o, configured: make(chan struct{}), raised: make(chan struct{}, 1), changed: make(chan struct{}, 1),
		networks: newNetworks(), failing: failing{since: make(map[string]time.Time)},
	}
	s.current.Store(&Config{Every: DefaultEvery})
	return s
}

type uncounted struct{}

func (uncounted) AlertRaised(string)            {}
func (uncounted) AlertDelivered(string, string) {}

// Configure applies a config. The caller must not change c.Channels afterwards.
func (s *Service) Configure(c Config) {
	c.Every = cmp.Or(c.Every, DefaultEvery)
	s.current.Store(&c)
	s.once.Do(func() { close(s.configured) })
	wake(s.raised)
}

// wake sends a value on a channel with a buffer for one value, unless the buffer is
// full.
func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Networks returns the record of the networks from which keys are used.
func (s *Service) Networks() *Networks { return s.networks }

// Channels returns the names of the configured channels.
func (s *Service) Channels() (names []string) {
	for _, c := range s.current.Load().Channels {
		names = append(names, c.Name())
	}
	return names
}

// SettingsOf returns the settings of the account with the name or id.
func (s *Service) SettingsOf(ctx context.Context, ref string) (account ledger.Account, settings Settings, err error) {
	if account, err = s.o.Accounts.Account(ctx, ref); err != nil {
		return account, settings, err
	}
	err = s.store.View(ctx, func(tx Tx) error {
		settings, err = settingsOf(tx, account.ID)
		return err
	})
	return account, settings, err
}

func settingsOf(tx Tx, account string) (Settings, error) {
	found, err := tx.Settings([]string{account})
	if s, ok := found[account]; ok {
		return s, err
	}
	return Defaults, err
}

// SettingsChange changes the settings of an account. Nil fields remain unchanged.
type SettingsChange struct {
	Balance  *ledger.Amount `json:"balance,omitempty" doc:"Alert when less than this is available to live keys; 0 for never"`
	Caps     *bool          `json:"caps,omitempty" doc:"Alert when 50, 80 and 95 % of a cap of a key are spent: true or false"`
	Spend    *int64         `json:"spend,omitempty" doc:"Alert when a key spends more than this many times its usual day; 0 for never"`
	Tools    *bool          `json:"tools,omitempty" doc:"Alert when a key pays for a tool for the first time: true or false"`
	Networks *bool          `json:"networks,omitempty" doc:"Alert when a key is used from a new network: true or false"`
}

func (c *SettingsChange) apply(s *Settings) error {
	if *c == (SettingsChange{}) {
		return refuse(admin.Invalid, "nothing to change: give balance, caps, spend, tools or networks, and not null")
	}
	if c.Balance != nil {
		if *c.Balance < 0 {
			return refuse(admin.Invalid, "the threshold of the balance cannot be below zero: %s; 0 ends the alerts", *c.Balance)
		}
		s.Balance = *c.Balance
	}
	if c.Spend != nil {
		if *c.Spend != 0 && (*c.Spend < 2 || *c.Spend > MaxSpend) {
			return refuse(admin.Invalid, "spend is how many times the usual day, from 2 to %d, and 0 ends the alerts: not %d", MaxSpend, *c.Spend)
		}
		s.Spend = *c.Spend
	}
	for _, f := range []struct {
		asked *bool
		to    *bool
	}{{c.Caps, &s.Caps}, {c.Tools, &s.Tools}, {c.Networks, &s.Networks}} {
		if f.asked != nil {
			*f.to = *f.asked
		}
	}
	return nil
}

// armBalance sets the state of the account's balance to armedBalance, but keeps the
// time of the last alert. So turning the alerts off and on again raises no second alert
// within balancePause.
func armBalance(tx Tx, account string) error {
	states, err := tx.States(Balance, []string{account})
	if state, known := states[account]; err == nil && known {
		state.Level = armedBalance
		err = tx.PutState(state)
	}
	return err
}

// Set changes the settings of the account with the name or id. If the balance is below
// a new threshold and was not below the old one, the next evaluation raises an alert.
func (s *Service) Set(ctx context.Context, actor admin.Actor, ref string, c SettingsChange) (account ledger.Account, settings Settings, err error) {
	if account, err = s.o.Accounts.Account(ctx, ref); err != nil {
		return account, settings, err
	}
	err = s.store.Change(ctx, func(tx Tx) error {
		before, err := settingsOf(tx, account.ID)
		if err != nil {
			return err
		}
		settings = before
		if err := c.apply(&settings); err != nil {
			return err
		}
		if settings.Balance == 0 {
			if err := armBalance(tx, account.ID); err != nil {
				return err
			}
		}
		if err := tx.PutSettings(account.ID, settings, s.o.Now()); err != nil {
			return err
		}
		return tx.Audit(s.audit(actor, "alert.set", account.ID, c))
	})
	if err == nil {
		wake(s.changed)
	}
	return account, settings, err
}

// Query selects alerts to list.
type Query struct {
	ledger.Page
	Account string // name or id of an account; "" for all accounts
	Kind    string // "" for all kinds
	Since   string // a time in one of the forms that admin.ChargeQuery accepts
}

// Listed is an alert with its texts and deliveries.
type Listed struct {
	Message
	Deliveries []Delivery
}

// List lists alerts, newest first. It also returns the cursor of the next page, which
// is "" on the last page.
func (s *Service) List(ctx context.Context, q Query) (list []Listed, next string, err error) {
	f := Filter{Page: q.Page, Kind: Kind(q.Kind)}
	if f.Since, err = s.o.Accounts.Moment("since", q.Since); err != nil {
		return nil, "", err
	}
	if f.Kind != "" && !slices.Contains(Kinds, f.Kind) {
		return nil, "", refuse(admin.Invalid, "kind %q is not known: want balance, cap, spend, tool or network", oneLine(q.Kind))
	}
	if q.Account != "" {
		account, err := s.o.Accounts.Account(ctx, q.Account)
		if err != nil {
			return nil, "", err
		}
		f.Account = account.ID
	}
	err = s.store.View(ctx, func(tx Tx) error {
		var found []Alert
		if found, next, err = tx.List(ctx, f); err != nil {
			return err
		}
		ids := make([]string, len(found))
		for i := range found {
			list, ids[i] = append(list, Listed{Message: Message{Alert: found[i]}}), found[i].ID
		}
		deliveries, err := tx.DeliveriesOf(ids)
		for _, d := range deliveries {
			i := slices.Index(ids, d.Alert.ID)
			list[i].Deliveries = append(list[i].Deliveries, d)
		}
		return err
	})
	if err != nil {
		return nil, "", err
	}
	messages := make([]*Message, len(list))
	for i := range list {
		messages[i] = &list[i].Message
	}
	return list, next, s.describe(ctx, messages...)
}

// describe sets the account name, the currency and the texts of messages.
func (s *Service) describe(ctx context.Context, messages ...*Message) error {
	var ids []string
	for _, m := range messages {
		if m.Account != "" {
			ids = append(ids, m.Account)
		}
	}
	slices.Sort(ids)
	names, err := s.o.Accounts.AccountNames(ctx, slices.Compact(ids))
	if err != nil {
		return err
	}
	for _, m := range messages {
		m.AccountName, m.Currency = names[m.Account], s.current.Load().Currency
		t := Texts{Account: cmp.Or(m.AccountName, m.Account), Currency: m.Currency}
		m.Title, m.Detail = t.Title(&m.Alert), t.Detail(&m.Alert)
	}
	return nil
}

func (s *Service) audit(actor admin.Actor, action, target string, detail any) ledger.Audit {
	text, err := json.Marshal(detail)
	if err != nil {
		panic(err) // cannot fail: details are structs of amounts, numbers and flags
	}
	return ledger.Audit{At: s.o.Now(), Actor: actor.Name, From: actor.From, Action: action, Target: target, Detail: string(text)}
}

func refuse(code admin.Code, format string, args ...any) error {
	return &admin.Error{Code: code, Message: fmt.Sprintf(format, args...)}
}
