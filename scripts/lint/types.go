package main

import (
	"fmt"
	"os"

	"golang.org/x/tools/go/packages"
)

// checkTypes type-checks the packages that match the patterns, with their tests and
// dependencies, for the system in GOOS. It returns the exit status. Unlike go vet, it
// does not compile dependencies for that system, so it is much faster with an empty
// cache.
func checkTypes(patterns []string) int {
	found, err := packages.Load(&packages.Config{
		Mode: packages.NeedName | packages.NeedFiles | packages.NeedCompiledGoFiles | packages.NeedImports |
			packages.NeedDeps | packages.NeedTypes | packages.NeedSyntax | packages.NeedTypesInfo | packages.NeedModule,
		Tests: true,
	}, patterns...)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if len(found) == 0 {
		fmt.Fprintln(os.Stderr, "no packages match", patterns)
		return 1
	}
	if packages.PrintErrors(found) > 0 {
		return 1
	}
	return 0
}
