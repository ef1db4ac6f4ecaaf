package ops

import (
	"context"
	"net/http"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/identity"
	"github.com/fareboxhq/farebox/internal/wire"
)

func callOps() []Op[*admin.Service] { return []Op[*admin.Service]{ListCalls} }

type listCalls struct {
	Account string `query:"account" maxLength:"254" doc:"Only calls by the account with this name or id"`
	Key     string `query:"key" maxLength:"64" doc:"Only calls by the key with this id"`
	Server  string `query:"server" maxLength:"64" doc:"Only calls at this server"`
	Tool    string `query:"tool" maxLength:"1100" doc:"Only calls for this entry of the price book"`
	Outcome string `query:"outcome" enum:"refused,failed,free" doc:"Only calls with this outcome"`
	Code    string `query:"code" maxLength:"64" doc:"Only calls with this code" example:"INSUFFICIENT_BALANCE"`
	Since   string `query:"since" maxLength:"64" doc:"Only calls since then: a time before now, such as 36h or 7d, a day (UTC), or a time" example:"2026-11-30"`
	Until   string `query:"until" maxLength:"64" doc:"Only calls before then; in the form of since"`
	Page
}

// ListCalls lists records of calls that charged nothing.
var ListCalls = Define(Operation{
	ID: "call.list", Method: http.MethodGet, Path: "/calls", Needs: identity.View, Tag: "charges",
	Summary: "List calls that were refused or failed, newest first", Description: "Free calls are listed if the config has them recorded. A page may have fewer items than its limit, or none, and not be the last.",
	Command: "call list", Problems: []wire.Code{wire.NotFound},
}, func(ctx context.Context, s *admin.Service, _ *identity.Principal, in *listCalls) (admin.List[admin.CallView], error) {
	return s.Calls(ctx, admin.CallQuery{
		Page: in.page(), Account: in.Account, Key: in.Key, Server: in.Server, Tool: in.Tool,
		Outcome: in.Outcome, Code: in.Code, Since: in.Since, Until: in.Until,
	})
})
