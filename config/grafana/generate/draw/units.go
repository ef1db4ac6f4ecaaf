package main

import (
	"math"
	"strconv"
	"strings"
)

// scale is a list of units, each with its size as a multiple of the first unit.
type scale []struct {
	size float64
	name string
}

var (
	thousands = scale{{1, ""}, {1e3, " K"}, {1e6, " Mil"}, {1e9, " Bil"}}
	octets    = scale{{1, " B"}, {1 << 10, " KiB"}, {1 << 20, " MiB"}, {1 << 30, " GiB"}, {1 << 40, " TiB"}}
	durations = scale{{1e-6, " µs"}, {1e-3, " ms"}, {1, " s"}, {60, " min"}, {3600, " h"}, {86400, " d"}}
)

// format writes a value in the unit that has the given id in Grafana.
func format(v float64, unit string, decimals *int) string {
	switch unit {
	case "percentunit":
		return digits(v*100, decimals) + "%"
	case "bytes":
		return octets.format(v, decimals)
	case "s":
		return durations.format(v, decimals)
	case "reqps":
		return thousands.format(v, decimals) + " req/s"
	case "ops":
		return thousands.format(v, decimals) + " ops/s"
	case "none":
		return digits(v, decimals)
	}
	return thousands.format(v, decimals)
}

// format writes a value in the largest unit that makes the number at least 1.
func (s scale) format(v float64, decimals *int) string {
	chosen := s[0]
	if v == 0 && s[0].size < 1 {
		return "0" + s[2].name
	}
	for _, u := range s {
		if math.Abs(v) >= u.size {
			chosen = u
		}
	}
	return digits(v/chosen.size, decimals) + chosen.name
}

// digits writes a number with the given number of decimals, or with three significant
// digits if decimals is nil.
func digits(v float64, decimals *int) string {
	if decimals != nil {
		return strconv.FormatFloat(v, 'f', *decimals, 64)
	}
	if v == math.Trunc(v) || math.Abs(v) >= 100 {
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	places := 2
	if a := math.Abs(v); a > 0 && a < 0.1 {
		places = int(math.Ceil(-math.Log10(a))) + 1
	} else if a >= 10 {
		places = 1
	}
	text := strconv.FormatFloat(v, 'f', places, 64)
	return strings.TrimSuffix(strings.TrimRight(text, "0"), ".")
}

// ticks returns about five round values from low to high.
func ticks(low, high float64, unit string) []float64 {
	base := 10.0
	if unit == "bytes" {
		base = 2
	}
	step := math.Pow(base, math.Floor(math.Log(max(high-low, 1e-12)/4)/math.Log(base)))
	for _, factor := range []float64{1, 2, 2.5, 5, 10, 20} {
		if (high-low)/(step*factor) <= 5 {
			step *= factor
			break
		}
	}
	if unit == "s" && high-low > 60 {
		for _, step = range []float64{15, 30, 60, 300, 900, 1800, 3600, 3 * 3600, 6 * 3600, 86400} {
			if (high-low)/step <= 5 {
				break
			}
		}
	}
	var all []float64
	for i := math.Ceil(low/step - 1e-9); i*step <= high+step*1e-9; i++ {
		all = append(all, i*step+0) // the sum turns a negative zero into zero
	}
	return all
}
