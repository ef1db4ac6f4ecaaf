package ops

import (
	"context"
	"net/http"
	"time"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/alert"
	"github.com/fareboxhq/farebox/internal/identity"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/wire"
)

// OnAlerts returns the operations on alerts.
func OnAlerts() []Op[*alert.Service] {
	return []Op[*alert.Service]{ListAlerts, ShowAlertSettings, SetAlerts, TestAlerts}
}

// AlertView is an alert in JSON.
type AlertView struct {
	ID          string         `json:"id"`
	At          time.Time      `json:"at"`
	Kind        string         `json:"kind" doc:"balance, cap, spend, tool or network"`
	Account     string         `json:"account"`
	AccountName string         `json:"account_name"`
	Key         string         `json:"key,omitempty" doc:"The lineage of the key: the id of its first key"`
	Title       string         `json:"title"`
	Detail      string         `json:"detail"`
	Data        alert.Data     `json:"data"`
	Deliveries  []DeliveryView `json:"deliveries" doc:"One for each webhook and each recipient of e-mail"`
}

// DeliveryView is the delivery of an alert in JSON.
type DeliveryView struct {
	Channel  string     `json:"channel"`
	State    string     `json:"state" doc:"pending, delivered or given up"`
	Attempts int64      `json:"attempts"`
	NextAt   *time.Time `json:"next_at,omitempty" doc:"The next attempt, while the delivery is pending"`
	Problem  string     `json:"problem,omitempty" doc:"Why the last attempt failed"`
}

func viewAlert(a alert.Listed) AlertView {
	v := AlertView{
		ID: a.ID, At: a.At, Kind: string(a.Kind), Account: a.Account, AccountName: a.AccountName, Key: a.Key, Title: a.Title, Detail: a.Detail, Data: a.Data, Deliveries: []DeliveryView{},
	}
	for i := range a.Deliveries {
		d := &a.Deliveries[i]
		view := DeliveryView{Channel: d.Channel, State: d.State.String(), Attempts: d.Attempts, Problem: d.Problem}
		if d.State == alert.Pending {
			view.NextAt = &d.NextAt
		}
		v.Deliveries = append(v.Deliveries, view)
	}
	return v
}

// AlertFilter selects the alerts that match all of its parameters.
type AlertFilter struct {
	Account string `query:"account" maxLength:"254" doc:"Only alerts of the account with this name or id"`
	Kind    string `query:"kind" enum:"balance,cap,spend,tool,network" doc:"Only alerts of this kind"`
	Since   string `query:"since" maxLength:"64" doc:"Only alerts since then: a time before now, such as 36h or 7d, a day (UTC), or a time" example:"7d"`
}

type listAlerts struct {
	AlertFilter
	Page
}

// ListAlerts lists alerts.
var ListAlerts = Define(Operation{
	ID: "alert.list", Method: http.MethodGet, Path: "/alerts", Needs: identity.View, Tag: "alerts",
	Summary: "List the alerts of the last 90 days, newest first", Command: "alert list", Problems: []wire.Code{wire.NotFound},
}, func(ctx context.Context, s *alert.Service, _ *identity.Principal, in *listAlerts) (admin.List[AlertView], error) {
	list, next, err := s.List(ctx, alert.Query{Page: in.page(), Account: in.Account, Kind: in.Kind, Since: in.Since})
	return admin.ViewList(list, next, viewAlert), err
})

// AlertSettingsView has the alerts that an account wants, in JSON.
type AlertSettingsView struct {
	Account     string        `json:"account"`
	AccountName string        `json:"account_name"`
	Balance     ledger.Amount `json:"balance" doc:"Alert when less than this is available to live keys; 0 means never"`
	Caps        bool          `json:"caps" doc:"Alert when 50, 80 and 95 % of a cap of a key are spent"`
	Spend       int64         `json:"spend" doc:"Alert when a key spends more than this many times its usual day; 0 means never"`
	Tools       bool          `json:"tools" doc:"Alert when a key pays for a tool for the first time"`
	Networks    bool          `json:"networks" doc:"Alert when a key is used from a new network"`
	Channels    []string      `json:"channels" doc:"The ways in which alerts are sent; without any they are only listed"`
}

func viewAlertSettings(s *alert.Service, a ledger.Account, set alert.Settings, err error) (AlertSettingsView, error) {
	return AlertSettingsView{a.ID, a.Name, set.Balance, set.Caps, set.Spend, set.Tools, set.Networks, append([]string{}, s.Channels()...)}, err
}

// ShowAlertSettings shows the alerts that an account wants.
var ShowAlertSettings = Define(Operation{
	ID: "alert.settings", Method: http.MethodGet, Path: "/accounts/{ref}/alerts", Needs: identity.View, Tag: "alerts",
	Summary: "Show which alerts an account wants", Command: "alert settings <account>", Problems: []wire.Code{wire.NotFound},
}, func(ctx context.Context, s *alert.Service, _ *identity.Principal, in *AccountPath) (AlertSettingsView, error) {
	a, set, err := s.SettingsOf(ctx, in.Ref)
	return viewAlertSettings(s, a, set, err)
})

type setAlerts struct {
	AccountPath
	Body alert.SettingsChange
}

// SetAlerts changes the alerts that an account wants.
var SetAlerts = Define(Operation{
	ID: "alert.set", Method: http.MethodPatch, Path: "/accounts/{ref}/alerts", Needs: identity.ManageAlerts, Tag: "alerts",
	Summary: "Choose which alerts an account wants", Description: "Absent members stay.",
	Command: "alert set <account>", Audited: true, Problems: []wire.Code{wire.NotFound},
}, func(ctx context.Context, s *alert.Service, by *identity.Principal, in *setAlerts) (AlertSettingsView, error) {
	a, set, err := s.Set(ctx, actor(by), in.Ref, in.Body)
	return viewAlertSettings(s, a, set, err)
})

// AlertTestView is the outcome of a test message in JSON.
type AlertTestView struct {
	Channel string `json:"channel"`
	Target  string `json:"target" doc:"The address of an e-mail, or the short hash of a webhook's URL"`
	Sent    bool   `json:"sent"`
	Problem string `json:"problem,omitempty"`
}

// TestAlerts sends a test message.
var TestAlerts = Define(Operation{
	ID: "alert.test", Method: http.MethodPost, Path: "/alerts/test", Needs: identity.Operate, Tag: "alerts",
	Summary: "Send a test message to each webhook and to the operators' e-mail addresses", Command: "alert test", Audited: true,
}, func(ctx context.Context, s *alert.Service, by *identity.Principal, _ *None) (admin.List[AlertTestView], error) {
	outcomes, err := s.SendTest(ctx, actor(by))
	return admin.ViewList(outcomes, "", func(t alert.Tested) AlertTestView {
		v := AlertTestView{Channel: t.Channel, Target: t.Target, Sent: t.Err == nil}
		if t.Err != nil {
			v.Problem = t.Err.Error()
		}
		return v
	}), err
})
