package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
)

// machineFacts are the facts that are needed to repeat a measurement.
type machineFacts struct {
	CPU      string `json:"cpu"`
	Cores    int    `json:"cores"`
	Kernel   string `json:"kernel"`
	Go       string `json:"go"`
	Revision string `json:"revision,omitempty"` // the commit that was measured
	Nginx    string `json:"nginx,omitempty"`
}

func (m machineFacts) String() string {
	return fmt.Sprintf("%d cores of %s; Linux %s; %s; %s", m.Cores, m.CPU, m.Kernel, m.Go, cmp.Or(m.Nginx, "no nginx"))
}

func describeMachine(ctx context.Context, nginx string) machineFacts {
	m := machineFacts{Cores: runtime.NumCPU(), Go: runtime.Version(), Revision: revision(ctx)}
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		m.CPU = modelOf(text)
	}
	if text, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.Kernel = strings.TrimSpace(string(text))
	}
	if nginx != "" {
		// nginx prints "nginx version: nginx/1.22.1" to its error output.
		if text, err := exec.CommandContext(ctx, nginx, "-v").CombinedOutput(); err == nil {
			_, version, _ := strings.Cut(string(text), ": ")
			m.Nginx = strings.TrimSpace(version)
		}
	}
	return m
}

// modelOf returns the name of the first processor in /proc/cpuinfo, or "".
func modelOf(cpuinfo []byte) string {
	for s := bufio.NewScanner(bytes.NewReader(cpuinfo)); s.Scan(); {
		name, value, _ := strings.Cut(s.Text(), ":")
		if strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// revision returns the commit of the source tree in the working directory, with "-dirty"
// if there are changes, or "" without git.
func revision(ctx context.Context) string {
	text, err := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*").Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// loadAverage returns the system's load averages of 1, 5 and 15 minutes, or "".
func loadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return ""
	}
	words := strings.Fields(string(text))
	return strings.Join(words[:min(3, len(words))], " ")
}
