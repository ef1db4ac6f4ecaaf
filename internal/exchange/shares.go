package exchange

import (
	"net/http"
	"time"

	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/share"
)

// holder returns the caller as a holder of shares.
func (x *Exchange) holder() share.Holder {
	return share.Holder{
		Address: x.client(), Account: x.caller.Account, Lineage: x.caller.Lineage,
		Paid: x.site.Shares.Payers.Paid(x.caller.Account),
	}
}

// enter counts a request with a known key among those in flight. Streams that stay
// open are counted separately.
func (x *Exchange) enter() *gate.Refusal {
	if !x.caller.Known() { // a preflight, the only request that is served without a key
		return nil
	}
	holder := x.holder()
	if !x.host.CountConnection(x.r, holder) { // the holder has too many connections: close this one after the response
		x.w.Header().Set("Connection", "close")
		x.base.Set("Connection", "close")
	}
	x.site.Shares.Memory.Open(&x.memory, holder)
	if x.r.Method == http.MethodGet {
		return nil
	}
	x.site.Shares.Calls.Open(&x.flight, holder)
	if err := x.flight.Take(1); err != nil {
		return shareRefusal(err)
	}
	return nil
}

// shareWait is the time after which a holder without any share left may try again.
const shareWait = time.Second

// shareRefusal returns the refusal for a share.RefusedError.
func shareRefusal(err error) *gate.Refusal {
	switch share.ClassOf(err) {
	case share.Key, share.Account:
		return &gate.Refusal{
			Code: gate.RateLimited, Cause: err, RetryAfter: shareWait,
			Reason: "This request was not served and nothing was charged: " + err.Error() + ". Wait until other requests have ended, then ask again.",
		}
	default:
		return &gate.Refusal{Code: gate.StoreUnavailable, Cause: err}
	}
}
