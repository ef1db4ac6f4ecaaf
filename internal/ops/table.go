package ops

import (
	"log/slog"
	"slices"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/identity"
)

// Store returns the operations on accounts, keys and money, which need a store.
func Store() []Op[*admin.Service] {
	return slices.Concat(accountOps(), keyOps(), chargeOps(), callOps(), usageOps(), ledgerOps(), auditOps(), receiptOps(), backupOps())
}

// All returns the descriptions of all operations, in a fixed order.
func All() []Operation {
	return slices.Concat(Describe(Store()), Describe(OnPeople()), Describe(OnAlerts()), Describe(OnGrants()), Describe(OnServers()), Describe(OnNodes()), Describe(OnHealth()))
}

// AdminBase is the base of the admin endpoint.
const AdminBase = "/farebox"

// NewAdminEndpoint returns a mount for the admin endpoint, without operations.
func NewAdminEndpoint(auth identity.Authenticator, logger *slog.Logger) *Mount {
	const hint = "use the farebox commands as the user that runs the server"
	return NewMount(MountOptions{
		Base: AdminBase, Auth: auth, Logger: logger, Title: "Farebox admin endpoint",
		Unknown:     "is the command of the same version as the server?",
		Credential:  "admin token",
		Missing:     "the admin token is missing or wrong: " + hint,
		Wrong:       "the admin token is missing or wrong: " + hint,
		Realm:       "farebox admin",
		Private:     true,
		Unavailable: "the store is unavailable, see the server's log: try again later",
	})
}
