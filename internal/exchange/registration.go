package exchange

import (
	"net/http"

	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/registration"
)

// lostRegistration reports whether a refused request is a registration that was
// sent to the server's own path. The body of such a request was read and is not an
// MCP message.
func (x *Exchange) lostRegistration(r *gate.Refusal) bool {
	return x.stage == consumed && refusalForms[r.Code].status == http.StatusUnauthorized && x.site.Resource == nil && registration.Asks(x.r)
}

func (x *Exchange) refuseRegistration() {
	x.count("registration")
	x.head(x.w.Header())
	registration.Refuse(x.w, x.site.Secrets, x.site.KeyHeader.name, x.site.Contact)
}
