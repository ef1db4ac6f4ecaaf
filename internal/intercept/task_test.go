package intercept

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/mcp"
)

const accepted = `{"jsonrpc":"2.0","id":7,"result":{"resultType":"task","taskId":"t","status":"working"}}`

// binder records the handles that it binds, and the bytes that had been sent when it
// bound the last of them.
type binder struct {
	wire    *wire
	bound   []string
	before  string
	refusal *gate.Refusal
}

func (b *binder) bind(o mcp.Outcome, message []byte) *gate.Refusal {
	b.bound = append(b.bound, fmt.Sprintf("%v %s", o, message))
	b.before = b.wire.Body.String()
	return b.refusal
}

// forms are the two forms of a response.
var forms = map[string]struct {
	header map[string]string
	write  func(string) string
}{
	"JSON":   {asJSON, func(message string) string { return message }},
	"events": {asEvents, event},
}

// TestHandlesAreBoundFirst checks that an accepted task and a request for input pass
// only after their owner is recorded. The call that started the task stays open for
// the result.
func TestHandlesAreBoundFirst(t *testing.T) {
	for form, f := range forms {
		for answer, want := range map[string]string{accepted: "task", asking: "input_required"} {
			t.Run(form+" "+want, func(t *testing.T) {
				b := new(binder)
				r := newRig(t, func(o *Options) { o.Bind = b.bind })
				b.wire = r.wire
				if !r.upstream(http.StatusOK, f.header, f.write(answer)) {
					t.Error("the response is not complete")
				}
				if len(b.bound) != 1 || b.bound[0] != want+" "+answer || b.before != "" {
					t.Errorf("bound %q after %q", b.bound, b.before)
				}
				if got := r.out(); got != f.write(answer) {
					t.Errorf("got %q", got)
				}
				if isTask := want == "task"; r.books.captured || r.books.suspended == 1 != isTask || r.books.released == 1 == isTask {
					t.Errorf("books %+v", r.books)
				}
			})
		}
	}
}

// TestHandlesNotBound checks that a response is withheld and costs nothing if its
// handle cannot be bound. The same holds for a task if Bind is nil.
func TestHandlesNotBound(t *testing.T) {
	for form, f := range forms {
		for answer, nobody := range map[string]bool{accepted: false, asking: false, accepted + " ": true} {
			r := newRig(t, func(o *Options) {
				if !nobody {
					o.Bind = func(mcp.Outcome, []byte) *gate.Refusal { return &gate.Refusal{Code: gate.StoreUnavailable} }
				}
			})
			r.upstream(http.StatusOK, f.header, f.write(answer))
			if got := r.out(); !strings.Contains(got, "refused ") || strings.Contains(got, `"result"`) {
				t.Errorf("%s: got %q", form, got)
			}
			r.free()
		}
	}
}

// TestStartedTask checks that the acceptance of a task carries the receipt if the
// task was charged when it started.
func TestStartedTask(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Bind = func(mcp.Outcome, []byte) *gate.Refusal { return nil } })
	r.books.started = true
	r.upstream(http.StatusOK, asJSON, accepted)
	if got := r.out(); !strings.Contains(got, `"dev.farebox/receipt":"R"`) || r.books.suspended > 0 {
		t.Errorf("got %q", got)
	}
}

// taskNote returns a notification about the status of a task.
func taskNote(id string) string {
	return `{"jsonrpc":"2.0","method":"notifications/tasks","params":{"taskId":"` + id + `"}}`
}

func ours(message []byte) bool { return string(message) == taskNote("ours") }

// TestTaskNotificationsAreFiltered checks that on every kind of stream a notification
// about a task passes only to the task's owner. All other notifications pass.
func TestTaskNotificationsAreFiltered(t *testing.T) {
	streams := []string{event(progress), event(taskNote("theirs")), event(taskNote("ours")), event(taskNote("theirs"))}
	want := event(progress) + event(taskNote("ours"))
	whole := strings.Join(streams, "")
	for size := 1; size < len(whole); size += 7 {
		w := newWire()
		l := NewListener(w, nil, nil, NewBudget(1<<20), plain{}.Event, ours, nil)
		l.Header().Set("Content-Type", "text/event-stream")
		for rest := whole; rest != ""; {
			n := min(size, len(rest))
			if _, err := l.Write([]byte(rest[:n])); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		if got := w.Body.String(); got != want {
			t.Errorf("on a listener's stream, in pieces of %d: got %q", size, got)
		}
		r := newRig(t, func(o *Options) { o.Notifies = ours })
		r.upstream(http.StatusOK, asEvents, whole[:size], whole[size:]+event(result))
		if got := r.out(); got != want+event(stamped) {
			t.Errorf("on a call's stream, in pieces of %d: got %q", size, got)
		}
	}
}

// TestLongTaskNotification checks a task notification that is too long to read. The
// notification may carry a result that another call pays for. So it does not pass,
// no matter in which order its members come. On the stream of a free call, an event
// too long to be recognised does not pass either.
func TestLongTaskNotification(t *testing.T) {
	bulk := long(4000)
	for name, note := range map[string]string{
		"the method first": `{"jsonrpc":"2.0","method":"notifications/tasks","params":{"taskId":"t","result":"` + bulk + `"}}`,
		"the method last":  `{"jsonrpc":"2.0","params":{"taskId":"t","result":"` + bulk + `"},"method":"notifications/tasks"}`,
		"of 2025-11-25":    `{"params":{"taskId":"t","result":"` + bulk + `"},"jsonrpc":"2.0","method":"notifications/tasks/status"}`,
	} {
		for _, free := range []bool{true, false} {
			r := newRig(t, func(o *Options) { o.Hold = 1000; o.Notifies = func([]byte) bool { return false } })
			if free {
				r.books.charges = map[mcp.Outcome]bool{}
			}
			r.upstream(200, asEvents, event(note), event(result))
			if strings.Contains(r.out(), note) || strings.Contains(r.out(), "\n\n") && strings.Contains(r.out(), bulk) {
				t.Errorf("%s, free %v: %d bytes are out", name, free, len(r.out()))
			}
			if r.books.captured {
				t.Errorf("%s, free %v: it was captured", name, free)
			}
		}
	}
}
