package pricing

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/interpreter"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// The bounds of an expression, for any arguments.
const (
	// maxExpression bounds the length of an expression, in characters.
	maxExpression = 4096
	// maxNodes bounds the number of nodes in the syntax tree of an expression, after
	// macros have been expanded.
	maxNodes = 10_000
	// maxCost bounds the work of one evaluation. CEL counts one unit per step, and one
	// per ten characters of a text that is searched. The bound allows an expression to
	// search once through a text of 4 MiB, which is the default limit of max_body, but
	// not to loop over long lists.
	maxCost = 500_000
	// maxTime bounds the time of one evaluation, because some steps, such as comparing
	// nested lists, take more time than CEL counts. This limit is far above the time
	// that an evaluation within maxCost usually takes, so that calls are not refused
	// on a busy machine.
	maxTime = time.Second
	// interruptEvery is the number of loop iterations between two checks of the time.
	// It is low enough to stop soon even if each iteration is slow, and high enough
	// that the checks cost little.
	interruptEvery = 32
	// maxPattern bounds the size of a compiled regular expression. The regular
	// expression may come from the arguments of a call.
	maxPattern = 1000
)

var errCost = fmt.Errorf("its cost is above %d", maxCost)

// language compiles formulas and conditions. The zero value is ready to use.
type language struct {
	env        *cel.Env // CEL environment of formulas
	results    *cel.Env // CEL environment of conditions
	conditions map[string]*Condition
}

// bounds returns the options with which every CEL environment is made.
func bounds() []cel.EnvOption {
	return []cel.EnvOption{
		cel.ParserExpressionSizeLimit(maxExpression),
		cel.ExpressionNodeLimit(maxNodes),
		cel.RegexProgramSizeLimit(maxPattern),
		cel.ASTValidators(cel.ValidateRegexLiterals()),
	}
}

// evaluation returns the options with which every CEL program is made.
func evaluation() []cel.ProgramOption {
	return []cel.ProgramOption{
		cel.EvalOptions(cel.OptOptimize),
		cel.CostLimit(maxCost),
		cel.InterruptCheckFrequency(interruptEvery),
	}
}

// formula is a compiled expression that computes the price of a call.
type formula struct {
	program cel.Program
	shape   *shape // the shape that the arguments must have
	max     ledger.Amount
}

// compile compiles an expression to a formula that yields prices of at most limit.
func (l *language) compile(expression string, limit ledger.Amount) (*formula, error) {
	if l.env == nil {
		env, err := cel.NewEnv(append(bounds(),
			cel.Variable("args", cel.MapType(cel.StringType, cel.DynType)),
			cel.Variable("tool", cel.StringType),
		)...)
		if err != nil {
			return nil, fmt.Errorf("setting CEL up: %w", err)
		}
		l.env = env
	}
	ast, issues := l.env.Compile(expression)
	if err := issues.Err(); err != nil {
		return nil, fmt.Errorf("its expression cannot be read: %w", err)
	}
	// An expression without a static type, such as args.cents, is checked when it
	// is evaluated.
	switch kind := ast.OutputType().Kind(); kind {
	case types.IntKind, types.UintKind, types.DynKind:
	default:
		return nil, fmt.Errorf("its expression gives %s: write micro-units as int, as in size(args.text) * 2", ast.OutputType())
	}
	program, err := l.env.Program(ast, evaluation()...)
	if err != nil {
		return nil, fmt.Errorf("its expression cannot be prepared: %w", err)
	}
	return &formula{program: program, shape: shapeOf([]*place{readsOf(ast.NativeRep().Expr())}, false), max: limit}, nil
}

// price returns the price of a call. If the price cannot be computed, the error is a
// *RefusedError, and the call must be refused.
func (f *formula) price(ctx context.Context, tool string, arguments []byte) (ledger.Amount, error) {
	args, err := readArguments(arguments, f.shape)
	if err != nil {
		return 0, &RefusedError{Reason: "the arguments cannot be priced: " + err.Error()}
	}
	ctx, cancel := context.WithTimeout(ctx, maxTime)
	defer cancel()
	out, _, err := f.program.ContextEval(ctx, map[string]any{"args": args, "tool": tool})
	if err != nil {
		return 0, refusedBy(ctx, err)
	}
	var amount ledger.Amount
	switch v := out.(type) {
	case types.Int:
		amount = ledger.Amount(v)
	case types.Uint:
		if v > types.Uint(f.max) {
			return 0, f.aboveMax()
		}
		amount = ledger.Amount(v)
	default:
		return 0, &RefusedError{
			Reason: "the price of this call does not come out as a whole number",
			Cause:  fmt.Errorf("the expression gave %s", out.Type().TypeName()),
		}
	}
	switch {
	case amount < 0:
		return 0, &RefusedError{Reason: "the price of this call comes out below zero"}
	case amount > f.max:
		return 0, f.aboveMax()
	}
	return amount, nil
}

func (f *formula) aboveMax() error {
	return &RefusedError{Reason: "the price of this call comes out above the most that it may be, " + f.max.String()}
}

// refusedBy returns a *RefusedError for a failed evaluation.
func refusedBy(ctx context.Context, err error) error {
	if cause := exhausted(ctx, err); cause != nil {
		return &RefusedError{Reason: "the price of this call takes too much work to compute", Cause: cause}
	}
	return &RefusedError{Reason: "the price of this call cannot be computed from its arguments", Cause: failedBy(err)}
}

// exhausted returns an error if the evaluation failed because it exceeded maxCost or
// maxTime, or because the caller's context ended.
func exhausted(ctx context.Context, err error) error {
	var cancelled interpreter.EvalCancelledError
	if errors.As(err, &cancelled) && cancelled.Cause == interpreter.CostLimitExceeded {
		return errCost
	}
	return ctx.Err()
}

// failedBy returns the cause of an evaluation that failed within its bounds. CEL's error
// may quote the arguments, so failedBy keeps only a known beginning of its text.
func failedBy(err error) error {
	for _, known := range []string{
		"no such key", "no such overload", "no such attribute", "integer overflow", "unsigned integer overflow",
		"division by zero", "modulus by zero", "index out of bounds", "range error", "type conversion error",
	} {
		if strings.HasPrefix(err.Error(), known) {
			if known == "no such key" { // CEL calls a member a key
				known = "it names a member that is not there"
			}
			return errors.New(known)
		}
	}
	return errors.New("evaluation failed")
}
