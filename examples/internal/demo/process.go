package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"syscall"
	"time"
)

const (
	readyTimeout = 60 * time.Second // the time limit for the wait until a server is ready
	pollInterval = 50 * time.Millisecond
	termTimeout  = 10 * time.Second // the time from SIGTERM to SIGKILL
	killTimeout  = 5 * time.Second  // the time from SIGKILL until Stop gives up
	logTail      = 2 << 10          // number of bytes of a log in an error
)

// Process is a server that Spawn started. It has a process group of its own. Ctrl-C
// in a terminal therefore reaches only this program, which then ends its servers in
// order.
type Process struct {
	name string
	log  string        // file with the output of the process
	term time.Duration // time from SIGTERM to SIGKILL
	cmd  *exec.Cmd
	done chan struct{} // closed when the process has ended
}

// Spawn starts a program. It truncates the log file, and writes the program's output to
// it. The program gets the environment variables of this process and the given ones.
// The caller must Stop the process.
func Spawn(name, log string, environment []string, binary string, args ...string) (*Process, error) {
	file, err := os.OpenFile(log, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer file.Close() // the process has a copy of the descriptor
	cmd := exec.Command(binary, args...)
	cmd.Env = append(os.Environ(), environment...)
	cmd.Stdout, cmd.Stderr = file, file
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p := &Process{name: name, log: log, term: termTimeout, cmd: cmd, done: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // the error does not matter, because cmd.ProcessState has the reason
		close(p.done)
	}()
	return p, nil
}

// Await calls ready(ctx) repeatedly until the call returns nil. Await fails if the
// process ends, if ctx ends, or after readyTimeout.
func (p *Process) Await(ctx context.Context, ready func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	// A readiness check may hang if another program has the port and does not answer.
	// So cancel the check when the process ends.
	go func() {
		select {
		case <-p.done:
			cancel()
		case <-ctx.Done():
		}
	}()
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return p.ended()
		default:
		}
		select {
		case <-p.done:
			return p.ended()
		case <-ctx.Done():
			return fmt.Errorf("%s did not get ready: %w%s", p.name, err, p.tail())
		case <-ticker.C:
		}
	}
}

// ended returns the error for a process that ended by itself.
func (p *Process) ended() error {
	return fmt.Errorf("%s ended unexpectedly (%s)%s", p.name, p.cmd.ProcessState, p.tail())
}

// tail returns the end of the log, for an error message.
func (p *Process) tail() string {
	text, err := os.ReadFile(p.log)
	if err != nil || len(text) == 0 {
		return ""
	}
	if len(text) > logTail {
		text = text[len(text)-logTail:]
	}
	return fmt.Sprintf("; the end of %s:\n%s", p.log, bytes.TrimSpace(text))
}

// Stop ends the process with SIGTERM, or after a while with SIGKILL. It waits until
// the process has ended.
func (p *Process) Stop() error {
	for _, step := range []struct {
		signal syscall.Signal
		wait   time.Duration
	}{{syscall.SIGTERM, p.term}, {syscall.SIGKILL, killTimeout}} {
		if err := p.cmd.Process.Signal(step.signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("stop %s: %w", p.name, err)
		}
		select {
		case <-p.done:
			return nil
		case <-time.After(step.wait):
		}
	}
	return fmt.Errorf("%s (process %d) does not end", p.name, p.cmd.Process.Pid)
}

// Answers returns a function for Await that succeeds when a server answers at the
// URL, with any status.
func Answers(url string) func(context.Context) error {
	return func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		return resp.Body.Close()
	}
}
