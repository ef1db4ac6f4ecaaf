package main

import "slices"

// spread is a median with the lowest and the highest value.
type spread struct {
	Median float64 `json:"median"`
	Low    float64 `json:"low"`
	High   float64 `json:"high"`
}

// spreadOf returns the spread of the values, or the zero spread without values. The
// median of an even number of values is the mean of the middle two.
func spreadOf(values []float64) spread {
	if len(values) == 0 {
		return spread{}
	}
	sorted := slices.Sorted(slices.Values(values))
	half := len(sorted) / 2
	median := sorted[half]
	if len(sorted)%2 == 0 {
		median = (sorted[half-1] + sorted[half]) / 2
	}
	return spread{Median: median, Low: sorted[0], High: sorted[len(sorted)-1]}
}

// turn has the figures of one closed-loop measurement of a row of the table.
type turn struct {
	row    string
	calls  int
	rate   float64            // calls a second
	cpu    map[string]float64 // µs a call of each process, by its role
	busy   float64            // the share of one core that the client used
	allocs allocations
}

// allocations counts the objects and bytes that the gateway allocates for one call. Both
// are 0 if the gateway does not report them.
type allocations struct {
	Objects float64 `json:"objects"`
	Bytes   float64 `json:"bytes"`
}

// ratio compares one turn with the turns of its base.
type ratio struct {
	rate float64 // the rate of the row divided by the rate of the base
	cpu  float64 // the gateway's CPU time per call, divided by the base's; 0 if the base used no CPU time
}

// ratiosOf returns the ratios of each row in the turns of one round. A turn is compared
// with the mean of the base's turns directly before and after it.
func ratiosOf(turns []turn, baseOf func(row string) string) map[string][]ratio {
	ratios := make(map[string][]ratio)
	for i, t := range turns {
		base := baseOf(t.row)
		if base == "" {
			continue
		}
		var rates, times []float64
		for _, j := range []int{i - 1, i + 1} {
			if j >= 0 && j < len(turns) && turns[j].row == base {
				rates = append(rates, turns[j].rate)
				times = append(times, turns[j].cpu[gatewayRole])
			}
		}
		if len(rates) == 0 {
			continue
		}
		r := ratio{rate: t.rate / mean(rates)}
		if m := mean(times); m > 0 {
			r.cpu = t.cpu[gatewayRole] / m
		}
		ratios[t.row] = append(ratios[t.row], r)
	}
	return ratios
}

func mean(values []float64) float64 {
	sum := 0.0
	for _, v := range values {
		sum += v
	}
	return sum / float64(len(values))
}
