package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

const (
	readyTimeout = time.Minute
	stopTimeout  = 10 * time.Second // the time from SIGTERM to SIGKILL
	pollInterval = 50 * time.Millisecond
)

// process is a server that the program started. Its output goes to a file.
type process struct {
	name, log string
	cmd       *exec.Cmd
	done      chan struct{} // closed when the process has ended
}

// spawn starts a program in the directory. The caller must stop it.
func spawn(name, dir string, environment []string, binary string, args ...string) (*process, error) {
	p := &process{name: name, log: filepath.Join(dir, name+".log"), done: make(chan struct{})}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close() // the process has its own copy of the descriptor
	p.cmd = exec.Command(binary, args...)
	p.cmd.Dir = dir
	p.cmd.Env = append(os.Environ(), environment...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // so that Ctrl-C reaches this program only
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		_ = p.cmd.Wait() // an error does not matter, because the log has the reason
		close(p.done)
	}()
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// await calls ready(ctx) again and again until it returns nil. await fails if the
// process ends, or after readyTimeout.
func (p *process) await(ctx context.Context, ready func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return p.failed(errors.New("it has ended"))
		case <-ctx.Done():
			return p.failed(err)
		case <-ticker.C:
		}
	}
}

// failed returns an error about the process. The error includes the end of the
// process's log.
func (p *process) failed(err error) error {
	const tail = 2 << 10
	text, _ := os.ReadFile(p.log) // an error does not matter, because the text is only a part of the message
	return fmt.Errorf("%s: %w; the end of its log:\n%s", p.name, err, bytes.TrimSpace(text[max(0, len(text)-tail):]))
}

// stop ends the process with SIGTERM, or after stopTimeout with SIGKILL, and waits for
// its end.
func (p *process) stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-p.done:
		return nil
	case <-time.After(stopTimeout):
	}
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-p.done
	return nil
}

// answers returns a function for await that succeeds when a server answers at the
// address, with any status.
func answers(address string) func(context.Context) error {
	return func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/", nil)
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

// Ports are between firstPort and lastPort. Systems do not use these ports as local
// ports when they open connections.
const (
	firstPort = 12000
	lastPort  = 32000
)

// freeAddress returns an address of the loopback interface that no process listens on.
func freeAddress() (string, error) {
	for range lastPort - firstPort {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(firstPort+rand.IntN(lastPort-firstPort)))
		if listener, err := net.Listen("tcp", address); err == nil {
			return address, listener.Close()
		}
	}
	return "", errors.New("no port is free")
}
