package integration

// oddReasons are the reasons why clients get something else through the gateway
// than directly, by the part of the table and the name of the oddity.
var oddReasons = map[string]reason{}
