// Package mcp recognises the messages of the Model Context Protocol for a
// gateway that charges for them.
//
// If a gateway reads a message differently from the server behind it, a client can make
// the gateway charge for one tool while the server runs another tool. So a request is
// either canonical or refused. Decode accepts no duplicate keys, and no keys that
// differ from a reserved one only in case or in invisible characters. It accepts no
// batches, no byte order mark and no text after the message. An accepted message has
// one meaning, and the caller forwards exactly the bytes that Decode has read.
//
// A server's messages are classified as they pass. A Scanner reads one JSON message in
// pieces. At the end of the message, the Scanner decides whether the message is the
// response to the pending request. An EventScanner does the same for each event of a
// server-sent event stream. Both use bounded memory, however long the message is. A
// message that they cannot read strictly is ClassMalformed, never a response.
//
// AddMeta adds fields to the _meta of a result. RewriteList removes items from a list
// and adds fields to the items that stay. All other bytes of the response stay
// unchanged.
//
// Decode, the scanners, AddMeta and RewriteList share one lexer, so that they cannot
// disagree about JSON syntax. The package does no I/O and imports only the standard
// library. Its functions are safe for concurrent use. A Scanner or an EventScanner
// must be used by one goroutine at a time.
package mcp
