// Package process runs an MCP server as a child process: its pipes and its end. The
// processes that the server has started end with it.
package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/stdio/lines"
)

// Options describe a process and its surroundings.
type Options struct {
	Command []string      // the program and its arguments
	Dir     string        // the working directory; "" for that of this process
	Env     []string      // the whole environment, as NAME=VALUE; see Environment
	User    *User         // the user of the process; nil for the user of this process
	MaxLine int           // the longest line of its stdout in bytes
	Grace   time.Duration // how long the process may take to end after Stop, before it is killed
	Memory  int64         // the most resident memory of its process group in bytes; 0 for no limit

	// Receive gets each line of stdout, which is valid until Receive returns. One
	// goroutine calls Receive and TooLong.
	Receive func(line []byte)

	// TooLong gets each line of stdout that was longer than MaxLine and was skipped.
	TooLong func(*lines.TooLongError)

	// Logger returns the logger for the lines of stderr and for events of the process.
	Logger func() *slog.Logger

	// Redact replaces secrets in a line of stderr.
	Redact *strings.Replacer
}

// User is the user that a process runs as.
type User struct {
	UID, GID uint32
	Groups   []uint32
}

// Check returns an error if the options do not work on this system.
func (o *Options) Check() error { return supported(o) }

// ErrEnded reports that a process has ended.
var ErrEnded = errors.New("the server's process has ended")

// errMemory is the reason for the end of a process that used too much memory.
var errMemory = errors.New("it used more memory than its limit")

// Process is a running process. Its methods are safe for concurrent use.
type Process struct {
	o      Options
	cmd    *exec.Cmd
	stdin  *os.File
	stdout *os.File
	stderr *os.File

	out      chan []byte   // messages for stdin
	stopping chan struct{} // closed by Stop
	stop     func()
	deaf     chan struct{} // closed when a message could not be written
	over     chan struct{} // closed when nothing can be written any more
	done     chan struct{}
	cause    atomic.Pointer[error]
}

// Start starts a process. The process must be stopped, or end by itself; Done says when it
// has.
func Start(o Options) (*Process, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	p := &Process{o: o, out: make(chan []byte), stopping: make(chan struct{}), deaf: make(chan struct{}), over: make(chan struct{}), done: make(chan struct{})}
	p.stop = sync.OnceFunc(func() { close(p.stopping) })
	program := o.Command[0]
	if o.Dir != "" && strings.ContainsRune(program, filepath.Separator) && !filepath.IsAbs(program) {
		program = filepath.Join(o.Dir, program)
	}
	p.cmd = exec.Command(program, o.Command[1:]...)
	p.cmd.Dir, p.cmd.Env = o.Dir, o.Env
	own(p.cmd, o.User)
	theirs, err := p.pipes()
	if err != nil {
		return nil, err
	}
	defer closeAll(theirs)
	if err := p.cmd.Start(); err != nil {
		closeAll(p.ours())
		return nil, fmt.Errorf("cannot start the server: %w", err)
	}
	if err := guarded.add(p.PID(), o.Logger); err != nil {
		o.Logger().Error("the processes of stdio servers have no guard: they may outlive a gateway that is killed", slog.Any("error", err))
	}
	if o.Memory > 0 {
		watched.add(p.PID(), o.Memory, func() { p.kill(errMemory) })
	}
	var pumps sync.WaitGroup
	read := make(chan struct{})
	pumps.Go(func() { defer close(read); p.read() })
	pumps.Go(func() { logLines(p.stderr, p.PID(), o.Logger, o.Redact) })
	pumps.Go(p.write)
	go p.run(read, &pumps)
	return p, nil
}

// pipes makes the three pipes, and returns the child's ends.
func (p *Process) pipes() (theirs []*os.File, err error) {
	var all []*os.File
	pipe := func() (r, w *os.File) {
		if err != nil {
			return nil, nil
		}
		if r, w, err = os.Pipe(); err == nil {
			all = append(all, r, w)
		}
		return r, w
	}
	in, stdin := pipe()
	stdout, out := pipe()
	stderr, errs := pipe()
	if err != nil {
		closeAll(all)
		return nil, fmt.Errorf("cannot make pipes for the server: %w", err)
	}
	p.stdin, p.stdout, p.stderr = stdin, stdout, stderr
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = in, out, errs
	return []*os.File{in, out, errs}, nil
}

