package demo

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// shell starts a script as a server, and waits until it has said that it is up.
func shell(t *testing.T, script string) *Process {
	t.Helper()
	log := filepath.Join(t.TempDir(), "log")
	p, err := Spawn("the script", log, []string{"GREETING=up"}, "/bin/sh", "-c", script)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.cmd.Process.Kill() })
	err = p.Await(t.Context(), func(context.Context) error {
		if text, err := os.ReadFile(log); err != nil || !strings.Contains(string(text), "up") {
			return errors.New("not up")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func ending(p *Process) syscall.Signal {
	return p.cmd.ProcessState.Sys().(syscall.WaitStatus).Signal()
}

// TestStopAsksFirst: a server that ends when asked is not killed, and one that
// has ended already is no error.
func TestStopAsksFirst(t *testing.T) {
	p := shell(t, `trap 'exit 0' TERM; echo $GREETING; while :; do :; done`)
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("got %s; want exit status 0", p.cmd.ProcessState)
	}
	if err := p.Stop(); err != nil {
		t.Errorf("stop again: %v", err)
	}
}

// TestStopInsists: a server that ignores the request is killed.
func TestStopInsists(t *testing.T) {
	p := shell(t, `trap '' TERM; echo $GREETING; while :; do :; done`)
	p.term = 10 * time.Millisecond
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	if got := ending(p); got != syscall.SIGKILL {
		t.Errorf("ended by %v; want SIGKILL", got)
	}
}

// TestEarlyEndIsExplained: when a server ends while it is waited for, the
// error has its exit status and the end of its log, at once.
func TestEarlyEndIsExplained(t *testing.T) {
	p, err := Spawn("the script", filepath.Join(t.TempDir(), "log"), nil, "/bin/sh", "-c", "echo no luck; exit 7")
	if err != nil {
		t.Fatal(err)
	}
	err = p.Await(t.Context(), func(ctx context.Context) error { // another program has its port, and answers nothing
		<-ctx.Done()
		return ctx.Err()
	})
	for _, want := range []string{"the script ended unexpectedly", "exit status 7", "no luck"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v; want it to say %q", err, want)
		}
	}
	if err := (&Servers{running: []*Process{p, p}}).Wait(t.Context()); err == nil {
		t.Error("wait on an ended server: got no error")
	}
	if err := p.Stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
}

// TestStartFailureIsReported: a binary that is not there is an error, not a
// server that never gets ready.
func TestStartFailureIsReported(t *testing.T) {
	if _, err := Spawn("x", filepath.Join(t.TempDir(), "log"), nil, "/does/not/exist"); err == nil {
		t.Error("missing binary: got no error")
	}
	if _, err := Spawn("x", filepath.Join(t.TempDir(), "no", "such", "log"), nil, "/bin/sh"); err == nil {
		t.Error("impossible log: got no error")
	}
}

// TestAwaitIsBounded: waiting ends with its context, with the last reason.
func TestAwaitIsBounded(t *testing.T) {
	p := shell(t, `echo $GREETING; exec sleep 60`)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := p.Await(ctx, func(context.Context) error { return errors.New("still closed") })
	if err == nil || !strings.Contains(err.Error(), "still closed") {
		t.Errorf("got %v; want the last reason", err)
	}
	if err := (&Servers{running: []*Process{p}}).Stop(); err != nil {
		t.Error(err)
	}
}
