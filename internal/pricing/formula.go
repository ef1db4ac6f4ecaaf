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

// The bounds of an expression. They hold whatever the caller sends.
const (
	// maxExpression bounds its length in characters: a price fits a line.
	maxExpression = 4096
	// maxNodes bounds what it grows to when its macros are expanded.
	maxNodes = 10_000
	// maxCost bounds the work of one evaluation, in the units of CEL: one for
	// each step, and one for each ten characters of a text that is looked
	// through. It lets an expression look once through a text that fills the
	// default max_body of 4 MiB, and stops what loops over long lists.
	maxCost = 500_000
	// maxTime bounds one evaluation, because the cost of some steps, such as
	// comparing nested lists, is more than CEL counts. It is far above what
	// maxCost takes otherwise, so that a busy machine refuses nobody.
	maxTime = time.Second
	// interruptEvery is after how many turns of a loop the time is looked at:
	// often enough when each turn is slow, rare enough to cost nothing.
	interruptEvery = 32
	// maxPattern bounds the program that a regular expression becomes: the
	// text of one may come from the caller.
	maxPattern = 1000
)

var errCost = fmt.Errorf("its cost is above %d", maxCost)

// language makes formulas and conditions. Its zero value is ready to use.
type language struct {
	env        *cel.Env // of formulas
	results    *cel.Env // of conditions
	conditions map[string]*Condition
}

// bounds are what holds for every expression.
func bounds() []cel.EnvOption {
	return []cel.EnvOption{
		cel.ParserExpressionSizeLimit(maxExpression),
		cel.ExpressionNodeLimit(maxNodes),
		cel.RegexProgramSizeLimit(maxPattern),
		cel.ASTValidators(cel.ValidateRegexLiterals()),
	}
}

// evaluation is what holds whenever one is evaluated.
func evaluation() []cel.ProgramOption {
	return []cel.ProgramOption{
		cel.EvalOptions(cel.OptOptimize),
		cel.CostLimit(maxCost),
		cel.InterruptCheckFrequency(interruptEvery),
	}
}

// formula is a price by expression.
type formula struct {
	program cel.Program
	shape   *shape // of the arguments
	max     ledger.Amount
}

// compile makes a formula of an expression, or says what is wrong with it.
func (l *language) compile(expression string, most ledger.Amount) (*formula, error) {
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
	// An expression of no static type, such as args.cents, is judged by what
	// it gives.
	switch kind := ast.OutputType().Kind(); kind {
	case types.IntKind, types.UintKind, types.DynKind:
	default:
		return nil, fmt.Errorf("its expression gives %s: write micro-units as int, as in size(args.text) * 2", ast.OutputType())
	}
	program, err := l.env.Program(ast, evaluation()...)
	if err != nil {
		return nil, fmt.Errorf("its expression cannot be prepared: %w", err)
	}
	return &formula{program: program, shape: shapeOf([]*place{readsOf(ast.NativeRep().Expr())}, false), max: most}, nil
}

// price returns what the call costs. The error is a *RefusedError: a price
// that cannot be told is none.
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
			return 0, f.tooDear()
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
		return 0, f.tooDear()
	}
	return amount, nil
}

func (f *formula) tooDear() error {
	return &RefusedError{Reason: "the price of this call comes out above the most that it may be, " + f.max.String()}
}

// refusedBy tells why an evaluation failed.
func refusedBy(ctx context.Context, err error) error {
	if cause := exhausted(ctx, err); cause != nil {
		return &RefusedError{Reason: "the price of this call takes too much work to compute", Cause: cause}
	}
	return &RefusedError{Reason: "the price of this call cannot be computed from its arguments", Cause: failedBy(err)}
}

// exhausted returns which bound an evaluation has met, nil if it was none.
func exhausted(ctx context.Context, err error) error {
	var cancelled interpreter.EvalCancelledError
	if errors.As(err, &cancelled) && cancelled.Cause == interpreter.CostLimitExceeded {
		return errCost
	}
	return ctx.Err()
}

// failedBy tells why an evaluation failed that met no bound. CEL's own words may
// quote what it saw, so only what they begin with is told, if that is known.
func failedBy(err error) error {
	for _, known := range []string{
		"no such key", "no such overload", "no such attribute", "integer overflow", "unsigned integer overflow",
		"division by zero", "modulus by zero", "index out of bounds", "range error", "type conversion error",
	} {
		if strings.HasPrefix(err.Error(), known) {
			if known == "no such key" { // CEL's word for a member
				known = "it names a member that is not there"
			}
			return errors.New(known)
		}
	}
	return errors.New("evaluation failed")
}
