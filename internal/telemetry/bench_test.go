package telemetry

import (
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/gate"
)

// BenchmarkPaidCall measures the time for all metrics that one paid call changes, with
// several goroutines at once.
func BenchmarkPaidCall(b *testing.B) {
	m := complete()
	s := m.Site("weather")
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for took := time.Microsecond; pb.Next(); took = (took + 7*time.Microsecond) % time.Second {
			m.Lookup("cache", "found", took)
			s.Reserved(took)
			s.Captured(took)
			s.Signed()
			s.Charge(gate.Ended{Entry: "get_forecast", Result: gate.ResultCaptured, Amount: 10_000})
			s.Overhead(took, "")
			s.Upstream("get_forecast", took, "")
			s.Request("tools/call", "charged")
		}
	})
}
