module github.com/fareboxhq/farebox/scripts/lint

go 1.26.8

require (
	codeberg.org/polyfloyd/go-errorlint v1.9.1
	github.com/nishanths/exhaustive v0.17.1
	github.com/timakin/bodyclose v0.0.0-20260723120731-857993a2939c
	go-simpler.org/sloglint v0.12.0
	golang.org/x/tools v0.52.0
)

require (
	github.com/ettle/strcase v0.2.0 // indirect
	github.com/gostaticanalysis/analysisutil v0.7.1 // indirect
	github.com/gostaticanalysis/comment v1.5.0 // indirect
	golang.org/x/mod v0.42.0 // indirect
	golang.org/x/sync v0.24.0 // indirect
	golang.org/x/text v0.3.6 // indirect
	golang.org/x/tools/go/packages/packagestest v0.1.1-deprecated // indirect
)
