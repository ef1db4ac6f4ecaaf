package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// statLine returns a line like those of /proc/PID/stat. The times are in ticks.
func statLine(pid int, name string, parent int, utime, stime, cutime, cstime int) string {
	return fmt.Sprintf("%d (%s) S %d 1 1 0 -1 4194560 1000 2000 3 4 %d %d %d %d 20 0 9 0 12345 1000000 500 18446744073709551615 1 1 0\n",
		pid, name, parent, utime, stime, cutime, cstime)
}

// TestParseStat checks that parseStat finds the fields although the name may contain
// spaces and parentheses, and that it refuses other texts.
func TestParseStat(t *testing.T) {
	for _, name := range []string{"caddy", "nginx: worker", "a) S 7 (b", "()"} {
		got, err := parseStat([]byte(statLine(42, name, 7, 150, 50, 3, 4)))
		want := stat{pid: 42, parent: 7, own: 2 * time.Second, ended: 70 * time.Millisecond}
		if err != nil || got != want {
			t.Errorf("%q: got %+v, %v; want %+v", name, got, err, want)
		}
	}
	for _, text := range []string{"", "42", "x (a) S 7", "42 (a) S 7 1 1 0 -1 0 0 0 0 0 1 2 3", "42 (a) S 7 1 1 0 -1 0 0 0 0 0 1 2 3 x 20"} {
		if got, err := parseStat([]byte(text)); err == nil {
			t.Errorf("%q: got %+v", text, got)
		}
	}
}

// TestCPUTimes checks that the time of a process includes its descendants and its ended
// children, unless the process is measured alone. An ended process is an error.
func TestCPUTimes(t *testing.T) {
	proc := t.TempDir()
	for pid, line := range map[int]string{
		10: statLine(10, "bench", 1, 100, 0, 900, 0),
		11: statLine(11, "postgres", 10, 10, 5, 20, 0), // 20 is the time of a child that has ended
		12: statLine(12, "backend", 11, 30, 0, 0, 0),
		13: statLine(13, "worker", 12, 1, 0, 0, 1),
		14: statLine(14, "other", 1, 500, 0, 0, 0),
	} {
		dir := filepath.Join(proc, strconv.Itoa(pid))
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "stat"), []byte(line), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := cpuTimes(proc, map[string]watched{"client": {pid: 10, alone: true}, "database": {pid: 11}, "gateway": {pid: 14}})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]time.Duration{"client": time.Second, "database": 670 * time.Millisecond, "gateway": 5 * time.Second} {
		if got[name] != want {
			t.Errorf("%s: got %s; want %s", name, got[name], want)
		}
	}
	if got, err := cpuTimes(proc, map[string]watched{"gateway": {pid: 15}}); err == nil {
		t.Errorf("an ended process: got %v", got)
	}
}

// TestCPUTimesOfThisSystem checks that this process is found in the real /proc.
func TestCPUTimesOfThisSystem(t *testing.T) {
	if _, err := os.Stat(filepath.Join(procDir, "self", "stat")); err != nil {
		t.Skip("this system has no /proc")
	}
	if _, err := cpuTimes(procDir, map[string]watched{clientRole: {pid: os.Getpid(), alone: true}}); err != nil {
		t.Error(err)
	}
}
