package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// reading has the CPU times and the memory statistics before or after a turn.
type reading struct {
	cpu   map[string]time.Duration
	alloc memory
}

func (b *bench) meter(ctx context.Context, r row) (reading, error) {
	alloc, err := memory{}, error(nil)
	if srv := b.stand.servers[r.server]; srv != nil && srv.admin != "" {
		if alloc, err = readMemory(ctx, srv.admin); err != nil {
			return reading{}, err
		}
	}
	times, err := cpuTimes(procDir, b.stand.processes(r))
	return reading{times, alloc}, err
}

// turnOf returns the figures of a turn, which are the differences between two readings.
func turnOf(row string, calls int, elapsed time.Duration, before, after reading) turn {
	t := turn{row: row, calls: calls, rate: float64(calls) / elapsed.Seconds(), cpu: make(map[string]float64)}
	for role, end := range after.cpu {
		used := end - before.cpu[role]
		t.cpu[role] = float64(used.Microseconds()) / float64(calls)
		if role == clientRole {
			t.busy = used.Seconds() / elapsed.Seconds()
		}
	}
	t.allocs = allocations{
		Objects: float64(after.alloc.Mallocs-before.alloc.Mallocs) / float64(calls),
		Bytes:   float64(after.alloc.TotalAlloc-before.alloc.TotalAlloc) / float64(calls),
	}
	return t
}

// memory is the part of a Go program's memory statistics that is of interest.
type memory struct {
	Mallocs, TotalAlloc uint64
}

// readMemory asks Caddy's admin endpoint for the memory statistics of its process.
func readMemory(ctx context.Context, address string) (memory, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/debug/vars", nil)
	if err != nil {
		return memory{}, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return memory{}, err
	}
	defer resp.Body.Close()
	var vars struct {
		Stats memory `json:"memstats"`
	}
	if resp.StatusCode != http.StatusOK {
		return memory{}, fmt.Errorf("%s: %s", req.URL, resp.Status)
	}
	err = json.NewDecoder(resp.Body).Decode(&vars)
	return vars.Stats, err
}
