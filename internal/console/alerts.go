package console

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/alert"
	"github.com/fareboxhq/farebox/internal/ops"
)

// alertsData is the data of alerts.html.
type alertsData struct {
	listing[ops.AlertView]
	Settings *ops.AlertSettingsView // nil on the page of all accounts
	Tested   []ops.AlertTestView    // the outcome of a test that was just made
	Kinds    []alert.Kind
}

func (v *visit) alerts() error { return v.showAlerts(nil) }

func (v *visit) showAlerts(tested []ops.AlertTestView) error {
	filters := v.filters("account", "kind", "since")
	if v.account != "" {
		filters.Set("account", v.account)
	}
	rows, err := list[ops.AlertView](v, "alerts", filters)
	if err != nil {
		return err
	}
	data := alertsData{rows, nil, tested, alert.Kinds}
	if v.account != "" {
		if data.Settings, err = get[ops.AlertSettingsView](v, "accounts/"+v.account+"/alerts", nil); err != nil {
			return err
		}
	}
	return v.show("alerts", "alerts", "Alerts", data)
}

// setAlerts changes the alerts that an account wants. A checkbox that is not in the form
// was cleared.
func (v *visit) setAlerts() error {
	form := v.r.PostForm
	balance, err := v.optionalAmount("balance")
	if err != nil {
		return err
	}
	spend := int64(0)
	if text := strings.TrimSpace(form.Get("spend")); text != "" {
		if spend, err = strconv.ParseInt(text, 10, 64); err != nil {
			return &failure{http.StatusBadRequest, "The alerts were not changed", "Unusual spending is a whole number, such as 5, or empty. Go back and correct it."}
		}
	}
	c := alert.SettingsChange{
		Balance: balance, Spend: &spend, Caps: new(form.Get("caps") != ""), Tools: new(form.Get("tools") != ""), Networks: new(form.Get("networks") != ""),
	}
	if _, err := change[ops.AlertSettingsView](v, http.MethodPatch, "accounts/"+v.account+"/alerts", nil, c); err != nil {
		return err
	}
	return v.done("alerts", "accounts", v.account, "alerts")
}

// testAlerts sends a test message, and shows the outcome for each target.
func (v *visit) testAlerts() error {
	found, err := post[admin.List[ops.AlertTestView]](v, "alerts/test", nil)
	if err != nil {
		return err
	}
	return v.showAlerts(found.Items)
}

// manyAlerts is the highest number of alerts that the overview counts.
const manyAlerts = 100

// recentAlerts returns a note about the alerts of the last day. It returns nil without
// such alerts.
func (v *visit) recentAlerts() (*attention, error) {
	found, err := get[admin.List[ops.AlertView]](v, "alerts", url.Values{"since": {"24h"}, "limit": {strconv.Itoa(manyAlerts)}})
	if err != nil || len(found.Items) == 0 {
		return nil, err
	}
	text := "1 alert in the last 24 hours: " + found.Items[0].Title
	if n := len(found.Items); n > 1 {
		text = fmt.Sprintf("%d alerts in the last 24 hours", n)
	}
	if found.Next != "" {
		text = "More than " + text
	}
	return &attention{text, v.c.path("alerts") + "?since=24h"}, nil
}
