package engine

import (
	"github.com/fareboxhq/farebox/internal/callrecord"
	"github.com/fareboxhq/farebox/internal/callstore"
)

// NewCalls returns the records of calls in a store. It returns nil for the store of a
// platform's gateway, which does not record calls.
func NewCalls(store Store) *callstore.Store {
	backend, ok := store.(callstore.Backend)
	if !ok {
		return nil
	}
	return callstore.New(backend)
}

// Calls returns the recorder of calls that charged nothing, or nil if the store keeps no
// records. Users of the recorder must hold a reference to the runtime; see Acquire.
func (r *Runtime) Calls() *callrecord.Recorder { return r.calls }

// ConfigureCalls applies a config's settings of records to the running runtime. It does
// nothing if the store keeps no records.
func (r *Runtime) ConfigureCalls(s callrecord.Settings) {
	if r.calls != nil {
		r.calls.Configure(s)
	}
}
