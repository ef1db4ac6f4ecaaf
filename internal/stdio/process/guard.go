package process

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
)

// guardName is the first argument (argv[0]) by which a process knows that it is a guard.
const guardName = "farebox-stdio-guard"

// init turns a process with the guard's name into a guard. A guard is the same program,
// so it needs no shell and no further file, and its work begins before that of main.
func init() {
	if len(os.Args) == 1 && os.Args[0] == guardName {
		guard(os.Stdin)
		os.Exit(0)
	}
}

// lastGrace is the time between SIGTERM and SIGKILL after the gateway has died.
const lastGrace = time.Second

// guard reads the ids of process groups, as +ID and -ID, until its input ends, which
// means that the gateway has ended. Then it ends the groups that are left.
func guard(input io.Reader) {
	ignoreSignals()
	groups := make(map[int]bool)
	for scanner := bufio.NewScanner(input); scanner.Scan(); {
		text := scanner.Text()
		pid, err := strconv.Atoi(strings.TrimLeft(text, "+-"))
		if err != nil || pid < 2 {
			continue
		}
		if text[0] == '+' {
			groups[pid] = true
		} else {
			delete(groups, pid)
		}
	}
	if len(groups) == 0 {
		return
	}
	for pid := range groups {
		signalGroup(pid, termSignal)
	}
	_ = clock.Sleep(context.Background(), lastGrace)
	for pid := range groups {
		signalGroup(pid, killSignal)
	}
}

// guardian keeps one guard for all process groups of this process, for as long as there
// are any. It is safe for concurrent use.
type guardian struct {
	mu     sync.Mutex
	groups map[int]bool
	pipe   *os.File // the guard's input; nil without a guard
	logger func() *slog.Logger
}

var guarded guardian

// add names a process group to the guard. It starts the guard if necessary.
func (g *guardian) add(pid int, logger func() *slog.Logger) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.groups == nil {
		g.groups = make(map[int]bool)
	}
	g.groups[pid], g.logger = true, logger
	if g.pipe == nil {
		return g.start()
	}
	return g.write("+", pid)
}

// remove takes a process group from the guard, and ends a guard without groups.
func (g *guardian) remove(pid int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.groups, pid)
	if g.pipe == nil {
		return
	}
	_ = g.write("-", pid) // a guard that is gone is replaced by await
	if len(g.groups) == 0 {
		_ = g.pipe.Close()
		g.pipe = nil
	}
}

func (g *guardian) write(sign string, pid int) error {
	_, err := fmt.Fprintf(g.pipe, "%s%d\n", sign, pid)
	return err
}

// start starts a guard and names all groups to it. The caller holds the lock.
func (g *guardian) start() error {
	program, err := self()
	if err != nil {
		return err
	}
	in, out, err := os.Pipe()
	if err != nil {
		return err
	}
	defer in.Close()
	cmd := exec.Command(program)
	cmd.Args, cmd.Dir, cmd.Stdin = []string{guardName}, os.TempDir(), in
	cmd.Env = []string{"GOMAXPROCS=1", "GOMEMLIMIT=16MiB"}
	detach(cmd)
	if err := cmd.Start(); err != nil {
		_ = out.Close()
		return fmt.Errorf("start a guard: %w", err)
	}
	g.pipe = out
	go g.await(cmd, out)
	for pid := range g.groups {
		if err := g.write("+", pid); err != nil {
			return err
		}
	}
	return nil
}

// await waits for the end of a guard, and replaces one that has ended too early.
func (g *guardian) await(cmd *exec.Cmd, pipe *os.File) {
	err := cmd.Wait()
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.pipe != pipe {
		return
	}
	_ = pipe.Close()
	g.pipe = nil
	if len(g.groups) > 0 {
		g.logger().Warn("the guard of the stdio servers has ended, and is replaced", slog.Any("error", err))
		if err := g.start(); err != nil {
			g.logger().Error("the processes of stdio servers have no guard: they may outlive a gateway that is killed", slog.Any("error", err))
		}
	}
}
