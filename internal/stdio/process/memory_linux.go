package process

import (
	"bytes"
	"os"
	"strconv"
)

const canWatch = true

// residentMemory returns the resident memory of each process group in bytes. Memory that
// processes share counts for each of them.
func residentMemory() map[int]int64 {
	used := make(map[int]int64)
	dir, err := os.Open("/proc")
	if err != nil {
		return used
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return used
	}
	page := int64(os.Getpagesize())
	for _, name := range names {
		if name[0] < '0' || name[0] > '9' {
			continue
		}
		stat, err := os.ReadFile("/proc/" + name + "/stat")
		if err != nil {
			continue // it has ended
		}
		group, pages, ok := parseStat(stat)
		if ok {
			used[group] += pages * page
		}
	}
	return used
}

// parseStat reads the process group and the number of resident pages from the content of
// /proc/PID/stat (proc_pid_stat(5), fields 5 and 24).
func parseStat(stat []byte) (group int, pages int64, ok bool) {
	end := bytes.LastIndexByte(stat, ')') // the name before it may have spaces and parentheses
	if end < 0 {
		return 0, 0, false
	}
	fields := bytes.Fields(stat[end+1:])
	const first = 3 // the number of the first field after the name
	if len(fields) <= 24-first {
		return 0, 0, false
	}
	group, err := strconv.Atoi(string(fields[5-first]))
	if err != nil {
		return 0, 0, false
	}
	pages, err = strconv.ParseInt(string(fields[24-first]), 10, 64)
	return group, pages, err == nil
}
