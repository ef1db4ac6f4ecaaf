//go:build unix

package process

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/stdio/lines"
	"github.com/fareboxhq/farebox/internal/stdio/stdiotest"
)

// parentVariable makes the test binary a gateway that starts a process and waits for its
// own end by SIGKILL.
const parentVariable = "FAREBOX_STDIO_PARENT"

func TestMain(m *testing.M) {
	switch {
	case os.Getenv(parentVariable) != "":
		parent()
	case os.Getenv(stdiotest.Variable) != "":
		stdiotest.Main()
	default:
		goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/fareboxhq/farebox/internal/stdio/process.(*guardian).await")) // TestNothingIsLeft waits for it
	}
}

// run is a process under test, with its output.
type run struct {
	*Process
	log  *stdiotest.Log
	got  chan string
	long chan *lines.TooLongError
}

func begin(t testing.TB, modes string, change func(*Options)) *run {
	r := &run{log: new(stdiotest.Log), got: make(chan string, 1000), long: make(chan *lines.TooLongError, 10)}
	logger := slog.New(slog.NewTextHandler(r.log, nil))
	env := []string{stdiotest.Variable + "=" + modes, "TOKEN=a secret value"}
	o := Options{
		Command: []string{os.Args[0]}, Env: env, MaxLine: 1 << 20, Grace: 500 * time.Millisecond,
		Receive: func(line []byte) { r.got <- string(line) },
		TooLong: func(err *lines.TooLongError) { r.long <- err },
		Logger:  func() *slog.Logger { return logger }, Redact: Redactor(env),
	}
	if change != nil {
		change(&o)
	}
	p, err := Start(o)
	if err != nil {
		t.Fatal(err)
	}
	r.Process = p
	t.Cleanup(func() {
		p.Stop()
		<-p.Done()
		if alive(t, -p.PID()) {
			t.Error("the process group is left")
		}
		if t.Failed() {
			t.Log(r.log.String())
		}
	})
	return r
}

// listed is a process in the system's list.
type listed struct {
	pid, parent, group int
	zombie             bool
	name               string
}

func list(t testing.TB) (all []listed) {
	out, err := exec.Command("ps", "-A", "-o", "pid=,ppid=,pgid=,stat=,args=").Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		var p listed
		var state string
		if _, err := fmt.Sscan(line, &p.pid, &p.parent, &p.group, &state, &p.name); err == nil {
			p.zombie = strings.HasPrefix(state, "Z")
			all = append(all, p)
		}
	}
	return all
}

// alive reports whether a process, or one of a group with a negative id, lives.
func alive(t testing.TB, pid int) bool {
	return slices.ContainsFunc(list(t), func(p listed) bool { return !p.zombie && (p.pid == pid || p.group == -pid) })
}

// call calls a tool and returns the text of its result.
func (r *run) call(t testing.TB, tool, text string, count int) string {
	t.Helper()
	arguments, _ := json.Marshal(map[string]any{"text": text, "count": count})
	if err := r.Send(t.Context(), fmt.Appendf(nil, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":%q,"arguments":%s}}`, tool, arguments)); err != nil {
		t.Fatal(err)
	}
	select {
	case line := <-r.got:
		var m struct {
			Result struct{ Content []struct{ Text string } }
		}
		if err := json.Unmarshal([]byte(line), &m); err != nil || len(m.Result.Content) != 1 {
			t.Fatalf("%v: %s", err, line)
		}
		return m.Result.Content[0].Text
	case <-r.Done():
		t.Fatal(r.Err())
	case <-time.After(20 * time.Second):
		t.Fatal("no answer")
	}
	return ""
}

func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for deadline := clock.Now().Add(20 * time.Second); !condition(); {
		if clock.Now().After(deadline) {
			t.Fatalf("not within 20 s: %s", what)
		}
		_ = clock.Sleep(context.Background(), 5*time.Millisecond)
	}
}

