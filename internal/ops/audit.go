package ops

import (
	"context"
	"net/http"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/identity"
)

func auditOps() []Op[*admin.Service] { return []Op[*admin.Service]{ListAudit} }

// ListAudit lists the audit log.
var ListAudit = Define(Operation{
	ID: "audit.list", Method: http.MethodGet, Path: "/audit", Needs: identity.View, Tag: "ledger",
	Summary: "List the actions of operators, newest first", Command: "audit list",
}, func(ctx context.Context, s *admin.Service, _ *identity.Principal, in *Page) (admin.List[admin.AuditView], error) {
	rows, next, err := s.AuditLog(ctx, in.page())
	return admin.ViewList(rows, next, admin.ViewAudit), err
})
