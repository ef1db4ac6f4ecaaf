package integration

// The reasons for which a client may get another outcome through the gateway than
// directly from the server.
const (
	whyLeftOut    reason = "left out: some reader could take it for the answer, or is ended by it; [ADR 17](adr/0017-what-of-an-answer-must-be-certain.md)"
	whyAfterwards reason = "what comes after the answer is not it; [ADR 17](adr/0017-what-of-an-answer-must-be-certain.md)"
	whyNoAnswer   reason = "no answer came, and its request is told so; [ADR 17](adr/0017-what-of-an-answer-must-be-certain.md), [ADR 18](adr/0018-failures-with-an-id-are-answers.md)"
	whyForeign    reason = "an answer to another request, or in a batch; [ADR 17](adr/0017-what-of-an-answer-must-be-certain.md)"
	whyCompleted  reason = "the event is ended, so that it is read; [ADR 17](adr/0017-what-of-an-answer-must-be-certain.md)"
	whyRepaired   reason = "the byte order mark is dropped where the answer is written anew; [ADR 17](adr/0017-what-of-an-answer-must-be-certain.md)"
	whyTooDeep    reason = "more than 1024 levels; [ADR 17](adr/0017-what-of-an-answer-must-be-certain.md)"
	whyUncertain  reason = "it is not certain whose answer it is, or whether it is an error; [ADR 17](adr/0017-what-of-an-answer-must-be-certain.md)"
	whyStamped    reason = "there is a receipt in its place; [ADR 17](adr/0017-what-of-an-answer-must-be-certain.md)"
	whyNoJSON     reason = "no JSON, or a batch; [ADR 17](adr/0017-what-of-an-answer-must-be-certain.md)"
	whyListed     reason = "one item is left out, and the list goes on; [ADR 17](adr/0017-what-of-an-answer-must-be-certain.md)"
	whyRewritten  reason = "the list has other bytes, which the words of the error count; [ADR 17](adr/0017-what-of-an-answer-must-be-certain.md)"
	whyNoList     reason = "it is not certain which list it is; [ADR 17](adr/0017-what-of-an-answer-must-be-certain.md)"
	whyNamed      reason = "a name that cannot be seen or is too long; [ADR 20](adr/0020-a-tool-may-have-any-name.md)"
	whyDecoded    reason = "decoded; [ADR 19](adr/0019-redirects-are-followed-once-and-encodings-undone.md)"
	whyUndecoded  reason = "an encoding that cannot be undone, or not within bounds; [ADR 19](adr/0019-redirects-are-followed-once-and-encodings-undone.md)"
	whyUntyped    reason = "no answer of MCP by its status and type; [ADR 17](adr/0017-what-of-an-answer-must-be-certain.md), [ADR 18](adr/0018-failures-with-an-id-are-answers.md)"
	whyBroken     reason = "a failure is an answer; [ADR 18](adr/0018-failures-with-an-id-are-answers.md)"
	whyLate       reason = "the time of a call is bounded by `max_call`; [ADR 18](adr/0018-failures-with-an-id-are-answers.md)"
	whyFollowed   reason = "followed; [ADR 19](adr/0019-redirects-are-followed-once-and-encodings-undone.md)"
	whyUnfollowed reason = "not followed, and no address is shown; [ADR 19](adr/0019-redirects-are-followed-once-and-encodings-undone.md)"
	whyUnasked    reason = "a notification has no answer; [ADR 21](adr/0021-keys-in-one-header-and-notifications-that-pass.md)"
	whyInside     reason = "addresses of the inside are not shown; [ADR 19](adr/0019-redirects-are-followed-once-and-encodings-undone.md)"
)

