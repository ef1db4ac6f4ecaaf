package integration

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fareboxhq/farebox/integration/harness"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// execEnv is the environment variable that makes the test binary a wrapper: it
// executes the program that the variable names.
const execEnv = "FAREBOX_INTEGRATION_EXEC"

// When a process exceeds its file size limit, the write fails and the process gets
// SIGXFSZ, which would end it. If execEnv is set, this process blocks the signal and
// executes the program. The signal mask survives exec, so the program gets only the
// error, as on a full disk.
func init() {
	program := os.Getenv(execEnv)
	if program == "" {
		return
	}
	runtime.LockOSThread()
	var mask unix.Sigset_t
	mask.Val[0] = 1 << (unix.SIGXFSZ - 1)
	err := unix.PthreadSigmask(unix.SIG_BLOCK, &mask, nil)
	if err == nil {
		err = os.Unsetenv(execEnv)
	}
	if err == nil {
		err = syscall.Exec(program, append([]string{program}, os.Args[1:]...), os.Environ())
	}
	fmt.Fprintln(os.Stderr, "wrapper:", err)
	os.Exit(3)
}

// unsignalled returns a copy of the tests' binaries, in which Farebox is a script that
// starts the real binary through the wrapper.
func unsignalled(t *testing.T) *harness.Binaries {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b := *binaries
	b.Farebox = filepath.Join(t.TempDir(), "farebox.sh")
	script := fmt.Sprintf("#!/bin/sh\n%s='%s' exec '%s' \"$@\"\n", execEnv, binaries.Farebox, self)
	if err := os.WriteFile(b.Farebox, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return &b
}

// fileLimit is the file size limit, in bytes, that simulates a full disk. The store
// is already larger, so it cannot grow.
const fileLimit = 4096

// TestFullDisk checks promises 1, 2 and 8 of docs/promises.md when the disk is full.
// Calls already running are refused with CHARGE_FAILED, later calls with
// STORE_UNAVAILABLE or CHARGE_FAILED, and no result leaves the gateway. When there is
// room again, the same process keeps serving, has charged exactly the results that
// arrived, and holds no reservation.
func TestFullDisk(t *testing.T) {
	const calls = 16
	w := startWorker(t)
	g := unsignalled(t).StartGateway(t, harness.Site(w.url, "server worker", "provider acme", "price * 0.01"))
	_, key := g.NewAgent(t, "agent", "10.00")
	client := &http.Client{Timeout: harness.Patience, Transport: &http.Transport{MaxIdleConnsPerHost: calls}}
	t.Cleanup(client.CloseIdleConnections)
	received := map[string]bool{}
	call := func(path string) *harness.Answer {
		return workerCall(t, g, client, key.Secret, path)
	}
	pay := func() error {
		answer := call(workerJSON)
		if answer.Result == nil || answer.Result.Meta.Charge == nil {
			return fmt.Errorf("%d %s", answer.Status, answer.Body)
		}
		received[answer.Result.Meta.Charge.ID] = true
		return nil
	}
	if err := pay(); err != nil {
		t.Fatal(err)
	}

	// The disk fills up while calls run.
	var inside, done sync.WaitGroup
	inside.Add(calls)
	proceed := make(chan struct{})
	w.work = func(context.Context, int64) { inside.Done(); <-proceed }
	answers := make([]*harness.Answer, calls)
	for i := range calls {
		done.Go(func() { answers[i] = call([]string{workerStreams, workerJSON}[i%2]) })
	}
	inside.Wait()
	pid := g.Process().PID()
	var before unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: fileLimit, Max: unix.RLIM_INFINITY}, &before); err != nil {
		t.Fatal(err)
	}
	close(proceed)
	done.Wait()
	w.work = func(context.Context, int64) {}
	for _, answer := range answers {
		withheld(t, answer, "CHARGE_FAILED")
	}

	// New calls are refused. A call that still reaches the server gets CHARGE_FAILED.
	runs := w.runs.Load()
	for range calls {
		done.Go(func() { withheld(t, call(workerJSON), "STORE_UNAVAILABLE", "CHARGE_FAILED") })
	}
	done.Wait()
	withheld(t, call(workerJSON), "STORE_UNAVAILABLE", "CHARGE_FAILED")
	t.Logf("%d of %d calls reached the server while the disk was full", w.runs.Load()-runs, calls+1)

	// Make room on the disk again.
	if err := unix.Prlimit(pid, unix.RLIMIT_FSIZE, &before, nil); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, "a paid call", pay)
	if g.Process().Ended() || g.Process().PID() != pid {
		t.Error("it is not the same process")
	}
	harness.Eventually(t, "the books to match the received results, with no reservation", func() error {
		taken := 0
		for _, c := range g.Charges(t, "agent") {
			if c.State == "captured" {
				taken++
				if !received[c.ID] {
					return fmt.Errorf("charge %+v has no result", c)
				}
			}
		}
		want := 10*ledger.Unit - ledger.Unit/100*ledger.Amount(len(received))
		if a := g.Account(t, "agent"); taken != len(received) || a.Balance != want || a.Reserved != 0 {
			return fmt.Errorf("%d charges for %d results, balance %s, reserved %s", taken, len(received), a.Balance, a.Reserved)
		}
		return nil
	})
	g.VerifyLedger(t)
}

// workerCall makes one call to a worker.
func workerCall(t *testing.T, g *harness.Gateway, client *http.Client, secret, path string) *harness.Answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, g.Endpoint()+strings.TrimPrefix(path, "/mcp"),
		strings.NewReader(harness.ToolCall(1, workerTools[0], `{}`)))
	if err != nil {
		t.Error(err)
		return &harness.Answer{}
	}
	answer, err := g.Send(client, secret, req)
	if err != nil {
		t.Error(err)
		return &harness.Answer{}
	}
	return answer
}

// withheld checks that an answer is a refusal with one of the codes and does not
// contain the result.
func withheld(t *testing.T, answer *harness.Answer, codes ...string) {
	t.Helper()
	ok := false
	for _, code := range codes {
		ok = ok || answer.Code() == code
	}
	if !ok || strings.Contains(answer.Body, workerResult) {
		t.Errorf("%d %s; want %v and no result", answer.Status, answer.Body, codes)
	}
	if answer.Status != http.StatusOK {
		t.Errorf("status %d; want 200", answer.Status)
	}
}
