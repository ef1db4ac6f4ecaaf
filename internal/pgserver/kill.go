//go:build unix

package pgserver

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// Kill ends the running server and all its processes at once, like a loss of power,
// except that the disk loses no writes. It first stops the server's main process
// (SIGSTOP), so that the process cannot start others in the meantime.
func (s *Server) Kill() error {
	if s.process == nil {
		return errNotRunning
	}
	server := s.process.cmd.Process
	if err := server.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	below, err := children(server.Pid)
	if err != nil {
		return err
	}
	for _, pid := range append(below, server.Pid) {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
	}
	<-s.process.gone
	s.process = nil
	return nil
}

// children returns the ids of the child processes of parent.
func children(parent int) ([]int, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	var list []int
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // the process has ended in the meantime
		}
		var pid, above int
		if _, err := fmt.Sscan(string(text), &pid); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		// The program's name, in parentheses, may contain any characters.
		after := text[bytes.LastIndexByte(text, ')')+1:]
		var state string
		if _, err := fmt.Sscan(string(after), &state, &above); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if above == parent {
			list = append(list, pid)
		}
	}
	return list, nil
}
