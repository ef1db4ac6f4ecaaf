package harness

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
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	// Patience is the time limit for every wait of the harness. This limit is long,
	// so that no test fails because the machine is busy.
	Patience = 60 * time.Second

	stopTimeout  = 20 * time.Second // the time from SIGTERM to SIGKILL
	pollInterval = 20 * time.Millisecond
)

// Process is a child process of the test.
type Process struct {
	Name string
	Log  string // the file with the output of the process

	cmd  *exec.Cmd
	done chan struct{}
}

// Start starts a program in the log file's directory, and appends the program's
// output to the log file. The process has a process group of its own. If the process
// is still running when the test ends, it is killed.
func Start(t testing.TB, name, log string, environment []string, binary string, args ...string) *Process {
	t.Helper()
	p := launch(t, name, log, environment, binary, args...)
	t.Cleanup(func() { p.end(t) })
	return p
}

// end kills the process, and shows its output if the test has failed.
func (p *Process) end(t testing.TB) {
	p.Kill()
	if t.Failed() {
		t.Logf("the end of the log of %s:\n%s", p.Name, p.Tail())
	}
}

func launch(t testing.TB, name, log string, environment []string, binary string, args ...string) *Process {
	t.Helper()
	file, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	cmd := exec.Command(binary, args...)
	cmd.Env = append(os.Environ(), environment...)
	cmd.Dir = filepath.Dir(log)
	cmd.Stdout, cmd.Stderr = file, file
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	p := &Process{Name: name, Log: log, cmd: cmd, done: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // the error does not matter, because cmd.ProcessState has the reason
		close(p.done)
	}()
	return p
}

// Kill ends the process immediately (SIGKILL) and waits until it is gone.
func (p *Process) Kill() {
	_ = p.cmd.Process.Signal(syscall.SIGKILL) // fails if the process has already ended
	<-p.done
}

// Signal sends the process a signal.
func (p *Process) Signal(t testing.TB, signal os.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(signal); err != nil {
		t.Fatalf("signal %s: %v", p.Name, err)
	}
}

// Freeze suspends the process (SIGSTOP), and returns as soon as all threads of the
// process have stopped. SIGCONT resumes the process.
func (p *Process) Freeze(t testing.TB) {
	t.Helper()
	p.Signal(t, syscall.SIGSTOP)
	Eventually(t, p.Name+" to stand still", func() error {
		var status syscall.WaitStatus
		switch pid, err := syscall.Wait4(p.PID(), &status, syscall.WUNTRACED|syscall.WNOHANG, nil); {
		case err != nil:
			return err
		case pid == 0 || !status.Stopped():
			return errors.New("it runs")
		}
		return nil
	})
}

// Stop asks the process to end (SIGTERM) and waits for its end. If the process does
// not end within stopTimeout, it is killed and the test fails.
func (p *Process) Stop(t testing.TB) {
	t.Helper()
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // fails if the process has already ended
	select {
	case <-p.done:
	case <-time.After(stopTimeout):
		p.Kill()
		t.Errorf("%s did not end within %s of SIGTERM", p.Name, stopTimeout)
	}
}

// Wait waits until the process has ended by itself, and returns its exit code, or -1
// if a signal ended the process. The test fails if that takes longer than Patience.
func (p *Process) Wait(t testing.TB) int {
	t.Helper()
	return p.WaitFor(t, Patience)
}

// WaitFor is like Wait, but with the given time limit in place of Patience. It exists
// for programs that are slow by design.
func (p *Process) WaitFor(t testing.TB, patience time.Duration) int {
	t.Helper()
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(patience):
		p.Kill()
		t.Fatalf("%s did not end within %s", p.Name, patience)
		return -1
	}
}

// PID returns the process's id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Output returns all output of the process so far.
func (p *Process) Output(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile(p.Log)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Tail returns the end of the process's output.
func (p *Process) Tail() string {
	const tail = 4 << 10
	text, _ := os.ReadFile(p.Log) // an error does not matter, because the text is only for a failure message
	if len(text) > tail {
		text = text[len(text)-tail:]
	}
	return string(bytes.TrimSpace(text))
}

// Await calls ready() again and again until it returns nil. The test fails if the
// process ends before that, or if that takes longer than Patience.
func (p *Process) Await(t testing.TB, what string, ready func() error) {
	t.Helper()
	err := poll(t.Context(), p.done, ready)
	if err != nil {
		t.Fatalf("%s: waiting for %s: %v\n%s", p.Name, what, err, p.Tail())
	}
}

// AwaitHTTP waits until a server answers HTTP requests at the URL.
func (p *Process) AwaitHTTP(t testing.TB, url string) {
	t.Helper()
	p.Await(t, "an answer", answering(url))
}

// Eventually calls condition() again and again until it returns nil. The test fails if
// that takes longer than Patience.
func Eventually(t testing.TB, what string, condition func() error) {
	t.Helper()
	if err := poll(t.Context(), nil, condition); err != nil {
		t.Fatalf("waiting for %s: %v", what, err)
	}
}

func poll(ctx context.Context, ended <-chan struct{}, ready func() error) error {
	ctx, cancel := context.WithTimeout(ctx, Patience)
	defer cancel()
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		err := ready()
		if err == nil {
			return nil
		}
		select {
		case <-ended:
			return fmt.Errorf("it ended; before: %w", err)
		case <-ctx.Done():
			return err
		case <-ticker.C:
		}
	}
}

// FreePort returns ports between firstPort and lastPort. Systems do not use this
// range for the local ports of outgoing connections. So a port stays free until its
// server starts, and while the server restarts.
const (
	firstPort = 12000
	lastPort  = 32000
)

// handedOut holds the ports that FreePort has returned, so that it returns no port
// twice.
var handedOut sync.Map

// FreePort returns a port of the loopback interface that no process listens on.
func FreePort(t testing.TB) string {
	t.Helper()
	for range lastPort - firstPort {
		port := strconv.Itoa(firstPort + rand.IntN(lastPort-firstPort))
		if _, taken := handedOut.LoadOrStore(port, true); taken {
			continue
		}
		listener, err := net.Listen("tcp", "127.0.0.1:"+port)
		if err != nil {
			continue
		}
		if err := listener.Close(); err != nil {
			t.Fatal(err)
		}
		return port
	}
	t.Fatal("no free port")
	return ""
}

// answering returns a function that fails until a server answers HTTP requests at
// the URL.
func answering(url string) func() error {
	return func() error {
		resp, err := http.Get(url)
		if err != nil {
			return err
		}
		return resp.Body.Close()
	}
}

// Ended reports whether the process has ended.
func (p *Process) Ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}
