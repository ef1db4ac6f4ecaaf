// Command lint runs analyzers that go vet and staticcheck lack. Its arguments name the
// packages to analyze. The analyzers have four kinds of findings: a comparison of
// errors without errors.Is, a marked switch that lacks a constant, a response body that
// stays open, and a call of log/slog with mixed or odd arguments. "lint types" only
// checks types.
package main

import (
	"os"
	"strings"

	"codeberg.org/polyfloyd/go-errorlint/errorlint"
	"github.com/nishanths/exhaustive/passes/exhaustive"
	"github.com/timakin/bodyclose/passes/bodyclose"
	"go-simpler.org/sloglint"
	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/analysis/multichecker"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "types" {
		os.Exit(checkTypes(os.Args[2:]))
	}
	// A switch that decides about money or access is marked with
	// //exhaustive:enforce, and must have a case for each constant.
	for flag, value := range map[string]string{"e": "true", "check": "switch,mapliteral"} {
		if err := exhaustive.Analyzer.Flags.Set(flag, value); err != nil {
			panic(err)
		}
	}
	// The analyzer "contextcheck" is not in the list, because it would only find
	// contexts that are detached on purpose: a settlement must continue after its
	// client has disconnected.
	multichecker.Main(
		errorlint.NewAnalyzer(errorlint.WithComparison(true), errorlint.WithAsserts(true)),
		exhaustive.Analyzer,
		outsideTests(bodyclose.Analyzer),
		sloglint.New(nil),
	)
}

// outsideTests returns an analyzer that is like the given one, but reports no findings
// in test files. In a test, a response body may stay open, because closing the test's
// server also closes its connections.
func outsideTests(a *analysis.Analyzer) *analysis.Analyzer {
	inner := *a
	inner.Run = func(pass *analysis.Pass) (any, error) {
		narrowed := *pass
		narrowed.Report = func(d analysis.Diagnostic) {
			if !strings.HasSuffix(pass.Fset.File(d.Pos).Name(), "_test.go") {
				pass.Report(d)
			}
		}
		return a.Run(&narrowed)
	}
	return &inner
}
