// Command billing is a small MCP server for invoices over streamable HTTP, for
// demonstrations and tests. It charges nothing and is independent of Farebox: a
// gateway in front of it decides which callers may call it, and at which price. The
// invoices are invented. They are kept in memory, and are the same at each start.
package main

import (
	"flag"

	"github.com/fareboxhq/farebox/examples/internal/serve"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:3002", "address to listen on")
	stateless := flag.Bool("stateless", false, "keep no sessions; also speaks the stateless protocol of 2026-07-28")
	flag.Parse()
	serve.Main("billing", *listen, serve.Handler(newServer(newBook()), *stateless))
}
