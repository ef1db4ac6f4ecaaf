// Command weather is a small MCP server over streamable HTTP, for demonstrations and
// tests. It charges nothing and is independent of Farebox: a gateway in front of it
// decides which callers may call it, and at which price. The weather is invented,
// and the same at every run.
package main

import (
	"flag"
	"time"

	"github.com/fareboxhq/farebox/examples/internal/serve"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:3001", "address to listen on")
	stateless := flag.Bool("stateless", false, "keep no sessions; also speaks the stateless protocol of 2026-07-28")
	pace := flag.Duration("pace", 300*time.Millisecond, "time between the progress notifications of watch_storm")
	flag.Parse()
	serve.Main("weather", *listen, serve.Handler(newServer(*pace), *stateless))
}
