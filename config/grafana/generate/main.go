// Command generate writes Farebox's Grafana dashboards into the folder named by its
// argument. Run it by "make dashboards" after a change. The command is a module of its
// own, so that the gateway does not depend on Grafana's library.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

//go:generate go run . ../dashboards

// boards are all dashboards. The uid of each one is also the name of its file.
var boards = []board{overview, money, keys, store, nodes}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: generate FOLDER")
		os.Exit(2)
	}
	if err := write(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// write writes all dashboards into the folder.
func write(folder string) error {
	for _, b := range boards {
		text, err := b.encode()
		if err != nil {
			return fmt.Errorf("%s: %w", b.uid, err)
		}
		if err := os.WriteFile(filepath.Join(folder, b.file()), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// file returns the name of the dashboard's file.
func (b board) file() string { return b.uid + ".json" }

// encode returns the content of the dashboard's file.
func (b board) encode() ([]byte, error) {
	d, err := b.build()
	if err != nil {
		return nil, err
	}
	text, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return nil, err
	}
	return []byte(readable.Replace(string(text)) + "\n"), nil
}

// readable undoes the escapes that encoding/json makes for HTML. No text of a
// dashboard has a backslash before such a sequence.
var readable = strings.NewReplacer(`\u003c`, "<", `\u003e`, ">", `\u0026`, "&")
