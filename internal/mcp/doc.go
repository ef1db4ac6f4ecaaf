// Package mcp recognises the messages of the Model Context Protocol for a
// gateway that charges for them.
//
// A gateway that reads a message differently from the server behind it can be made to
// charge for one tool while another runs. So a request is canonical or refused:
// Decode takes no duplicate keys, no keys that differ from a reserved one only in
// case or in invisible characters, no batches, no byte order mark and no text after
// the message. An accepted message has one meaning, and the caller forwards exactly
// the bytes that were judged.
//
// A server's messages are judged as they pass. A Scanner reads one JSON message in
// pieces and decides at its end whether it is the response to the pending request; an
// EventScanner does the same for each event of a server-sent event stream. Both use
// bounded memory however long the message is. A message that they cannot read
// strictly is ClassMalformed, never a response.
//
// AddMeta adds fields to the _meta of a result. RewriteList removes items from a list
// and adds fields to the others. All other bytes of the response stay unchanged.
//
// One lexer serves Decode, the scanners, AddMeta and RewriteList, so that they cannot
// disagree about JSON syntax. The package does no I/O and imports only the standard
// library. Its functions may be used by many goroutines at once; a Scanner or an
// EventScanner belongs to one goroutine at a time.
package mcp
