package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"time"
)

// report is the outcome of a run, as in bench.json.
type report struct {
	Begin       time.Time    `json:"begin"`
	Took        string       `json:"took"`
	Machine     machineFacts `json:"machine"`
	LoadBefore  string       `json:"load_before"`
	LoadAfter   string       `json:"load_after"`
	Rounds      int          `json:"rounds"`
	Seconds     float64      `json:"seconds"`
	Connections int          `json:"connections"`
	Rows        []rowReport  `json:"rows"`
	LeftOut     []string     `json:"left_out,omitempty"`
}

// rowReport has the results of a row.
type rowReport struct {
	Name  string `json:"name"`
	Title string `json:"title"`
	Base  string `json:"base,omitempty"`

	Rate     spread             `json:"calls_per_second"`
	CPU      map[string]float64 `json:"cpu_us_per_call"` // the CPU time of each role, as the median of the turns
	Busy     float64            `json:"client_busy"`     // the client's share of its core, as the median of the turns
	Allocs   allocations        `json:"allocations_per_call"`
	Ratio    spread             `json:"ratio"`     // the row's rate divided by the base's rate
	CPURatio spread             `json:"cpu_ratio"` // the gateway's CPU time a call divided by the base's

	Open openReport `json:"open_loop"`
}

// openReport is the outcome of a row in open loop. Times are medians of the rounds, in
// milliseconds.
type openReport struct {
	Wanted   float64 `json:"calls_per_second_wanted"`
	Reached  float64 `json:"calls_per_second_reached"`
	P50      spread  `json:"p50_ms"`
	P99      spread  `json:"p99_ms"`
	P99Ratio spread  `json:"p99_ratio"` // the P99 divided by the base's P99 in the same round
}

// report summarizes the turns.
func (b *bench) report() *report {
	r := &report{Rounds: b.options.rounds, Seconds: b.seconds, Connections: b.connections}
	baseOf := func(name string) string {
		found, _ := findRow(name)
		return found.base
	}
	ratios := make(map[string][]ratio)
	for _, turns := range b.rounds {
		for name, list := range ratiosOf(turns, baseOf) {
			ratios[name] = append(ratios[name], list...)
		}
	}
	for _, row := range b.rows {
		s := summarize(row, b.turnsOf(row.name), ratios[row.name])
		s.Open = b.openReport(row)
		r.Rows = append(r.Rows, s)
	}
	return r
}

// summarize reports a row's turns in closed loop and their ratios.
func summarize(r row, turns []turn, ratios []ratio) rowReport {
	s := rowReport{Name: r.name, Title: r.title, Base: r.base, CPU: make(map[string]float64)}
	medianOf := func(value func(turn) float64) spread {
		values := make([]float64, len(turns))
		for i, t := range turns {
			values[i] = value(t)
		}
		return spreadOf(values)
	}
	s.Rate = medianOf(func(t turn) float64 { return t.rate })
	s.Busy = medianOf(func(t turn) float64 { return t.busy }).Median
	s.Allocs.Objects = medianOf(func(t turn) float64 { return t.allocs.Objects }).Median
	s.Allocs.Bytes = medianOf(func(t turn) float64 { return t.allocs.Bytes }).Median
	if len(turns) > 0 {
		for role := range turns[0].cpu {
			s.CPU[role] = medianOf(func(t turn) float64 { return t.cpu[role] }).Median
		}
	}
	var rates, times []float64
	for _, pair := range ratios {
		rates = append(rates, pair.rate)
		if pair.cpu > 0 {
			times = append(times, pair.cpu)
		}
	}
	s.Ratio, s.CPURatio = spreadOf(rates), spreadOf(times)
	return s
}

func (b *bench) openReport(r row) openReport {
	var p50, p99, ratios, wanted, reached []float64
	for _, turns := range b.open {
		t, ok := turns[r.name]
		if !ok {
			continue
		}
		p50, p99 = append(p50, milliseconds(t.p50)), append(p99, milliseconds(t.p99))
		wanted, reached = append(wanted, t.wanted), append(reached, t.reached)
		if base, ok := turns[r.base]; ok && base.p99 > 0 {
			ratios = append(ratios, float64(t.p99)/float64(base.p99))
		}
	}
	return openReport{
		Wanted: spreadOf(wanted).Median, Reached: spreadOf(reached).Median,
		P50: spreadOf(p50), P99: spreadOf(p99), P99Ratio: spreadOf(ratios),
	}
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// find returns the report of a row.
func (r *report) find(name string) (rowReport, bool) {
	for _, row := range r.Rows {
		if row.Name == name {
			return row, true
		}
	}
	return rowReport{}, false
}

// save writes the report as bench.txt, bench.json and bench.svg into the directory. It
// writes no files if dir is "".
func (r *report) save(dir string) error {
	if dir == "" {
		return nil
	}
	var text, chart bytes.Buffer
	data, err := json.MarshalIndent(r, "", "\t")
	if err := errors.Join(err, r.writeText(&text), r.writeChart(&chart)); err != nil {
		return err
	}
	return saveFiles(dir, map[string][]byte{"bench.txt": text.Bytes(), "bench.json": append(data, '\n'), "bench.svg": chart.Bytes()})
}

// saveFiles writes files, by their names, into the directory, which it makes if it is
// missing.
func saveFiles(dir string, files map[string][]byte) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			return err
		}
	}
	return nil
}
