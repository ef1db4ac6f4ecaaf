package console

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io/fs"
	"net/http"
	"path"
	"strings"
)

// kinds are the media types of the assets. The media types of package mime depend on
// the machine, and browsers do not run a script with a wrong media type.
var kinds = map[string]string{
	".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml", ".txt": "text/plain; charset=utf-8",
}

// serveAssets serves the scripts and styles. Their URLs change with each version of
// the program, so browsers may keep them.
func (c *Console) serveAssets() {
	assets, _ := fs.Sub(assetFiles, "assets") // fails only for an invalid name
	names, _ := fs.Glob(assets, "*")          // fails only for an invalid pattern
	for _, name := range names {
		content, err := fs.ReadFile(assets, name)
		if err != nil {
			continue
		}
		kind := kinds[path.Ext(name)]
		sum := sha256.Sum256(content)
		tag := `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`
		c.mux.HandleFunc("GET "+c.base+"/assets/"+name, func(w http.ResponseWriter, r *http.Request) {
			h := w.Header()
			h.Set("Content-Type", kind)
			h.Set("Cache-Control", "no-cache")
			h.Set("ETag", tag)
			if r.Header.Get("If-None-Match") == tag {
				w.WriteHeader(http.StatusNotModified)
				return
			}
			_, _ = w.Write(content) // fails only if the client has disconnected
		})
	}
}

// wantsJSON reports whether the request comes from a script that expects JSON.
func wantsJSON(r *http.Request) bool {
	return strings.HasPrefix(r.Header.Get("Accept"), "application/json")
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // fails only if the client has disconnected
}
