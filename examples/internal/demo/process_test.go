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

// shell runs a script as a server, and waits until the script has printed "up".
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

// TestStopAsksFirst checks that Stop does not kill a server that ends on SIGTERM. It
// also checks that Stop of an ended server is not an error.
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

// TestStopInsists checks that Stop kills a server that ignores SIGTERM.
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

// TestEarlyEndIsExplained checks that Await fails immediately if the server ends.
// The error has the server's exit status and the end of its log.
func TestEarlyEndIsExplained(t *testing.T) {
	p, err := Spawn("the script", filepath.Join(t.TempDir(), "log"), nil, "/bin/sh", "-c", "echo no luck; exit 7")
	if err != nil {
		t.Fatal(err)
	}
	err = p.Await(t.Context(), func(ctx context.Context) error { // hangs, as if another program had the port and did not answer
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

// TestStartFailureIsReported checks that Spawn returns an error if the binary does
// not exist or the log cannot be created.
func TestStartFailureIsReported(t *testing.T) {
	if _, err := Spawn("x", filepath.Join(t.TempDir(), "log"), nil, "/does/not/exist"); err == nil {
		t.Error("missing binary: got no error")
	}
	if _, err := Spawn("x", filepath.Join(t.TempDir(), "no", "such", "log"), nil, "/bin/sh"); err == nil {
		t.Error("impossible log: got no error")
	}
}

// TestAwaitIsBounded checks that Await returns when its context ends, with the error of
// the last readiness check.
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