// TestEnd: a process ends by the end of its stdin, or is killed after the grace, with the
// children that hold its pipes, and also if it has ended by itself.
func TestEnd(t *testing.T) {
	p := begin(t, stdiotest.Plain, func(o *Options) { o.Grace = 20 * time.Second })
	if got := p.call(t, "echo", "hello", 0); got != "hello" {
		t.Errorf("got %q", got)
	}
	p.Stop()
	<-p.Done()
	if err := p.Err(); !errors.Is(err, ErrEnded) || !strings.Contains(err.Error(), "exit status 0") {
		t.Error(err)
	}
	if err := p.Send(t.Context(), []byte("{}")); !errors.Is(err, ErrEnded) {
		t.Errorf("sent to a process that has ended: %v", err)
	}

	p = begin(t, stdiotest.Stubborn, nil)
	child, _ := strconv.Atoi(p.call(t, "fork", "", 0))
	p.Stop()
	<-p.Done()
	if !strings.Contains(p.Err().Error(), "signal: killed") || alive(t, child) {
		t.Errorf("%v; its child lives: %t", p.Err(), alive(t, child))
	}

	p = begin(t, stdiotest.Plain, nil)
	child, _ = strconv.Atoi(p.call(t, "fork", "", 0))
	if err := p.Send(t.Context(), []byte(`{"method":"tools/call","id":1,"params":{"name":"die"}}`)); err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	if p.Stopped() || !strings.Contains(p.Err().Error(), "exit status 3") {
		t.Error(p.Err())
	}
	eventually(t, "its child ends", func() bool { return !alive(t, child) })
}

// TestNothingIsLeft: the files, threads of execution and processes of many processes are
// gone after their ends. TestMain counts the goroutines.
func TestNothingIsLeft(t *testing.T) {
	before := openFiles(t)
	var all []*Process
	for i := range 40 {
		p := begin(t, []string{stdiotest.Plain, stdiotest.Stubborn}[i%2], func(o *Options) { o.Grace = 100 * time.Millisecond })
		all = append(all, p.Process)
		p.call(t, "echo", "", 0)
	}
	for _, p := range all {
		p.Stop()
	}
	for _, p := range all {
		<-p.Done()
	}
	eventually(t, "the guard ends", func() bool {
		return !slices.ContainsFunc(list(t), func(p listed) bool { return p.parent == os.Getpid() && p.name == guardName })
	})
	eventually(t, "as many open files as before", func() bool { return openFiles(t) <= before })
}

func openFiles(t *testing.T) int {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux lists a process's files")
	}
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
}

// TestStderr: stderr is logged without secrets, in bounded lines, and not in full if it is
// much. A flood holds the server up no more than a pipe does.
func TestStderr(t *testing.T) {
	p := begin(t, stdiotest.Plain, nil)
	p.call(t, "flood", "a secret value "+strings.Repeat("x", 10<<10), 2000)
	p.Stop()
	<-p.Done()
	log := p.log.String()
	if strings.Contains(log, "a secret value") || !strings.Contains(log, "[TOKEN]") || !strings.Contains(log, "left_out=") {
		t.Errorf("the log is %.2000s", log)
	}
	if n := strings.Count(log, "stderr of a stdio server"); n < burst || n > burst+20*perSecond {
		t.Errorf("%d lines were logged", n)
	}
	for line := range strings.Lines(log) {
		if len(line) > maxLogged+500 {
			t.Errorf("a line of %d bytes", len(line))
		}
	}
}

// TestLines: a line that is too long is reported, and the next ones come.
func TestLines(t *testing.T) {
	p := begin(t, stdiotest.Plain, nil)
	if err := p.Send(t.Context(), []byte(`{"method":"tools/call","id":1,"params":{"name":"huge","arguments":{"count":2000000}}}`)); err != nil {
		t.Fatal(err)
	}
	if err := <-p.long; err.Size < 2_000_000 {
		t.Error(err)
	}
	if got := p.call(t, "echo", "next", 0); got != "next" {
		t.Errorf("got %q", got)
	}
}

