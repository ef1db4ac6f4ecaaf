package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const procDir = "/proc"

// tick is the unit of times in /proc/PID/stat. It is USER_HZ, which is 100 on all
// systems that Go supports.
const tick = 10 * time.Millisecond

// stat is the part of /proc/PID/stat that is of interest. See proc_pid_stat(5).
type stat struct {
	pid, parent int
	own         time.Duration // user and system time of the process
	ended       time.Duration // user and system time of its child processes that have ended
}

// parseStat parses the content of /proc/PID/stat.
func parseStat(text []byte) (stat, error) {
	// The program's name, in parentheses, may contain spaces and parentheses.
	open, end := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')')
	if open < 0 || end < open {
		return stat{}, fmt.Errorf("no name in %q", text)
	}
	var s stat
	if _, err := fmt.Sscan(string(text[:open]), &s.pid); err != nil {
		return stat{}, fmt.Errorf("%w in %q", err, text)
	}
	const (
		parent = 1 // index of the parent's process id in fields
		utime  = 11
	)
	fields := strings.Fields(string(text[end+1:]))
	if len(fields) < utime+4 {
		return stat{}, fmt.Errorf("too few fields in %q", text)
	}
	var ticks [4]time.Duration
	if _, err := fmt.Sscan(fields[parent], &s.parent); err != nil {
		return stat{}, fmt.Errorf("%w in %q", err, text)
	}
	if _, err := fmt.Sscan(strings.Join(fields[utime:utime+4], " "), &ticks[0], &ticks[1], &ticks[2], &ticks[3]); err != nil {
		return stat{}, fmt.Errorf("%w in %q", err, text)
	}
	s.own, s.ended = (ticks[0]+ticks[1])*tick, (ticks[2]+ticks[3])*tick
	return s, nil
}

// watched is a process to measure.
type watched struct {
	pid   int
	alone bool // true if the process is measured without its descendants
}

// cpuTimes returns the CPU time of each process, including its descendants unless it is
// measured alone. proc is the directory /proc.
func cpuTimes(proc string, processes map[string]watched) (map[string]time.Duration, error) {
	paths, err := filepath.Glob(filepath.Join(proc, "[0-9]*", "stat"))
	if err != nil {
		return nil, err
	}
	all := make(map[int]stat, len(paths))
	children := make(map[int][]int)
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // the process has ended since Glob listed it
		}
		s, err := parseStat(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		all[s.pid] = s
		children[s.parent] = append(children[s.parent], s.pid)
	}
	var sum func(pid int) time.Duration
	sum = func(pid int) time.Duration {
		total := all[pid].own + all[pid].ended
		for _, child := range children[pid] {
			total += sum(child)
		}
		return total
	}
	times := make(map[string]time.Duration, len(processes))
	for name, p := range processes {
		if _, ok := all[p.pid]; !ok {
			return nil, fmt.Errorf("%s: process %d has ended", name, p.pid)
		}
		if times[name] = all[p.pid].own; !p.alone {
			times[name] = sum(p.pid)
		}
	}
	return times, nil
}
