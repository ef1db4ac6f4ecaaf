// Package mcp recognises the messages of the Model Context Protocol for a
// gateway that charges for them.
//
// A gateway that reads a message differently from the server behind it can be
// made to charge for one tool while another runs. So a request is canonical or
// refused: Decode takes no duplicate keys, no keys that differ from a reserved
// one only in case or in characters that cannot be seen, no batches, no byte
// order mark and nothing after the message. What it accepts has one meaning,
// and the caller forwards the very bytes that were judged.
//
// Answers are judged as they pass. A Scanner reads one JSON message in pieces
// and says at its end whether it is the answer to the pending request; an
// EventScanner does the same for each event of a server-sent event stream.
// Both hold a bounded amount of memory however long the message is. Whatever
// they cannot read strictly is ClassMalformed, never an answer.
//
// AddMeta puts fields into the _meta of a result, and RewriteList takes items
// from a list and puts fields into those that stay. All else in the answer
// stays as it was, byte for byte.
//
// One lexer serves Decode, the scanners, AddMeta and RewriteList, so that they
// cannot disagree about what JSON is. The package does no I/O and imports only
// the standard library. Its functions may be used by many goroutines at once; a
// Scanner or an EventScanner belongs to one goroutine at a time.
package mcp
