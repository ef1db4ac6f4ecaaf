package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/ops"
	"github.com/fareboxhq/farebox/internal/table"
)

// sentBy describes the deliveries of an alert: the channels, with the state of each
// delivery that has not succeeded.
func sentBy(deliveries []ops.DeliveryView) string {
	var all []string
	counts := make(map[string]int)
	for _, d := range deliveries {
		text := d.Channel
		if d.State != "delivered" {
			text += " (" + d.State + ")"
		}
		if counts[text]++; counts[text] == 1 {
			all = append(all, text)
		}
	}
	for i, text := range all {
		if n := counts[text]; n > 1 {
			all[i] = fmt.Sprintf("%d %s", n, text)
		}
	}
	return orDash(strings.Join(all, ", "))
}

func printAlertSettings(w io.Writer, s ops.AlertSettingsView) {
	never := func(on bool, text string) string {
		if on {
			return text
		}
		return "never"
	}
	table.Fields(w,
		"account", s.AccountName, "balance", never(s.Balance > 0, fmt.Sprintf("below %s", s.Balance)), "caps", never(s.Caps, "50, 80 and 95 % spent"),
		"spend", never(s.Spend > 0, fmt.Sprintf("above %d times the usual day", s.Spend)), "tools", never(s.Tools, "paid for the first time"),
		"networks", never(s.Networks, "used for the first time"), "sent by", orDash(strings.Join(s.Channels, ", ")))
}

func printAlertTest(w io.Writer, l admin.List[ops.AlertTestView]) {
	for _, t := range l.Items {
		if t.Sent {
			fmt.Fprintf(w, "%s %s: sent\n", t.Channel, t.Target)
		} else {
			fmt.Fprintf(w, "%s %s: not sent: %s\n", t.Channel, t.Target, t.Problem)
		}
	}
	if len(l.Items) == 0 {
		fmt.Fprintln(w, "There is no target for a test: e-mails go to owners only.")
	}
}
