//go:build unix

package sqlitestore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// TestWritesThatFail checks that the store refuses charges while writes fail, and
// recovers. The write errors are real: the child process has a limit on the size of
// files.
func TestWritesThatFail(t *testing.T) {
	t.Parallel()
	path := filepath.Join(memoryDir(t), "farebox.db")
	s := opened(t, Options{Path: path})
	o := pair(t, s, childFunds)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	cmd, lines := startChild(t, "limit", path)
	var said []string
	for lines.Scan() {
		said = append(said, lines.Text())
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("the other process says %q: %v", said, err)
	}
	var charged int
	if _, err := fmt.Sscanf(strings.Join(said, " "), "refused recovered charged %d", &charged); err != nil || charged < 100 {
		t.Fatalf("the other process says %q: %v", said, err)
	}
	s = opened(t, Options{Path: path})
	if v := clean(t, s); v.Transactions != int64(charged)+1 {
		t.Errorf("the journal has %d transactions, want %d", v.Transactions, charged+1)
	}
	if p := balanceOf(t, s, o.Account); p.Posted != childFunds-ledger.Amount(charged) {
		t.Errorf("the balance is %s after %d charges", p.Posted, charged)
	}
}

// childLimit charges until the system refuses to let the log grow, lifts the limit,
// and continues to charge.
func childLimit(path string) error {
	ctx := context.Background()
	signal.Ignore(syscall.SIGXFSZ) // ignore the signal, so that a write over the limit fails with EFBIG
	s, err := Open(ctx, Options{Path: path})
	if err != nil {
		return err
	}
	o, err := childOrder(s)
	if err != nil {
		return err
	}
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
		return err
	}
	limited := before
	limited.Cur = 256 << 10
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limited); err != nil {
		return err
	}
	charged := 0
	var held string
	for held == "" {
		charge := newID("chg_")
		if _, err := s.Reserve(ctx, charge, o, ledger.Terms{}); err != nil {
			return fmt.Errorf("reserving: %w", err)
		}
		if _, _, err := s.Capture(ctx, charge, nil); errors.Is(err, ledger.ErrUnavailable) {
			held = charge
		} else if err != nil {
			return fmt.Errorf("capturing: %w", err)
		} else {
			charged++
		}
	}
	fmt.Println("refused")
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
		return err
	}
	for tick := time.Tick(time.Millisecond); s.Healthy() != nil; {
		<-tick // poll without a time limit here, because the parent has one
	}
	fmt.Println("recovered")
	for charge := held; charged < 800; charge = newID("chg_") {
		if _, _, err := s.Charge(ctx, charge, o, ledger.Terms{}, nil); err != nil {
			return fmt.Errorf("charging after the recovery: %w", err)
		}
		charged++
	}
	v, err := s.Verify(ctx, nil)
	if err != nil || len(v.Differences) > 0 {
		return fmt.Errorf("verification: %q, %w", v.Differences, err)
	}
	fmt.Println("charged", charged)
	if err := s.Close(); err != nil {
		return err
	}
	os.Exit(0)
	return nil
}
