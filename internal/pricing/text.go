package pricing

import (
	"context"
	"errors"
	"fmt"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
)

// Text is an expression that makes a text from the members of a JSON object. It is
// immutable and safe for concurrent use. It has the same bounds as a price.
type Text struct {
	program  cel.Program
	variable string
}

// CompileText compiles an expression. The parameter variable is the name by which the
// expression refers to the object, such as "claims".
func CompileText(expression, variable string) (*Text, error) {
	env, err := cel.NewEnv(append(bounds(),
		cel.Variable(variable, cel.MapType(cel.StringType, cel.DynType)),
		cel.OptionalTypes(),
	)...)
	if err != nil {
		return nil, fmt.Errorf("setting CEL up: %w", err)
	}
	ast, issues := env.Compile(expression)
	if err := issues.Err(); err != nil {
		return nil, fmt.Errorf("the expression cannot be read: %w", err)
	}
	// An expression without a static type, such as claims.sub, is checked when it is
	// evaluated.
	if kind := ast.OutputType().Kind(); kind != types.StringKind && kind != types.DynKind {
		return nil, fmt.Errorf("the expression gives %s: it has to give string", ast.OutputType())
	}
	program, err := env.Program(ast, evaluation()...)
	if err != nil {
		return nil, fmt.Errorf("the expression cannot be prepared: %w", err)
	}
	return &Text{program: program, variable: variable}, nil
}

// Evaluate returns the text for an object in raw JSON. The error never quotes the object.
func (t *Text) Evaluate(ctx context.Context, object []byte) (string, error) {
	members, err := readArguments(object, nil)
	if err != nil {
		return "", fmt.Errorf("the members of the object cannot be read: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, maxTime)
	defer cancel()
	out, _, err := t.program.ContextEval(ctx, map[string]any{t.variable: members})
	if err != nil {
		if cause := exhausted(ctx, err); cause != nil {
			return "", cause
		}
		return "", failedBy(err)
	}
	text, ok := out.(types.String)
	if !ok {
		return "", errors.New("the expression gave " + out.Type().TypeName() + ", not string")
	}
	return string(text), nil
}
