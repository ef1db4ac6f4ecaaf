package pricing

import (
	"context"
	"errors"
	"fmt"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
)

// maxResult bounds the size of a result that a condition is evaluated for, in bytes of
// JSON.
const maxResult = 1 << 20

var errLongResult = fmt.Errorf("the result has more than %d bytes", maxResult)

// Condition decides whether a result is charged. It is immutable and safe for concurrent
// use.
type Condition struct{ program cel.Program }

// condition compiles a condition, or returns the one already compiled for the same
// expression. It returns nil for an empty expression.
func (l *language) condition(expression string) (*Condition, error) {
	if expression == "" {
		return nil, nil
	}
	if known := l.conditions[expression]; known != nil {
		return known, nil
	}
	if l.results == nil {
		env, err := cel.NewEnv(append(bounds(),
			cel.Variable("result", cel.MapType(cel.StringType, cel.DynType)),
			cel.Variable("tool", cel.StringType),
			cel.OptionalTypes(),
		)...)
		if err != nil {
			return nil, fmt.Errorf("setting CEL up: %w", err)
		}
		l.results, l.conditions = env, make(map[string]*Condition)
	}
	ast, issues := l.results.Compile(expression)
	if err := issues.Err(); err != nil {
		return nil, fmt.Errorf("charge_if: its expression cannot be read: %w", err)
	}
	// An expression without a static type, such as result.structuredContent.ok, is
	// checked when it is evaluated.
	if kind := ast.OutputType().Kind(); kind != types.BoolKind && kind != types.DynKind {
		return nil, fmt.Errorf("charge_if: its expression gives %s: it has to give bool, true for a result that is charged", ast.OutputType())
	}
	program, err := l.results.Program(ast, evaluation()...)
	if err != nil {
		return nil, fmt.Errorf("charge_if: its expression cannot be prepared: %w", err)
	}
	l.conditions[expression] = &Condition{program}
	return l.conditions[expression], nil
}

// Holds reports whether a call of the tool with this result, a raw JSON object, is
// charged. If Holds cannot decide, it returns an error, which never quotes the result.
func (c *Condition) Holds(ctx context.Context, tool string, result []byte) (bool, error) {
	if len(result) > maxResult {
		return false, errLongResult
	}
	members, err := readArguments(result, nil)
	if err != nil {
		return false, fmt.Errorf("the members of the result cannot be read: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, maxTime)
	defer cancel()
	out, _, err := c.program.ContextEval(ctx, map[string]any{"result": members, "tool": tool})
	if err != nil {
		if cause := exhausted(ctx, err); cause != nil {
			return false, cause
		}
		return false, failedBy(err)
	}
	charged, ok := out.(types.Bool)
	if !ok {
		return false, errors.New("the expression gave " + out.Type().TypeName() + ", not bool")
	}
	return bool(charged), nil
}
