// Package ops is the table of the operations that an operator can perform. Each
// operation has a single declaration. The declaration gives the operation's id, method
// and path, the right that the caller needs, the input and output, and a function that
// performs the operation. A Mount serves operations over HTTP. The admin endpoint and
// the API are two mounts of the same table. The OpenAPI document and the commands are
// derived from the table as well.
//
// To add an operation, declare it in the file for its noun. Then add it to the list
// at the top of that file.
package ops

import (
	"context"
	"errors"
	"net/http"
	"reflect"

	"github.com/fareboxhq/farebox/internal/identity"
	"github.com/fareboxhq/farebox/internal/wire"
)

// Operation describes an operation. It does not depend on the types of the input and
// the output.
type Operation struct {
	ID          string // noun and verb, such as "key.delete"; also the action in the audit log
	Method      string
	Path        string         // path below the base of the mount
	Needs       identity.Right // the right that the principal must have
	Summary     string         // one line for the documentation
	Description string         // further sentences; may be empty
	Tag         string         // section of the documentation
	Command     string         // the command and its arguments, such as "key delete <key-id>"; "" means no command
	Audited     bool           // the operation writes an audit row in the transaction of its change
	Status      int            // HTTP status of a success; 0 means 200, or 204 without output
	MaxBody     int64          // largest body in bytes; 0 means SmallBody, or no body if the input has none
	Problems    []wire.Code    // codes of problems beside those that every operation has
	Credential  string         // word for the credential in refusals; "" means the mount's word
	Content     string         // media type of a streamed response; "" means JSON

	// In is a struct. Its fields with the tags path, query or header are parameters.
	// Its field Body, if it has one, is the JSON of the request. Out is the JSON of the
	// response, or None if the response is empty.
	In, Out reflect.Type
}

// SmallBody is the usual bound on request bodies, in bytes.
const SmallBody = 64 << 10

// None is the type of the input or output of an operation without one.
type None struct{}

// Op is an operation on a value of type E, such as *admin.Service.
type Op[E any] struct {
	Operation
	register func(*Mount, Open[E])
}

// Open returns the value of type E on which a request operates, and a function that
// releases the value after the request.
type Open[E any] func() (E, func(), error)

// Always returns an Open that returns e every time.
func Always[E any](e E) Open[E] { return func() (E, func(), error) { return e, func() {}, nil } }

// Define returns an operation that is performed by calls of do. The error of a call may
// be a *wire.Problem, an *admin.Error, or an error of package ledger.
func Define[E, I, O any](o Operation, do func(ctx context.Context, e E, by *identity.Principal, in *I) (O, error)) Op[E] {
	o = complete[I, O](o)
	return Op[E]{o, func(m *Mount, open Open[E]) {
		perform := func(ctx context.Context, in *I) (out O, err error) {
			e, release, err := open()
			if err == nil {
				defer release()
				out, err = do(ctx, e, &VisitOf(ctx).By, in)
			}
			if err != nil {
				return out, m.problem(ctx, o.ID, err)
			}
			m.done(ctx)
			return out, nil
		}
		if o.Out == reflect.TypeFor[None]() {
			handle(m, &o, func(ctx context.Context, in *I) (*None, error) {
				_, err := perform(ctx, in)
				return nil, err
			})
			return
		}
		handle(m, &o, func(ctx context.Context, in *I) (*content[O], error) {
			out, err := perform(ctx, in)
			if err != nil {
				return nil, err
			}
			return &content[O]{out}, nil
		})
	}}
}

// DefineRaw returns an operation that is performed by calls of do. A call writes the
// response itself. A call that returns an error other than errReported must not have
// written anything.
func DefineRaw[E, I, O any](o Operation, do func(ctx context.Context, e E, by *identity.Principal, in *I, x *Exchange) error) Op[E] {
	o = complete[I, O](o)
	return Op[E]{o, func(m *Mount, open Open[E]) {
		handle(m, &o, func(_ context.Context, in *I) (*rawContent, error) {
			return &rawContent{rawBody(func(w http.ResponseWriter, r *http.Request) {
				ctx := r.Context()
				e, release, err := open()
				if err == nil {
					defer release()
					err = do(ctx, e, &VisitOf(ctx).By, in, &Exchange{W: w, R: r, mount: m, op: &o})
				}
				switch {
				case err == nil:
					m.done(ctx)
				case !errors.Is(err, errReported):
					m.refuse(w, m.problem(ctx, o.ID, err))
				}
			})}, nil
		})
	}}
}

// Exchange is the request and the response of an operation that DefineRaw has made.
type Exchange struct {
	W     http.ResponseWriter
	R     *http.Request
	mount *Mount
	op    *Operation
}

// errReported means that the operation has already reported its error in the response,
// or could not report it any more.
var errReported = errors.New("reported")

func complete[I, O any](o Operation) Operation {
	o.In, o.Out = reflect.TypeFor[I](), reflect.TypeFor[O]()
	if _, ok := o.In.FieldByName("Body"); ok && o.MaxBody == 0 {
		o.MaxBody = SmallBody
	}
	return o
}

// Register adds the operations to the mount.
func Register[E any](m *Mount, open Open[E], table []Op[E]) {
	for _, op := range table {
		op.register(m, open)
	}
}

// ForKeys returns the operations that at least one kind of stored key has the right
// to perform.
func ForKeys[E any](table []Op[E]) (served []Op[E]) {
	for _, op := range table {
		if len(identity.KindsWith(op.Needs)) > 0 {
			served = append(served, op)
		}
	}
	return served
}

// Describe returns the descriptions of the operations.
func Describe[E any](table []Op[E]) []Operation {
	all := make([]Operation, len(table))
	for i := range table {
		all[i] = table[i].Operation
	}
	return all
}
