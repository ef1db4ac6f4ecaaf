package ops

import (
	"context"
	"net/http"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/identity"
	"github.com/fareboxhq/farebox/internal/wire"
)

func usageOps() []Op[*admin.Service] { return []Op[*admin.Service]{ShowUsage} }

// UsageFilter selects the charges of a report that match all of its parameters, and
// says how they are summed up.
type UsageFilter struct {
	By          string `query:"by" enum:"hour,day,month" doc:"The length of the periods, in UTC; days if absent"`
	Group       string `query:"group" enum:"none,account,key,server,tool" doc:"What has sums of its own in each period; one sum for all charges if absent"`
	Account     string `query:"account" maxLength:"254" doc:"Only charges that the account with this name or id paid"`
	Provider    string `query:"provider" maxLength:"254" doc:"Only charges that the account with this name or id earned"`
	Key         string `query:"key" maxLength:"64" doc:"Only charges by the key with this id, the keys that it replaced, and its successors"`
	Server      string `query:"server" maxLength:"64" doc:"Only charges at this server"`
	Tool        string `query:"tool" maxLength:"1100" doc:"Only charges for this tool"`
	Environment string `query:"environment" enum:"live,test" doc:"Charges by live keys or by test keys; live if absent"`
	Since       string `query:"since" maxLength:"64" doc:"Only periods since then, with the one that it is in: a time before now, such as 36h or 7d, a day (UTC), or a time" example:"2026-11-01"`
	Until       string `query:"until" maxLength:"64" doc:"Only periods that begin before then; in the form of since"`
}

type showUsage struct {
	UsageFilter
	Page
}

// ShowUsage sums charges up by periods.
var ShowUsage = Define(Operation{
	ID: "usage.show", Method: http.MethodGet, Path: "/usage", Needs: identity.View, Tag: "charges",
	Summary:     "Sum charges and refunds up, by hours, days or months",
	Description: "A refund counts in the period in which it was made. Periods without charges and refunds have no item. A page may have fewer items than its limit, or none, and not be the last.",
	Command:     "usage", Problems: []wire.Code{wire.NotFound},
}, func(ctx context.Context, s *admin.Service, _ *identity.Principal, in *showUsage) (admin.UsageView, error) {
	return s.Usage(ctx, admin.UsageQuery{
		Page: in.page(), Account: in.Account, Provider: in.Provider, Key: in.Key, Server: in.Server, Tool: in.Tool,
		Environment: in.Environment, Since: in.Since, Until: in.Until, By: in.By, Group: in.Group,
	})
})