// oddReasons maps an oddity to the reason for its different outcomes. An oddity is
// written as the title of its group, a colon and its name.
var oddReasons = map[string]reason{
	"Event streams: `event: done` with the answer's id in its data":                      whyLeftOut,
	"Event streams: `event: partial` with a response to the request in its data":         whyLeftOut,
	"Event streams: a message that is no JSON before it":                                 whyLeftOut,
	"Event streams: `[DONE]` after it":                                                   whyLeftOut,
	"Event streams: notifications in an array":                                           whyLeftOut,
	"Event streams: a second answer":                                                     whyAfterwards,
	"Event streams: an error after the answer":                                           whyAfterwards,
	"Event streams: `event: error` and no answer":                                        whyNoAnswer,
	"Event streams: the answer in an event of another type":                              whyNoAnswer,
	"Event streams: no answer":                                                           whyNoAnswer,
	"Event streams: nothing":                                                             whyNoAnswer,
	"Event streams: the answer to another request before it":                             whyForeign,
	"Event streams: the answer in an array":                                              whyForeign,
	"Event streams: a notification and the answer in an array":                           whyForeign,
	"Event streams: no blank line after the answer":                                      whyCompleted,
	"Event streams: no end of line after the answer":                                     whyCompleted,
	"Event streams: a stream that stays open after the answer":                           whyLate,
	"Answers: a byte order mark":                                                         whyRepaired,
	"Answers: structured content that nests 2,000 deep":                                  whyTooDeep,
	"Answers: `error: null` beside the result":                                           whyUncertain,
	"Answers: `result: null` beside an error":                                            whyUncertain,
	"Answers: a result and an error":                                                     whyUncertain,
	"Answers: a method beside the result":                                                whyUncertain,
	"Answers: no version":                                                                whyUncertain,
	"Answers: version 1.0":                                                               whyUncertain,
	"Answers: the id as text":                                                            whyUncertain,
	"Answers: the id with a fraction":                                                    whyUncertain,
	"Answers: another id":                                                                whyUncertain,
	"Answers: null for the id":                                                           whyUncertain,
	"Answers: no id":                                                                     whyUncertain,
	"Answers: the id twice":                                                              whyUncertain,
	"Answers: the id in capitals beside another":                                         whyUncertain,
	"Answers: two results":                                                               whyUncertain,
	"Answers: a result in capitals beside":                                               whyUncertain,
	"Answers: `isError` twice":                                                           whyUncertain,
	"Answers: text for `isError`":                                                        whyUncertain,
	"Answers: null for `isError`":                                                        whyUncertain,
	"Answers: an unknown `resultType`":                                                   whyUncertain,
	"Answers: an array for the result":                                                   whyUncertain,
	"Answers: null for the result":                                                       whyUncertain,
	"Answers: text for an error":                                                         whyUncertain,
	"Answers: null for `_meta`":                                                          whyStamped,
	"Answers: a raw tab in text":                                                         whyNoJSON,
	"Answers: NaN":                                                                       whyNoJSON,
	"Answers: a comma too many":                                                          whyNoJSON,
	"Answers: something after it":                                                        whyNoJSON,
	"Answers: two answers":                                                               whyNoJSON,
	"Answers: an array with it":                                                          whyNoJSON,
	"Answers: an answer that is cut":                                                     whyNoJSON,
	"Lists: a tool without a name":                                                       whyListed,
	"Lists: a number for a name":                                                         whyListed,
	"Lists: text for a tool":                                                             whyListed,
	"Lists: null for a tool":                                                             whyListed,
	"Lists: two names":                                                                   whyListed,
	"Lists: a name in capitals beside":                                                   whyListed,
	"Lists: null for `_meta`":                                                            whyListed,
	"Lists: a name with a line break":                                                    whyNamed,
	"Lists: a name with a NUL":                                                           whyNamed,
	"Lists: a name of 257 letters":                                                       whyNamed,
	"Lists: an empty name":                                                               whyNamed,
	"Lists: a byte order mark":                                                           whyRepaired,
	"Lists: a number for the next cursor":                                                whyRewritten,
	"Lists: text for `_meta` of the list":                                                whyRewritten,
	"Lists: an object for the tools":                                                     whyNoList,
	"Lists: `tools` twice":                                                               whyNoList,
	"Encodings that nobody asked for: x-gzip":                                            whyDecoded,
	"Encodings that nobody asked for: deflate":                                           whyDecoded,
	"Encodings that nobody asked for: deflate without zlib's head":                       whyDecoded,
	"Encodings that nobody asked for: br":                                                whyDecoded,
	"Encodings that nobody asked for: zstd":                                              whyDecoded,
	"Encodings that nobody asked for: two, one in the other":                             whyUndecoded,
	"Encodings that nobody asked for: an unknown one":                                    whyUndecoded,
	"Encodings that nobody asked for: gzip that is none":                                 whyUndecoded,
	"Encodings that nobody asked for: gzip that is cut":                                  whyUndecoded,
	"Encodings that nobody asked for: gzip that is said to be none":                      whyUndecoded,
	"Encodings that nobody asked for: 2 MiB in 2 KiB":                                    whyUndecoded,
	"Names of tools: 300 letters":                                                        whyNamed,
	"Names of tools: a line break":                                                       whyNamed,
	"Names of tools: a NUL":                                                              whyNamed,
	"Names of tools: a line break of Unicode":                                            whyNamed,
	"Statuses and connections: 200 as text":                                              whyUntyped,
	"Statuses and connections: 200 as HTML":                                              whyUntyped,
	"Statuses and connections: 200 without a type":                                       whyUntyped,
	"Statuses and connections: 200 without a body":                                       whyUntyped,
	"Statuses and connections: 200 in JSON by another name":                              whyUntyped,
	"Statuses and connections: 200 in JSON, UTF-16":                                      whyUntyped,
	"Statuses and connections: 202 without a body":                                       whyUntyped,
	"Statuses and connections: 204":                                                      whyUntyped,
	"Statuses and connections: 201 with an answer":                                       whyUntyped,
	"Statuses and connections: 500 with an answer":                                       whyUntyped,
	"Statuses and connections: the connection ends before the head":                      whyBroken,
	"Statuses and connections: the head is cut":                                          whyBroken,
	"Statuses and connections: the body is cut":                                          whyBroken,
	"Statuses and connections: the stream breaks off after a notification":               whyBroken,
	"Statuses and connections: nothing comes":                                            whyLate,
	"Redirects: 307 to the same path with a slash":                                       whyFollowed,
	"Redirects: 308 to the same path with a slash":                                       whyFollowed,
	"Redirects: 307 to the same host by its name":                                        whyFollowed,
	"Redirects: 307 to another host":                                                     whyUnfollowed,
	"Redirects: 307 to another scheme":                                                   whyUnfollowed,
	"Redirects: 307 to itself":                                                           whyUnfollowed,
	"Redirects: 307 without a place":                                                     whyUnfollowed,
	"Redirects: 301 to the same path with a slash":                                       whyUnfollowed,
	"Redirects: 302 to the same path with a slash":                                       whyUnfollowed,
	"Redirects: 303 to the same path with a slash":                                       whyUnfollowed,
	"Redirects: 200 with a `Location` of the server's own address":                       whyInside,
	"Redirects: 200 with a `Content-Location` of the server's own address":               whyInside,
	"Redirects: 200 with a `Link` to the server's own address":                           whyInside,
	"Redirects: 500 with a `Location` of the server's own address":                       whyInside,
	"Notifications of others, and other pages: 200 with JSON to it":                      whyUnasked,
	"Notifications of others, and other pages: the connection ends before a head for it": whyBroken,
}
