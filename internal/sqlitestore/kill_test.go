//go:build unix

package sqlitestore

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// childEnv makes the test binary run as the child process, which the test kills.
// Its value selects the task of the child, and childPath is the path of the store.
const (
	childEnv  = "FAREBOX_SQLITESTORE_CHILD"
	childPath = "FAREBOX_SQLITESTORE_PATH"

	childCallers = 32
	childFunds   = 1_000_000
)

// TestMain runs the task of a child process if childEnv is set. Otherwise it runs the
// tests, and fails if a store leaves a goroutine behind.
func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		child() // does not return
	}
	goleak.VerifyTestMain(m)
}

// child runs its task in a separate process until it is killed.
func child() {
	var err error
	switch os.Getenv(childEnv) {
	case "capture":
		err = childCapture(os.Getenv(childPath))
	case "limit":
		err = childLimit(os.Getenv(childPath))
	case "hold":
		err = childHold(os.Getenv(childPath))
	default:
		if step, ok := strings.CutPrefix(os.Getenv(childEnv), "restore "); ok {
			err = childRestore(os.Getenv(childPath), step)
			break
		}
		err = fmt.Errorf("unknown task %q", os.Getenv(childEnv))
	}
	fmt.Fprintln(os.Stderr, "child:", err)
	os.Exit(3)
}

// childHold opens the store and waits to be killed.
func childHold(path string) error {
	if _, err := Open(context.Background(), Options{Path: path}); err != nil {
		return err
	}
	fmt.Println("open")
	_, err := os.Stdin.Read(make([]byte, 1)) // wait until this process is killed, because the parent never writes
	return err
}

// childCapture captures without end. It prints each id before the capture and after
// the acknowledgement.
func childCapture(path string) error {
	s, err := Open(context.Background(), Options{Path: path})
	if err != nil {
		return err
	}
	o, err := childOrder(s)
	if err != nil {
		return err
	}
	failed := make(chan error, childCallers)
	var out sync.Mutex
	say := func(what, charge string) {
		out.Lock()
		defer out.Unlock()
		fmt.Println(what, charge)
	}
	for range childCallers {
		go func() {
			for {
				charge := newID("chg_")
				if _, err := s.Reserve(context.Background(), charge, o, ledger.Terms{}); err != nil {
					failed <- err
					return
				}
				say("asked", charge)
				if _, _, err := s.Capture(context.Background(), charge, nil); err != nil {
					failed <- err
					return
				}
				say("took", charge)
			}
		}()
	}
	return <-failed
}

// childOrder returns an order between the accounts that pair made.
func childOrder(s *Store) (ledger.Order, error) {
	payer, err := s.Account(context.Background(), "payer")
	if err != nil {
		return ledger.Order{}, err
	}
	payee, err := s.Account(context.Background(), "payee")
	return ledger.Order{Account: payer.ID, Provider: payee.ID, Key: "key_1", Lineage: "key_1", Server: "s", Tool: "t", Amount: 1}, err
}

// startChild runs this test binary as the child process.
func startChild(t *testing.T, task, path string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), childEnv+"="+task, childPath+"="+path)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Process.Kill() // an error does not matter, because most children have been killed already
		_ = cmd.Wait()
	})
	return cmd, bufio.NewScanner(out)
}

// TestKillLosesNothingAcknowledged checks promises 1 and 2 of docs/promises.md for a
// killed process. The books have every acknowledged charge, and at most one more per
// call in flight.
func TestKillLosesNothingAcknowledged(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "farebox.db")
	s := opened(t, Options{Path: path})
	o := pair(t, s, childFunds)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	took, asked := map[string]bool{}, map[string]bool{}
	for round := range 3 {
		cmd, lines := startChild(t, "capture", path)
		for n := 0; lines.Scan(); n++ {
			what, charge, _ := strings.Cut(lines.Text(), " ")
			if what == "took" {
				took[charge] = true
			}
			asked[charge] = true
			if n == 400+round*137 {
				if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
			}
		}
		_ = cmd.Wait() // the error only says that the child was killed
	}
	s = opened(t, Options{Path: path})
	clean(t, s)
	booked := map[string]bool{}
	f := ledger.ChargeFilter{Account: o.Account}
	for {
		part, next, err := s.Charges(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range part {
			booked[c.ID] = true
		}
		if f.After = next; next == "" {
			break
		}
	}
	for charge := range took {
		if !booked[charge] {
			t.Errorf("%s was acknowledged and is lost", charge)
		}
	}
	unacknowledged := 0
	for charge := range booked {
		if !took[charge] {
			unacknowledged++
		}
		if !asked[charge] {
			t.Errorf("%s was captured, but nobody asked for it", charge)
		}
	}
	if len(took) < 100 || unacknowledged > 3*childCallers {
		t.Errorf("%d acknowledged, %d beyond them with 3 times %d calls in flight", len(took), unacknowledged, childCallers)
	}
	want := ledger.Balance{Posted: childFunds - ledger.Amount(len(booked))}
	if p := balanceOf(t, s, o.Account); p != want {
		t.Errorf("balance is %+v, want %+v: a crash releases what was reserved", p, want)
	}
	t.Logf("%d acknowledged, %d captured without", len(took), unacknowledged)
}

// TestLockNamesTheOwner checks that a process cannot open a store while another process
// has it open. The error names the other process.
func TestLockNamesTheOwner(t *testing.T) {
	path := filepath.Join(t.TempDir(), "farebox.db")
	cmd, lines := startChild(t, "hold", path)
	if !lines.Scan() || lines.Text() != "open" {
		t.Fatalf("the other process says %q", lines.Text())
	}
	wantLocked(t, path, fmt.Sprintf("process %d", cmd.Process.Pid))
	if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // the error only says that the child was killed
	if err := opened(t, Options{Path: path}).Healthy(); err != nil {
		t.Errorf("the lock outlived its owner: %v", err)
	}
}
