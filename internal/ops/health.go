package ops

import (
	"context"
	"net/http"

	"github.com/fareboxhq/farebox/internal/identity"
)

// OnHealth returns the operations on the health of the process. They need no store,
// and are answered while the store is down.
func OnHealth() []Op[Health] { return []Op[Health]{ShowHealth} }

// Health gives access to the state of the process.
type Health interface {
	// Health reports whether the process is ready, and the reasons if it is not.
	Health() HealthView
}

// HealthView is the health of the process, in JSON.
type HealthView struct {
	Status  string       `json:"status" doc:"ready or not_ready"`
	Reasons []ReasonView `json:"reasons,omitempty" doc:"Why it is not ready"`
}

// ReasonView is a reason why the process is not ready, in JSON.
type ReasonView struct {
	Code    string `json:"code" doc:"DRAINING, STARTING, STORE_DOWN or KEYS_STALE"`
	Message string `json:"message"`
	Detail  string `json:"detail,omitempty" doc:"The cause, as far as it is known"`
}

// The statuses of a HealthView.
const (
	StatusReady    = "ready"
	StatusNotReady = "not_ready"
)

// Code returns the HTTP status for the view: 200 if the process is ready, 503
// otherwise.
func (v *HealthView) Code() int {
	if v.Status == StatusReady {
		return http.StatusOK
	}
	return http.StatusServiceUnavailable
}

// answeredHealth is the response of ShowHealth. Its HTTP status is the result of
// HealthView.Code.
type answeredHealth struct {
	Status int
	Body   HealthView
}

// ShowHealth shows whether the process is ready. If the process is not ready, the
// status of the response is 503.
var ShowHealth = showHealth(complete[None, HealthView](Operation{
	ID: "health.show", Method: http.MethodGet, Path: "/health", Needs: identity.Operate, Tag: "health",
	Summary: "Show whether the gateway can serve calls, and why not", Description: "The status is 503 if it cannot.", Command: "health",
}))

func showHealth(o Operation) Op[Health] {
	return Op[Health]{o, func(m *Mount, open Open[Health]) {
		handle(m, &o, func(ctx context.Context, _ *None) (*answeredHealth, error) {
			health, release, err := open()
			if err != nil {
				return nil, m.problem(ctx, o.ID, err)
			}
			defer release()
			m.done(ctx)
			view := health.Health()
			return &answeredHealth{view.Code(), view}, nil
		})
	}}
}