// TestHangs: a process that does not read holds up the sender only as long as it waits.
func TestHangs(t *testing.T) {
	p := begin(t, stdiotest.Stay, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	var err error
	for range 10 {
		if err = p.Send(ctx, bytes.Repeat([]byte("1"), 64<<10)); err != nil {
			break
		}
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

// TestMemory: a group that uses more memory than its limit is killed.
func TestMemory(t *testing.T) {
	if !canWatch {
		t.Skip("there is no limit of memory on this system")
	}
	p := begin(t, stdiotest.Plain, func(o *Options) { o.Memory = 100 << 20 })
	p.call(t, "echo", "", 0)
	if err := p.Send(t.Context(), []byte(`{"method":"tools/call","id":1,"params":{"name":"allocate","arguments":{"count":300}}}`)); err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.Done():
		if !errors.Is(p.Err(), errMemory) {
			t.Error(p.Err())
		}
	case <-time.After(20 * time.Second):
		t.Error("it lives")
	}
}

// TestEnvironment: a process gets no variable of the gateway but the few that are named.
func TestEnvironment(t *testing.T) {
	t.Setenv("SECRET_OF_THE_GATEWAY", "very secret")
	t.Setenv("PATH", os.Getenv("PATH"))
	env := Environment("HOME=/srv/home", "TOKEN=a secret value", stdiotest.Variable+"="+stdiotest.Plain)
	p := begin(t, "", func(o *Options) { o.Env = env })
	got := p.call(t, "env", "", 0)
	if strings.Contains(got, "very secret") || !strings.Contains(got, "HOME=/srv/home") || !strings.Contains(got, "PATH=") || !strings.Contains(got, "TOKEN=a secret value") {
		t.Errorf("the environment is %s", got)
	}
}

// TestUser: a process runs as the given user.
func TestUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root may change the user")
	}
	out := new(stdiotest.Log)
	p, err := Start(Options{
		Command: []string{"/bin/sh", "-c", "id -u; id -G"}, Env: Environment(), User: &User{UID: 65534, GID: 65534}, MaxLine: 100, Grace: time.Second,
		Receive: func(line []byte) { fmt.Fprintf(out, "%s ", line) }, Logger: slog.Default,
	})
	if err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	if got := out.String(); got != "65534 65534 " {
		t.Errorf("user and groups %q", got)
	}
}

// parent is a gateway that is about to be killed.
func parent() {
	p, err := Start(Options{
		Command: []string{os.Args[0]}, Env: []string{stdiotest.Variable + "=" + stdiotest.Stubborn}, MaxLine: 1 << 20, Grace: time.Minute,
		Receive: func(line []byte) { fmt.Println(string(line)) }, Logger: slog.Default,
	})
	if err != nil {
		panic(err)
	}
	fmt.Println("pid", p.PID())
	_ = p.Send(context.Background(), []byte(`{"method":"tools/call","id":1,"params":{"name":"fork"}}`))
	<-p.Done()
}

// TestGatewayIsKilled: after SIGKILL of the gateway no process of its servers is left, also
// one that ignores SIGTERM and the end of its stdin, with its children.
func TestGatewayIsKilled(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), parentVariable+"=1")
	out := new(stdiotest.Log)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "its server has a child", func() bool { return strings.Contains(out.String(), "result") })
	first, rest, _ := strings.Cut(strings.TrimPrefix(out.String(), "pid "), "\n")
	pid, _ := strconv.Atoi(first)
	if !alive(t, pid) {
		t.Fatalf("no server: %s", rest)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	eventually(t, "the group ends", func() bool { return !alive(t, -pid) })
}

// TestGuardIsReplaced: a guard that is killed is replaced, and knows the groups.
func TestGuardIsReplaced(t *testing.T) {
	p := begin(t, stdiotest.Plain, nil)
	for _, child := range list(t) {
		if child.parent == os.Getpid() && child.name == guardName {
			_ = syscall.Kill(child.pid, syscall.SIGKILL)
		}
	}
	eventually(t, "a new guard", func() bool { return strings.Contains(p.log.String(), "is replaced") })
	p.call(t, "echo", "", 0)
}

// TestGuardInput: the guard forgets groups that have ended.
func TestGuardInput(t *testing.T) {
	cmd := exec.Command("sleep", "1000")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = cmd.Wait() }()
	pid := cmd.Process.Pid
	guard(strings.NewReader(fmt.Sprintf("nonsense\n+1\n+%d\n-%d\n", pid, pid)))
	if !alive(t, pid) {
		t.Error("a group that was taken back was killed")
	}
	guard(strings.NewReader(fmt.Sprintf("+%d\n", pid)))
	<-ended
}

// TestClosedInput: a program that has closed its stdin is ended, although it lives on: it
// would get no request.
func TestClosedInput(t *testing.T) {
	r := begin(t, stdiotest.Plain, func(o *Options) {
		o.Command, o.Grace = []string{"/bin/sh", "-c", "exec <&-; exec sleep 60"}, time.Second
	})
	eventually(t, "the end of the process", func() bool {
		select {
		case <-r.Done():
			return true
		default:
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			_ = r.Send(ctx, []byte(`{}`))
			return false
		}
	})
}

// TestRedactor: a secret that begins with another one is replaced whole.
func TestRedactor(t *testing.T) {
	if got := Redactor([]string{"A=secret-1", "B=secret-1-and-more"}).Replace("x secret-1-and-more secret-1"); got != "x [B] [A]" {
		t.Errorf("got %q", got)
	}
}
