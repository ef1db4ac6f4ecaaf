package ops

import (
	"context"
	"net/http"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/identity"
	"github.com/fareboxhq/farebox/internal/wire"
)

func auditOps() []Op[*admin.Service] { return []Op[*admin.Service]{ListAudit} }

// AuditFilter selects the audit records that match all of its parameters.
type AuditFilter struct {
	Actor   string `query:"actor" maxLength:"128" doc:"Only actions of this actor: the id of a key, 'admin endpoint', 'offline', 'config' or 'gateway'"`
	Action  string `query:"action" maxLength:"64" doc:"Only actions of this kind" example:"key.delete"`
	Account string `query:"account" maxLength:"254" doc:"Only actions on the account with this name or id; not those on its keys"`
	Key     string `query:"key" maxLength:"64" doc:"Only actions on the key with this id, and the rotation that made it"`
	Target  string `query:"target" maxLength:"128" doc:"Only actions on the object with this id, such as a charge or a person"`
	Since   string `query:"since" maxLength:"64" doc:"Only actions since then: a time before now, such as 36h or 7d, a day (UTC), or a time" example:"2026-11-30"`
	Until   string `query:"until" maxLength:"64" doc:"Only actions before then; in the form of since"`
}

type listAudit struct {
	AuditFilter
	Page
}

// ListAudit lists the audit log.
var ListAudit = Define(Operation{
	ID: "audit.list", Method: http.MethodGet, Path: "/audit", Needs: identity.View, Tag: "ledger",
	Summary: "List the actions of operators, newest first", Command: "audit list", Problems: []wire.Code{wire.NotFound},
}, func(ctx context.Context, s *admin.Service, _ *identity.Principal, in *listAudit) (admin.List[admin.AuditView], error) {
	rows, next, err := s.AuditLog(ctx, admin.AuditQuery{
		Page: in.page(), Actor: in.Actor, Action: in.Action, Account: in.Account, Key: in.Key, Target: in.Target, Since: in.Since, Until: in.Until,
	})
	return admin.ViewList(rows, next, admin.ViewAudit), err
})
