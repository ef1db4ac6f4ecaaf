package bridge

import (
	"bytes"
	"encoding/json"

	"github.com/fareboxhq/farebox/internal/mcp"
)

// idIn returns the id of the request that begins with these bytes, or the zero ID if they
// do not have it. A response of the client has an id of the server's, under which the
// client may wait for something else, so the method or the params must be there too.
func idIn(start []byte) mcp.ID {
	d := json.NewDecoder(bytes.NewReader(start))
	if first, err := d.Token(); err != nil || first != json.Delim('{') {
		return mcp.ID{}
	}
	var id mcp.ID
	request, ids := false, 0
	for {
		name, err := d.Token()
		if err != nil {
			break
		}
		switch name {
		case "method", "params":
			request = true
		case "result", "error":
			return mcp.ID{}
		}
		var value json.RawMessage
		if d.Decode(&value) != nil {
			break // the rest is missing
		}
		if name == "id" {
			id, ids = parseID(value), ids+1
		}
	}
	if !request || ids != 1 {
		return mcp.ID{}
	}
	return id
}
