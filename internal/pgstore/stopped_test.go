//go:build unix

package pgstore

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/ledger"

	"github.com/fareboxhq/farebox/internal/clock"
)

// The environment variables that make the test binary run as a node of
// TestStoppedProcess.
const (
	nodeDSN   = "FAREBOX_TEST_NODE_DSN"
	nodePayer = "FAREBOX_TEST_NODE_PAYER"
	nodePayee = "FAREBOX_TEST_NODE_PAYEE"
)

// runNode charges an account until its standard input ends.
func runNode() error {
	s, err := Open(context.Background(), Options{DSN: os.Getenv(nodeDSN)})
	if err != nil {
		return err
	}
	o := order(os.Getenv(nodePayer), os.Getenv(nodePayee), 1)
	for range 16 {
		go func() {
			for {
				if err := reserveAndCapture(s, o); err != nil {
					fmt.Fprintln(os.Stderr, err)
				}
			}
		}()
	}
	fmt.Println("running")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// TestStoppedProcess stops a process at arbitrary moments while it charges. It
// checks that the stopped process holds no lock that other nodes wait for.
func TestStoppedProcess(t *testing.T) {
	long(t)
	s := fresh(t)
	payer, payee := account(t, s, "payer", 1<<40), account(t, s, "payee", 0)
	node := exec.Command(os.Args[0])
	node.Env = append(os.Environ(), nodeDSN+"="+s.o.DSN, nodePayer+"="+payer, nodePayee+"="+payee)
	node.Stderr = os.Stderr
	if _, err := node.StdinPipe(); err != nil { // the node's standard input ends with the test, and so the node ends, too
		t.Fatal(err)
	}
	out, err := node.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := node.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = node.Process.Kill()
		_ = node.Wait()
	}()
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	signal := func(what syscall.Signal) {
		if err := node.Process.Signal(what); err != nil {
			t.Fatal(err)
		}
	}
	var slowest time.Duration
	for range 40 {
		before := count(t, s.o.DSN, `SELECT count(*) FROM txn`)
		eventually(t, "the node charges", func() bool { return count(t, s.o.DSN, `SELECT count(*) FROM txn`) > before })
		signal(syscall.SIGSTOP)
		began := clock.Now()
		if _, _, err := s.Charge(t.Context(), newID("chg_"), order(payer, payee, 1), ledger.Terms{}, nil); err != nil {
			t.Error(err)
		}
		slowest = max(slowest, clock.Since(began))
		signal(syscall.SIGCONT)
	}
	t.Logf("the slowest charge beside a stopped node took %s", slowest)
	if slowest > idleTime/2 {
		t.Errorf("a charge took %s beside a node that was stopped", slowest)
	}
	signal(syscall.SIGKILL)
	_ = node.Wait()
	clean(t, s)
}