func (p *Process) ours() []*os.File { return []*os.File{p.stdin, p.stdout, p.stderr} }

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close() // a pipe has nothing to lose
	}
}

// PID returns the id of the process, which is also that of its process group.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended, its group is gone, and its pipes are closed.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err returns why the process has ended. It must be called after Done.
func (p *Process) Err() error {
	err := fmt.Errorf("%w: %s", ErrEnded, p.cmd.ProcessState)
	if cause := p.cause.Load(); cause != nil {
		err = fmt.Errorf("%w: %w", err, *cause)
	}
	return err
}

// Stopped reports whether Stop was called. If not, the process has ended by itself, or was
// killed.
func (p *Process) Stopped() bool {
	select {
	case <-p.stopping:
		return true
	default:
		return false
	}
}

// Stop ends the process, and does not wait for it: its stdin is closed, after half of the
// grace its group gets SIGTERM, and after the rest SIGKILL.
func (p *Process) Stop() { p.stop() }

// kill ends the process group at once.
func (p *Process) kill(cause error) {
	p.cause.CompareAndSwap(nil, &cause)
	signalGroup(p.PID(), killSignal)
}

// Send writes a message to stdin. It waits until earlier messages are written. After an
// error the message has not been written.
func (p *Process) Send(ctx context.Context, message []byte) error {
	select {
	case p.out <- message:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-p.stopping:
		return ErrEnded
	case <-p.done:
		return ErrEnded
	}
}

// write writes messages until the process ends. A process that does not read holds it up.
func (p *Process) write() {
	w := lines.NewWriter(p.stdin)
	for {
		select {
		case message := <-p.out:
			if err := w.Write(message); err != nil && !errors.Is(err, os.ErrClosed) {
				p.o.Logger().Warn("a message could not be written to a stdio server", slog.Int("pid", p.PID()), slog.Any("error", err))
				close(p.deaf)
				<-p.over
				return
			}
		case <-p.over:
			return
		}
	}
}

// read reads stdout to its end.
func (p *Process) read() {
	r := lines.NewReader(p.stdout, p.o.MaxLine)
	for {
		line, err := r.Next()
		var tooLong *lines.TooLongError
		switch {
		case err == nil:
			p.o.Receive(line)
		case errors.As(err, &tooLong):
			p.o.TooLong(tooLong)
		default:
			if errors.Is(err, io.ErrUnexpectedEOF) {
				p.o.Logger().Warn("a stdio server ended within a line, which was dropped", slog.Int("pid", p.PID()))
			}
			return
		}
	}
}

// lastWords is how long the output of a process that has ended by itself is read.
const lastWords = time.Second

// run waits for the end of the process, and cleans up.
func (p *Process) run(read <-chan struct{}, pumps *sync.WaitGroup) {
	exited := make(chan struct{})
	go func() { defer close(exited); awaitExit(p.cmd) }()
	patience := lastWords
	select {
	case <-exited:
	case <-p.stopping:
		patience = p.end(exited)
	case <-read: // nobody would get its answers
		if !within(exited, lastWords) {
			patience = p.end(exited)
		}
	case <-p.deaf: // it would get no requests
		if !within(exited, lastWords) {
			patience = p.end(exited)
		}
	}
	// The group may have members that outlive their leader, such as the server behind
	// an npx. They hold stdout open, and get the rest of the grace.
	if p.Stopped() {
		signalGroup(p.PID(), termSignal)
	}
	within(read, patience)
	signalGroup(p.PID(), killSignal)
	<-exited
	guarded.remove(p.PID()) // before Wait gives the id away
	watched.remove(p.PID())
	_ = p.cmd.Wait() // the state is in p.cmd, whatever the error
	close(p.over)
	closeAll(p.ours())
	pumps.Wait()
	close(p.done)
}

// end asks the process to end, and returns the rest of the grace.
func (p *Process) end(exited <-chan struct{}) (left time.Duration) {
	deadline := clock.Now().Add(p.o.Grace)
	_ = p.stdin.Close()
	if within(exited, p.o.Grace/2) {
		return clock.Until(deadline)
	}
	signalGroup(p.PID(), termSignal)
	within(exited, clock.Until(deadline))
	return clock.Until(deadline)
}

// within waits for the channel to be closed, and reports whether it was closed in time.
func within(closed <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-closed:
		return true
	case <-timer.C:
		return false
	}
}
